"""Kernels in four bits: NormalFloat of QLoRA (Dettmers et al. 2023, arXiv 2305.14314).

qwix makes and holds them: codes 0..15 of the kernel's shape, and a scale for every 64 of them.
"""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import qwix
from jax.sharding import NamedSharding, PartitionSpec

from critic_jax.sharding import MESH_AXES, mesh_size

# Weights that share a scale, at most.
TILE = 64

# Appendix E of the paper, in float32.
_LEVELS = np.array(
    [
        *(-1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453),
        *(-0.28444138169288635, -0.18477343022823334, -0.09105003625154495, 0.0),
        *(0.07958029955625534, 0.16093020141124725, 0.24611230194568634, 0.33791524171829224),
        *(0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1.0),
    ],
    np.float32,
)


def tiled(axes: tuple[str | None, ...], shape: tuple[int, ...]) -> tuple[int, int]:
    """(axis along which 64 neighbours, or fewer that divide it, share a scale; how many).

    Head dimension or ffn: no mesh axis cuts the one, and the other is cut into large pieces.
    """
    axis = next(i for i, name in enumerate(axes) if name in ("head_dim", "ffn"))
    return axis, max(n for n in range(1, TILE + 1) if shape[axis] % n == 0)


def quantize(
    kernel: jax.Array,
    axes: tuple[str | None, ...],
    dtype: jnp.dtype,
    sharding: NamedSharding | None = None,
) -> qwix.QArray:
    """A stacked kernel [L, in..., out...] in four bits, with logical `axes`; scales in `dtype`.

    Layer by layer, and on a mesh each device its own piece: on the way a kernel takes several times
    its own memory. `sharding`: the kernel's.
    """
    axis, size = tiled(axes[1:], kernel.shape[1:])

    def whole(values: jax.Array) -> qwix.QArray:
        return qwix.quantize(
            values.astype(jnp.float32),
            "nf4",
            channelwise_axes=[a for a in range(values.ndim) if a != axis],
            tiled_axes={axis: size},
            scale_dtype=dtype,
        )

    if sharding is None:
        return jax.lax.map(whole, kernel)
    spec = [*sharding.spec][1:]
    pieces = sharding.mesh.shape[spec[axis]] if spec[axis] else 1
    if kernel.shape[1 + axis] // pieces % size:
        spec[axis] = None  # a device's piece would end within a scale's weights
    cut = PartitionSpec(*spec)
    each = jax.shard_map(whole, mesh=sharding.mesh, in_specs=cut, out_specs=cut)
    return jax.lax.map(each, kernel)


def dense(kernel: Any, dtype: jnp.dtype) -> jax.Array:
    """A kernel, in four bits or not, as plain numbers of `dtype`.

    The same numbers as qwix.dequantize gives, from each code's bits: it looks codes up in a table,
    as a vector of one dimension, which would bring together on one device what a mesh has spread.
    """
    if not isinstance(kernel, qwix.QArray):
        return kernel.astype(dtype)
    codes = kernel.qvalue.astype(jnp.uint8)
    levels: list[Any] = list(_LEVELS)
    for bit in range(4):
        one = (codes >> bit) & 1 != 0
        pairs = zip(levels[::2], levels[1::2], strict=True)
        levels = [jnp.where(one, high, low) for low, high in pairs]
    scale = kernel.scale
    for axis, (many, few) in enumerate(zip(codes.shape, scale.shape, strict=True)):
        scale = jnp.repeat(scale, many // few, axis) if many != few else scale
    return (levels[0].astype(scale.dtype) * scale).astype(dtype)


def product(x: jax.Array, kernel: Any, contracted: int) -> jax.Array:
    """x times a kernel, in four bits or not, over the last `contracted` dimensions of x.

    The backward pass works the plain numbers of four bits out again: kept, they would take the
    memory that four bits save.
    """

    def plain(x: jax.Array, kernel: Any) -> jax.Array:
        return _flat_product(x, dense(kernel, x.dtype), contracted)

    return jax.checkpoint(plain)(x, kernel) if isinstance(kernel, qwix.QArray) else plain(x, kernel)


def _flat_product(x: jax.Array, kernel: jax.Array, contracted: int) -> jax.Array:
    if mesh_size(*MESH_AXES) > 1:
        return jnp.tensordot(x, kernel, axes=contracted)  # dimensions are spread one by one
    # Two matrices: for the gradient of any other product a CPU transposes whole activations.
    out = kernel.shape[contracted:]
    matrix = kernel.reshape(math.prod(kernel.shape[:contracted]), -1)
    return (x.reshape(-1, matrix.shape[0]) @ matrix).reshape(*x.shape[: x.ndim - contracted], *out)


def scale_sharding(sharding: NamedSharding, shape: tuple[int, ...]) -> NamedSharding:
    """How scales of `shape` lie beside codes of `sharding`: whole where they cannot be cut so."""
    spec = [
        axis if axis and size % sharding.mesh.shape[axis] == 0 else None
        for size, axis in zip(shape, sharding.spec, strict=True)
    ]
    return NamedSharding(sharding.mesh, PartitionSpec(*spec))
