"""Attention as a CPU is quick at it: plain products of a few hundred queries, one head at a time.

There a batched product runs at a sixth of the speed of plain ones, and passes over scores that
have left the cache cost as much as the products. So a block of queries takes one stretch of keys
after the other, with running sums, and the backward pass computes scores again from sums that were
kept, as FlashAttention does (Dao et al. 2022, arXiv 2205.14135). A stretch without a key that a
query of the block sees is not visited.

Letters: B rows, S queries, N heads, K kv heads, G = N / K, H head dim.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp

ROWS = 512
"""Rows of a block's scores, at most: queries times heads a kv head."""
KEYS = 512
"""Keys of a stretch, at most, where not every key is seen."""

_NEVER = jnp.finfo(jnp.float32).min

Heads = tuple[jax.Array, ...]


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
        plan = _plan(s, size, *until)
        queries = _by_head(q, k.shape[1], size)
        keys_of, values_of = plan.stretches(k), plan.stretches(v)

        def block(number: jax.Array) -> tuple[jax.Array, jax.Array]:
            own = [_cut(head, number, size) for head in queries]

            def visit(turn: jax.Array, so_far: tuple[_Sums, ...]) -> tuple[_Sums, ...]:
                stretch = plan.order[number, turn]
                seen = plan.seen(number, stretch)
                heads = zip(so_far, own, keys_of, values_of, strict=True)
                return tuple(
                    sums.with_keys(query, key[stretch], value[stretch], seen)
                    for sums, query, key, value in heads
                )

            start = tuple(_Sums.of_nothing(query) for query in own)
            found = jax.lax.fori_loop(0, plan.visits[number], visit, start)
            mixed = jnp.stack([sums.mixed / sums.total for sums in found])
            logs = jnp.stack([sums.top + jnp.log(sums.total) for sums in found])
            return mixed.astype(q.dtype), logs[..., 0]

        out, sums = jax.lax.map(block, jnp.arange(len(plan.visits)))
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
        plan = _plan(s, size, *until)
        by_query = tuple(_by_head(x, k.shape[1], size) for x in (q, sums, drop, d_out))
        keys_of, values_of = plan.stretches(k), plan.stretches(v)

        def block(
            so_far: tuple[Heads, Heads], number: jax.Array
        ) -> tuple[tuple[Heads, Heads], jax.Array]:
            own = [[_cut(head, number, size) for head in of] for of in by_query]

            def visit(
                turn: jax.Array, so_far: tuple[Heads, Heads, Heads]
            ) -> tuple[Heads, Heads, Heads]:
                stretch = plan.order[number, turn]
                seen = plan.seen(number, stretch)
                found = []
                for head, (query, total, less, d_mixed) in enumerate(zip(*own, strict=True)):
                    d_query, d_key, d_value = (of[head] for of in so_far)
                    key, value = keys_of[head][stretch], values_of[head][stretch]
                    weights = jnp.exp(_scores(query, key, seen) - total[:, None])
                    d_scores = weights * (_dot(d_mixed, value.T) - less[:, None])
                    d_scores = (d_scores * _scale(query)).astype(query.dtype)
                    of_value = _dot(weights.astype(d_mixed.dtype).T, d_mixed)
                    d_key = d_key.at[stretch].add(_dot(d_scores.T, query))
                    d_value = d_value.at[stretch].add(of_value)
                    found.append((d_query + _dot(d_scores, key), d_key, d_value))
                d_queries, d_keys, d_values = zip(*found, strict=True)
                return d_queries, d_keys, d_values

            start = tuple(jnp.zeros(query.shape, jnp.float32) for query in own[0])
            d_query, *so_far = jax.lax.fori_loop(0, plan.visits[number], visit, (start, *so_far))
            return (so_far[0], so_far[1]), jnp.stack(d_query).astype(q.dtype)

        start = tuple(jnp.zeros(head.shape, jnp.float32) for head in keys_of)
        d_heads, d_queries = jax.lax.scan(block, (start, start), jnp.arange(len(plan.visits)))
        d_key, d_value = (plan.of_keys(of, s).astype(k.dtype) for of in d_heads)
        return _by_query(d_queries, s, size).reshape(q.shape), d_key, d_value

    drop = jnp.sum(out.astype(jnp.float32) * d_out.astype(jnp.float32), axis=-1)
    arrays = _given(q, k, v, visible_until)
    return jax.lax.map(row, (*arrays[:3], sums, drop, d_out, *arrays[3:]))


class _Sums(NamedTuple):
    """The softmax of one kv head's queries so far: values mixed [size * G, H], the largest score
    and the sum of weights [size * G, 1]."""

    mixed: jax.Array
    top: jax.Array
    total: jax.Array

    @classmethod
    def of_nothing(cls, query: jax.Array) -> _Sums:
        mixed = jnp.zeros(query.shape, jnp.float32)
        return cls(mixed, jnp.full_like(mixed[:, :1], _NEVER), mixed[:, :1])

    def with_keys(
        self, query: jax.Array, key: jax.Array, value: jax.Array, seen: jax.Array | None
    ) -> _Sums:
        scores = _scores(query, key, seen)
        top = jnp.maximum(self.top, jnp.max(scores, axis=-1, keepdims=True))
        # Where nothing was seen so far, this makes nothing of what was summed.
        kept = jnp.exp(self.top - top)
        weights = jnp.exp(scores - top)
        total = kept * self.total + jnp.sum(weights, axis=-1, keepdims=True)
        return _Sums(kept * self.mixed + _dot(weights.astype(value.dtype), value), top, total)


class _Plan(NamedTuple):
    """The stretches of `keys` keys that each block of `size` queries visits: of each block the
    first `visits` [blocks] of `order` [blocks, stretches]."""

    size: int
    keys: int
    until: jax.Array | None
    order: jax.Array
    visits: jax.Array

    def stretches(self, x: jax.Array) -> Heads:
        """[S, K, H] -> of each kv head [stretches, keys, H]."""
        x = jnp.pad(x, ((0, -len(x) % self.keys), (0, 0), (0, 0)))
        return tuple(x.swapaxes(0, 1).reshape(x.shape[1], -1, self.keys, x.shape[2]))

    def of_keys(self, heads: Heads, s: int) -> jax.Array:
        """What `stretches` made, back to [S, K, H]."""
        return jnp.stack([head.reshape(-1, head.shape[-1])[:s] for head in heads], axis=1)

    def seen(self, block: jax.Array, stretch: jax.Array) -> jax.Array | None:
        """[size, keys]: which keys of a stretch a block's queries see; None for all."""
        if self.until is None:
            return None
        query = (block * self.size + jnp.arange(self.size))[:, None]
        begin = stretch * self.keys
        until = jax.lax.dynamic_slice_in_dim(self.until, begin, self.keys)
        return (begin + jnp.arange(self.keys) <= query) & (query < until)


def _plan(s: int, size: int, until: jax.Array | None = None) -> _Plan:
    blocks = -(-s // size)
    if until is None:
        return _Plan(size, s, None, jnp.zeros((blocks, 1), int), jnp.ones(blocks, int))
    stretches = -(-s // KEYS)
    keys = -(-s // stretches)
    until = jnp.pad(until, (0, stretches * keys - s))  # behind the row: seen by none
    key, begin = jnp.arange(len(until)), size * jnp.arange(blocks)[:, None]
    some = jnp.maximum(key, begin) < jnp.minimum(until, begin + size)
    visited = jnp.any(some.reshape(blocks, stretches, keys), axis=-1)
    order = jnp.argsort(~visited, axis=-1, stable=True)
    return _Plan(size, keys, until, order, jnp.sum(visited, axis=-1))


def _given(*arrays: jax.Array | None) -> tuple[jax.Array, ...]:
    return tuple(array for array in arrays if array is not None)


def _block_size(s: int, groups: int) -> int:
    """Queries of a block, all blocks equal: one may have rows of padding only at its end."""
    blocks = -(-s * groups // ROWS)
    return -(-s // blocks)


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


def _cut(x: jax.Array, block: jax.Array, size: int) -> jax.Array:
    """A block of one kv head's [S, G, ...] -> [size * G, ...]."""
    x = jax.lax.dynamic_slice_in_dim(x, block * size, size)
    return x.reshape(-1, *x.shape[2:])


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
