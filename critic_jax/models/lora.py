"""Low-rank adapters (LoRA, Hu et al. 2021, arXiv 2106.09685), stacked like the layers they are on.

Parameters of our own: qwix's LoRA does not work on layers that are scanned.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase

import jax
import jax.numpy as jnp
from flax import nnx

from critic_jax.models.layers import Axes, Linear, param

# What can have an adapter, as "part.layer".
ADAPTABLE = (
    *(f"decoder.{name}" for name in ("q", "k", "v", "o", "gate", "up", "down")),
    *(f"tower.{name}" for name in ("q", "k", "v", "o", "fc1", "fc2")),
    *(f"projector.{name}" for name in ("fc1", "fc2")),
)


@dataclass(frozen=True)
class Lora:
    """Adapters of one rank on all layers that fit a pattern of `layers`, such as "decoder.*"."""

    rank: int
    alpha: float
    layers: tuple[str, ...] = ("decoder.*",)

    def names(self) -> list[str]:
        """The names, out of ADAPTABLE, of what has an adapter."""
        return [n for n in ADAPTABLE if any(fnmatchcase(n, pattern) for pattern in self.layers)]

    def adapts(self, path: tuple[str, ...]) -> bool:
        """Whether the linear layer at a path of the parameters has an adapter."""
        return _name(path) in self.names()

    @property
    def scale(self) -> float:
        """What the adapters' product is multiplied by."""
        return self.alpha / self.rank


def _name(path: tuple[str, ...]) -> str:
    return ".".join(name for name in path if name != "layers")


class Adapter(nnx.Module):
    """x @ a @ b * scale over the last `contracted` dimensions of x; computes in x's dtype.

    Of a kernel [L, in..., out...], a is [L, in..., rank] and b [L, rank, out...]; L only where
    layers are stacked. b starts at zero: the model is then what it was.
    """

    def __init__(self, linear: Linear, lora: Lora, rngs: nnx.Rngs) -> None:
        shape = linear.kernel.shape
        axes: Axes = linear.kernel.get_metadata()["out_sharding"]
        lead = int(axes[0] == "layers")
        inputs = lead + linear.contracted
        start = jax.random.normal(rngs.params(), (*shape[:inputs], lora.rank))
        start /= math.sqrt(math.prod(shape[lead:inputs]))
        self.a = param(start, (*axes[:inputs], "rank"))
        zeros = jnp.zeros((*shape[:lead], lora.rank, *shape[inputs:]))
        self.b = param(zeros, (*axes[:lead], "rank", *axes[inputs:]))
        self.contracted = linear.contracted
        self.scale = lora.scale

    def __call__(self, x: jax.Array) -> jax.Array:
        low = jnp.tensordot(x, self.a[...].astype(x.dtype), axes=self.contracted)
        return jnp.tensordot(low, self.b[...].astype(x.dtype), axes=1) * self.scale


def add_adapters(model: nnx.Module, lora: Lora, rngs: nnx.Rngs) -> None:
    """Give every linear layer that `lora` names an adapter of its own."""
    for path, linear in sorted(_linears(model)):
        if lora.adapts(path):
            linear.adapter = nnx.data(Adapter(linear, lora, rngs))


def _linears(model: nnx.Module) -> Iterator[tuple[tuple[str, ...], Linear]]:
    for path, node in nnx.iter_graph(model):
        if isinstance(node, Linear):
            yield tuple(map(str, path)), node
