"""A step as the compiler is given it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax


@dataclass(frozen=True)
class Program:
    """A jitted function and what it is compiled for.

    arguments: trees of `jax.ShapeDtypeStruct` with shardings, as the run calls it.
    tokens: those that it works on: slots of all its rows together, or branches.
    """

    function: Any
    arguments: tuple[Any, ...]
    tokens: int

    @property
    def devices(self) -> int:
        """How many run it together."""
        size: int = jax.tree.leaves(self.arguments)[0].sharding.mesh.size
        return size
