"""Keys and values of trunks and of branches, and how they lie on a mesh.

Letters: B branches (slots), V vocabulary, C places of the pool, R own places, K kv heads, H head
dim.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from critic_jax.models.branch_attention import Pair
from critic_jax.models.config import DecoderConfig


class Shape(NamedTuple):
    """Slots of branches, places of trunks, own places of a branch."""

    slots: int
    places: int
    room: int


class Cache(NamedTuple):
    """What stays on the device between runs.

    pool: of each layer k, v [K, C, H], the trunks'. own: of each layer k, v [B, K, R, H], what each
    branch has said. seen: bool [B, V], the tokens in it.
    """

    pool: list[Pair]
    own: list[Pair]
    seen: jax.Array


def cache_shapes(
    decoder: DecoderConfig, dtype: jnp.dtype, shape: Shape, mesh: Mesh | None
) -> Cache:
    """Of each array a `jax.ShapeDtypeStruct`. On a mesh kv heads are spread over its tensor axis,
    which holds them whole where it does not divide them.
    """
    kv_heads, h = decoder.num_kv_heads, decoder.head_dim
    over = "tensor" if kv_ways(decoder, mesh) > 1 else None

    def held(sizes: tuple[int, ...], kind: jnp.dtype, *axes: str | None) -> jax.ShapeDtypeStruct:
        sharding = None if mesh is None else NamedSharding(mesh, PartitionSpec(*axes))
        return jax.ShapeDtypeStruct(sizes, kind, sharding=sharding)

    pool = held((kv_heads, shape.places, h), dtype, over, None, None)
    own = held((shape.slots, kv_heads, shape.room, h), dtype, None, over, None, None)
    layers = range(decoder.num_layers)
    return Cache(
        [(pool, pool) for _ in layers],  # type: ignore[misc]
        [(own, own) for _ in layers],  # type: ignore[misc]
        held((shape.slots, decoder.vocab_size), jnp.dtype(bool), None, None),  # type: ignore[arg-type]
    )


def kv_ways(decoder: DecoderConfig, mesh: Mesh | None) -> int:
    """Over how many devices of a mesh kv heads are spread; 1 where its tensor axis does not divide
    them.
    """
    tensor = 1 if mesh is None else mesh.shape["tensor"]
    return tensor if decoder.num_kv_heads % tensor == 0 else 1


def kv_bytes(decoder: DecoderConfig, dtype: jnp.dtype, mesh: Mesh | None) -> int:
    """Bytes of a token's keys and values on each device."""
    heads = decoder.num_kv_heads // kv_ways(decoder, mesh)
    return 2 * decoder.num_layers * heads * decoder.head_dim * dtype.itemsize


def empty_cache(shapes: Cache) -> Cache:
    """Zeros of the shapes."""
    found: Cache = jax.tree.map(
        lambda of: jnp.zeros(of.shape, of.dtype, device=of.sharding), shapes
    )
    return found
