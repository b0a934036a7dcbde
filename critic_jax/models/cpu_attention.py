"""Attention as a CPU is quick at it: plain products of a few hundred queries, one head at a time.

There a batched product runs at a sixth of the speed of plain ones, and passes over scores that
have left the cache cost as much as the products. So a block of queries goes through all its steps
before the next begins, and the backward pass computes scores again from sums that were kept, as
FlashAttention does (Dao et al. 2022, arXiv 2205.14135).

Letters: B rows, S queries, N heads, K kv heads, G = N / K, H head dim.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import jax
import jax.numpy as jnp

ROWS = 512
"""Rows of a block's scores, at most: queries times heads a kv head. Over 4,096 keys, 8 MB."""
SPANS = 8
"""Stretches of blocks with a number of keys of their own: half of a square is never seen."""

_NEVER = jnp.finfo(jnp.float32).min


def rows_forward(
    q: jax.Array, k: jax.Array, v: jax.Array, visible_until: jax.Array | None
) -> tuple[jax.Array, jax.Array]:
    """q [B, S, N, H], k and v [B, S, K, H] -> (attended [B, S, N, H], log-sums [B, S, N]).

    Query i sees key j if and only if j <= i < visible_until[j]; every key, where that is None.
    """
    s, n, h = q.shape[1:]
    size = _block_size(s, n // k.shape[2])

    def row(arrays: tuple[jax.Array, ...]) -> tuple[jax.Array, jax.Array]:
        q, k, v, *until = arrays
        parts = []
        queries = _by_head(q, k.shape[1], size)
        keys_of, values_of = k.swapaxes(0, 1), v.swapaxes(0, 1)
        for begin, blocks, keys in _spans(s, size, bool(until)):

            def block(at: jax.Array, keys: int = keys) -> tuple[jax.Array, jax.Array]:
                seen = _seen(until, at, size, keys)
                found = []
                for head, (key, value) in enumerate(zip(keys_of, values_of, strict=True)):
                    scores = _scores(_cut(queries[head], at, size), key[:keys], seen)
                    top = jnp.max(scores, axis=-1, keepdims=True)
                    weights = jnp.exp(scores - top)
                    total = jnp.sum(weights, axis=-1, keepdims=True)
                    mixed = _dot(weights.astype(value.dtype), value[:keys]) / total
                    found.append((mixed.astype(q.dtype), (top + jnp.log(total))[:, 0]))
                return jax.tree.map(lambda *heads: jnp.stack(heads), *found)

            parts.append(jax.lax.map(block, begin + size * jnp.arange(blocks)))
        out, sums = (jnp.concatenate(arrays) for arrays in zip(*parts, strict=True))
        return _by_query(out, s, size), _by_query(sums, s, size)

    out, sums = jax.lax.map(row, _given(q, k, v, visible_until))
    return out.reshape(-1, s, n, h), sums.reshape(-1, s, n)


def rows_backward(
    q: jax.Array,
    k: jax.Array,
    v: jax.Array,
    visible_until: jax.Array | None,
    out: jax.Array,
    sums: jax.Array,
    d_out: jax.Array,
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """The gradients of q, k and v, of what `rows_forward` took and gave."""
    s = q.shape[1]
    size = _block_size(s, q.shape[2] // k.shape[2])

    def row(arrays: tuple[jax.Array, ...]) -> tuple[jax.Array, jax.Array, jax.Array]:
        q, k, v, sums, drop, d_out, *until = arrays
        heads = k.shape[1]
        by_query = tuple(_by_head(x, heads, size) for x in (q, sums, drop, d_out))
        keys_of, values_of = k.swapaxes(0, 1), v.swapaxes(0, 1)
        d_queries = []
        d_keys = jnp.zeros(keys_of.shape, jnp.float32)
        d_values = d_keys
        for begin, blocks, keys in _spans(s, size, bool(until)):

            def block(
                so_far: tuple[jax.Array, jax.Array], at: jax.Array, keys: int = keys
            ) -> tuple[tuple[jax.Array, jax.Array], jax.Array]:
                seen = _seen(until, at, size, keys)
                found = []
                for head, (key, value) in enumerate(zip(keys_of, values_of, strict=True)):
                    key, value = key[:keys], value[:keys]
                    query, total, less, d_mixed = (_cut(x[head], at, size) for x in by_query)
                    scores = _scores(query, key, seen)
                    weights = jnp.exp(scores - total[:, None])
                    d_scores = weights * (_dot(d_mixed, value.T) - less[:, None])
                    d_scores = (d_scores * _scale(query)).astype(query.dtype)
                    d_value = _dot(weights.astype(d_mixed.dtype).T, d_mixed)
                    found.append((_dot(d_scores.T, query), d_value, _dot(d_scores, key)))
                d_key, d_value, d_query = (jnp.stack(of) for of in zip(*found, strict=True))
                return (so_far[0] + d_key, so_far[1] + d_value), d_query.astype(q.dtype)

            start = (jnp.zeros((heads, keys, k.shape[2]), jnp.float32),) * 2
            begins = begin + size * jnp.arange(blocks)
            (d_key, d_value), d_query = jax.lax.scan(block, start, begins)
            d_keys, d_values = d_keys.at[:, :keys].add(d_key), d_values.at[:, :keys].add(d_value)
            d_queries.append(d_query)
        d_query = _by_query(jnp.concatenate(d_queries), s, size)
        d_keys, d_values = (x.swapaxes(0, 1).astype(k.dtype) for x in (d_keys, d_values))
        return d_query.reshape(q.shape), d_keys, d_values

    drop = jnp.sum(out.astype(jnp.float32) * d_out.astype(jnp.float32), axis=-1)
    arrays = _given(q, k, v, visible_until)
    return jax.lax.map(row, (*arrays[:3], sums, drop, d_out, *arrays[3:]))


def _given(*arrays: jax.Array | None) -> tuple[jax.Array, ...]:
    return tuple(array for array in arrays if array is not None)


def _block_size(s: int, groups: int) -> int:
    """Queries of a block, all blocks equal: one may have rows of padding only at its end."""
    blocks = -(-s * groups // ROWS)
    return -(-s // blocks)


def _spans(s: int, size: int, causal: bool) -> Iterator[tuple[int, int, int]]:
    """(first query, blocks, keys up to the last query's end), until all of s queries are in one."""
    blocks = -(-s // size)
    span = -(-blocks // SPANS) if causal else blocks
    for first in range(0, blocks, span):
        count = min(span, blocks - first)
        yield first * size, count, min(s, (first + count) * size) if causal else s


def _by_head(x: jax.Array, kv_heads: int, size: int) -> jax.Array:
    """[S, N, ...] -> [K, S up to whole blocks, G, ...]."""
    s, n = x.shape[:2]
    x = x.reshape(s, kv_heads, n // kv_heads, *x.shape[2:]).swapaxes(0, 1)
    return jnp.pad(x, ((0, 0), (0, -s % size), *((0, 0),) * (x.ndim - 2)))


def _by_query(x: jax.Array, s: int, size: int) -> jax.Array:
    """What blocks made, [blocks, K, size * G, ...] -> [S, K, G, ...]."""
    blocks, kv_heads, rows = x.shape[:3]
    x = x.reshape(blocks, kv_heads, size, rows // size, *x.shape[3:]).swapaxes(1, 2)
    return x.reshape(blocks * size, *x.shape[2:])[:s]


def _cut(x: jax.Array, at: jax.Array, size: int) -> jax.Array:
    """A block of one kv head's [S, G, ...] -> [size * G, ...]."""
    x = jax.lax.dynamic_slice_in_dim(x, at, size)
    return x.reshape(-1, *x.shape[2:])


def _seen(until: list[jax.Array], at: jax.Array, size: int, keys: int) -> jax.Array | None:
    """[size, keys]: which keys the queries from `at` on see; None for all."""
    if not until:
        return None
    query = (at + jnp.arange(size))[:, None]
    return (jnp.arange(keys) <= query) & (query < until[0][:keys])


def _scores(query: jax.Array, key: jax.Array, seen: jax.Array | None) -> jax.Array:
    """[size * G, keys] in float32; what is not seen is far below everything else."""
    scores = _dot(query, key.T) * _scale(query)
    if seen is None:
        return scores
    scores = scores.reshape(len(seen), -1, key.shape[0])
    return jnp.where(seen[:, None], scores, _NEVER).reshape(-1, key.shape[0])


def _scale(query: jax.Array) -> jax.Array:
    return jnp.float32(1 / math.sqrt(query.shape[-1]))


def _dot(a: jax.Array, b: jax.Array) -> jax.Array:
    return jnp.dot(a, b, preferred_element_type=jnp.float32)
