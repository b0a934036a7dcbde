"""One mesh, several processes: the first decides, the others do the same.

A program on a mesh runs only if every process that holds a part of it starts it, and in the same
order. So the process of the mesh's first device tells the others each step before it takes it:
which prompts are read, which branches go on and for how long. What they are told travels as all
else does, as an array on the mesh, so nothing can overtake it.
"""

from __future__ import annotations

import pickle
from functools import partial
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from critic_jax.errors import InputError, WorkError
from critic_jax.sampling.completion import Completion
from critic_jax.sampling.prefill import prefill

if TYPE_CHECKING:
    from critic_jax.sampling.engine import Engine

AT_ONCE = 2**17
"""Bytes that are sent at once; what is longer follows in a second array."""

_LENGTH = 8
"""Bytes that say how long a message is."""


class Channel:
    """What the processes of a mesh are told; within one process nothing is.

    leads: this process is the one that tells.
    """

    def __init__(self, mesh: Mesh | None) -> None:
        devices = [] if mesh is None else list(mesh.devices.flat)
        self.mesh = mesh
        self.alone = len({device.process_index for device in devices}) < 2
        self.leads = self.alone or devices[0].process_index == jax.process_index()

    def tell(self, *message: Any) -> None:
        """Tell the others; they must be listening."""
        if self.alone:
            return
        content = pickle.dumps(message)
        framed = len(content).to_bytes(_LENGTH, "little") + content
        self._pass(framed[:AT_ONCE], AT_ONCE)
        if rest := framed[AT_ONCE:]:
            self._pass(rest, _padded(len(rest)))

    def hear(self) -> tuple[Any, ...]:
        """What is told next."""
        framed = self._pass(b"", AT_ONCE)
        length = int.from_bytes(framed[:_LENGTH], "little")
        content = framed[_LENGTH : _LENGTH + length]
        if (missing := length - len(content)) > 0:
            content += self._pass(b"", _padded(missing))[:missing]
        message: tuple[Any, ...] = pickle.loads(content)
        return message

    def _pass(self, content: bytes, size: int) -> bytes:
        """From the mesh's first device to all."""
        assert self.mesh is not None
        held = np.zeros((1, size), np.uint8)
        held[0, : len(content)] = np.frombuffer(content, np.uint8)
        none = np.zeros_like(held)
        rows = NamedSharding(self.mesh, PartitionSpec(self.mesh.axis_names))
        each = jax.make_array_from_callback(
            (self.mesh.size, size), rows, lambda index: none if index and index[0].start else held
        )
        whole = NamedSharding(self.mesh, PartitionSpec())
        return np.asarray(_sum(each, whole)).tobytes()


@partial(jax.jit, static_argnums=1)
def _sum(rows: jax.Array, sharding: NamedSharding) -> jax.Array:
    # Only the first is not zero.
    return jax.lax.with_sharding_constraint(jnp.sum(rows, axis=0, dtype=jnp.uint8), sharding)


def _padded(size: int) -> int:
    """The next power of two: few programs."""
    return 1 << (size - 1).bit_length()


def follow(engine: Engine) -> list[list[Completion]]:
    """Do what the first process does in one call of the engine; its answers.

    Raises what the first process raised: InputError as such, all else as WorkError.
    """
    while True:
        what, *given = engine.channel.hear()
        if what == "begin":
            (shape,) = given
            cache = engine.take_cache(shape)
        elif what == "read":
            row, first, begun = given
            _, pool = prefill(engine.graphs, engine.weights, cache.pool, row, first, begun)
            cache = cache._replace(pool=pool)
        elif what == "go on":
            _, cache = engine.go_on(cache, *given)
        elif what == "failed":
            wrong_input, said = given
            raise InputError(said) if wrong_input else WorkError(f"the first process: {said}")
        elif given[0]:
            engine.keep_cache(shape, cache)
            answers: list[list[Completion]] = given[0]
            return answers
        else:
            return []
