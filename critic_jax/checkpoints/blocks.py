"""How a checkpoint is cut into pieces: what is moved at once, and what is stored together.

A block is one tensor, or part of one that is large: the unit of converting and exporting, and one
stored object. A chunk is the smallest piece that can be read: blocks consist of chunks, cut along
the axes that a mesh may split, so that each device reads little more than its own slice.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from typing import Any, TypeVar

from flax import nnx

from critic_jax.checkpoints.weights import Weight, weights
from critic_jax.models.build import abstract
from critic_jax.models.config import ModelConfig
from critic_jax.sharding import RULES

# Bytes: a block may have at most so many, and chunks are not cut smaller than this.
BLOCK = 128 * 2**20
CHUNK = 128 * 2**10
# Elements of the last axis that stay together: shorter runs are slow to copy.
RUN = 128
# How many ways a mesh may split an axis: 64 for fsdp, 8 (the KV heads of 72B) for tensor.
_WAYS = {"fsdp": 64, "tensor": 8}

Shape = tuple[int, ...]
T = TypeVar("T")


@dataclass(frozen=True)
class Param:
    """A parameter: where it is from, its whole shape, and its logical axes."""

    weight: Weight
    shape: Shape
    axes: tuple[str | None, ...]

    @property
    def each(self) -> Shape:
        """The shape of one layer, or of all where there are no layers."""
        return self.weight.each(self.shape)

    def chunks(self, itemsize: int) -> tuple[Shape, Shape]:
        """Shapes of a stored block and of a chunk in it, over the whole parameter's axes."""
        each, split = self.each, self.weight.split
        meshed = [RULES.get(a) if a else None for a in self.axes[len(self.axes) - len(each) :]]
        chunk = list(each)
        for mesh_axis, ways in _WAYS.items():
            for axis, size in enumerate(each):
                while (
                    meshed[axis] == mesh_axis
                    and size // chunk[axis] < ways
                    and chunk[axis] % 2 == 0
                    and (axis < len(each) - 1 or chunk[axis] >= 2 * RUN)
                    and math.prod(chunk) * itemsize > CHUNK
                ):
                    chunk[axis] //= 2
        slab = math.prod(each) // each[split] * itemsize
        while chunk[split] * slab > BLOCK and chunk[split] % 2 == 0:
            chunk[split] //= 2
        count = max(1, BLOCK // (chunk[split] * slab)) * chunk[split]
        block = [*each[:split], min(count, each[split]), *each[split + 1 :]]
        if block[split] % chunk[split]:  # the last block is cut off with the parameter
            block[split] = -(-block[split] // chunk[split]) * chunk[split]
        lead = (1,) if self.weight.layers else ()
        return (*lead, *block), (*lead, *chunk)


@dataclass(frozen=True)
class Block:
    """Part of one tensor: layer `layer` (None without layers), `part` of the axis `split`."""

    param: Param
    layer: int | None
    part: slice

    @property
    def index(self) -> tuple[Any, ...]:
        """What to index the whole parameter with."""
        lead = () if self.layer is None else (self.layer,)
        return (*lead, *[slice(None)] * self.param.weight.split, self.part)

    @property
    def shape(self) -> Shape:
        """The block's shape within one layer of the parameter."""
        each, split = self.param.each, self.param.weight.split
        return (*each[:split], self.part.stop - self.part.start, *each[split + 1 :])

    @property
    def rows(self) -> slice:
        """The block's part of the first axis of torch's tensor."""
        each, weight = self.param.each, self.param.weight
        stored = weight.stored_shape(each)
        unit = stored[0] // each[weight.split]
        return slice(self.part.start * unit, self.part.stop * unit)


@cache
def parameters(config: ModelConfig) -> tuple[Param, ...]:
    """Every parameter of a model with its shape and axes, in the table's order."""
    _, state = abstract(config)
    found = {tuple(map(str, path)): v for path, v in nnx.to_flat_state(state)}
    return tuple(
        Param(w, tuple(found[w.path].shape), found[w.path].get_metadata()["out_sharding"])
        for w in weights(config)
    )


def shapes(config: ModelConfig) -> dict[tuple[str, ...], Shape]:
    """The shape of every parameter, by path."""
    return {p.weight.path: p.shape for p in parameters(config)}


def parts_of(params: tuple[Param, ...]) -> dict[str, int]:
    """How many numbers each part of a model has."""
    parts: dict[str, int] = {}
    for param in params:
        part = param.weight.path[0]
        parts[part] = parts.get(part, 0) + math.prod(param.shape)
    return parts


def blocks(param: Param, itemsize: int) -> Iterator[Block]:
    """A parameter's blocks, layer after layer."""
    size, total = param.chunks(itemsize)[0][len(param.shape) - len(param.each) :], param.each
    split = param.weight.split
    for layer in range(param.weight.layers) if param.weight.layers else [None]:
        for at in range(0, total[split], size[split]):
            yield Block(param, layer, slice(at, min(at + size[split], total[split])))


def ahead(
    work: Callable[[Any], T], items: Iterable[Any], depth: int = 2
) -> Iterator[tuple[Any, T]]:
    """(item, work(item)) for each item in turn; `depth` of them are worked on in advance."""
    with ThreadPoolExecutor(depth) as pool:
        waiting: deque[tuple[Any, Future[T]]] = deque()
        try:
            for item in items:
                waiting.append((item, pool.submit(work, item)))
                if len(waiting) > depth:
                    first, future = waiting.popleft()
                    yield first, future.result()
            while waiting:
                first, future = waiting.popleft()
                yield first, future.result()
        finally:
            for _, future in waiting:
                future.cancel()
