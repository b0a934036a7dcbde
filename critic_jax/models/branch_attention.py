"""Attention of branches, each one token at a time, over trunks that they share.

The keys and values of trunks lie in one pool, as in a row of `critic_jax.tree`: place j is seen
from a branch whose path ends at place e if and only if j <= e < visible_until[j]. What a branch
itself has said lies apart from it.

Letters: B branches, P places of the pool, R own places of a branch, N heads, K kv heads,
G = N / K, H head dim, W branches of a lane.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec

from critic_jax.sharding import MESH_AXES, mesh_size

SPAN = 256
"""Places of the pool that a visit takes at once."""

WIDE = 8
"""Branches of one trunk that visit it together."""

OWN_SPAN = 32
"""R is a multiple of it."""

_LEAST = -1e30

Pair = tuple[jax.Array, jax.Array]
"""Keys and values."""


class Visits(NamedTuple):
    """Lanes of branches that visit the same stretches of the pool; for machines that go one by one.

    A branch's number of B stands for none.
    """

    lanes: jax.Array  # int32 scalar: lanes in use
    slots: jax.Array  # int32 [B, W]: the branches of each
    first: jax.Array  # int32 [B, ceil(P / SPAN)]: where each stretch begins
    stretches: jax.Array  # int32 [B]: how many each has


def branch_attention(
    q: jax.Array,
    pool: Pair,
    own: Pair,
    visible_until: jax.Array,
    end: jax.Array,
    length: jax.Array,
    visits: tuple[Visits, ...],
) -> jax.Array:
    """q [B, N, H] over pool k, v [K, P, H] and own k, v [B, K, R, H]; returns [B, N, H].

    end [B]: the place where each branch's path ends; length [B]: own places that are in use.
    One softmax spans both parts. `visits` hold every place that a branch sees, and say what a CPU
    goes through; elsewhere all branches go through the whole pool, each place read once.

    On a mesh each device has its share of the heads.
    """
    arrays = (q, pool, own, visible_until, end, length, visits)
    tensor = mesh_size("tensor")
    if mesh_size(*MESH_AXES) == 1:
        return _on_one(*arrays)
    assert q.shape[1] % tensor == 0  # as param_shardings checks
    # Each kv head as often as it takes for every device to hold the ones that its queries use.
    kv_heads = pool[0].shape[0]
    repeats = math.lcm(kv_heads, tensor) // kv_heads
    if repeats > 1:
        pool = (jnp.repeat(pool[0], repeats, 0), jnp.repeat(pool[1], repeats, 0))
        own = (jnp.repeat(own[0], repeats, 1), jnp.repeat(own[1], repeats, 1))
    whole, first, second = PartitionSpec(), PartitionSpec("tensor"), PartitionSpec(None, "tensor")
    shared: jax.Array = jax.shard_map(
        _on_one,
        in_specs=(second, first, second, whole, whole, whole, whole),
        out_specs=second,
        check_vma=False,  # loops that decide while they run do not tell along which axes they vary
    )(q, pool, own, visible_until, end, length, visits)
    return shared


def _on_one(*arrays: Any) -> jax.Array:
    out: jax.Array = jax.lax.platform_dependent(*arrays, cpu=_visiting, default=_at_once)
    return out


def _at_once(
    q: jax.Array,
    pool: Pair,
    own: Pair,
    visible_until: jax.Array,
    end: jax.Array,
    length: jax.Array,
    visits: tuple[Visits, ...],
) -> jax.Array:
    b, n, h = q.shape
    places, room = pool[0].shape[1], own[0].shape[2]
    product = functools.partial(jnp.einsum, preferred_element_type=jnp.float32)
    grouped = q.reshape(b, -1, n // pool[0].shape[0], h)
    shared = product("bkgh,kph->bkgp", grouped, pool[0])
    apart = product("bkgh,bkrh->bkgr", grouped, own[0])
    place = jnp.arange(places)
    sees = (place <= end[:, None]) & (end[:, None] < visible_until)
    sees = jnp.concatenate([sees, jnp.arange(room) < length[:, None]], axis=1)
    scores = jnp.concatenate([shared, apart], axis=-1) * jnp.float32(h**-0.5)
    scores = jnp.where(sees[:, None, None], scores, _LEAST)
    weights = jax.nn.softmax(scores, axis=-1).astype(q.dtype)
    out = product("bkgp,kph->bkgh", weights[..., :places], pool[1])
    out += product("bkgr,bkrh->bkgh", weights[..., places:], own[1])
    return out.reshape(b, n, h).astype(q.dtype)


Sums = tuple[jax.Array, jax.Array, jax.Array]
"""A softmax in progress: weighted values [..., H], the largest score [...], the weights' sum."""


def _visiting(
    q: jax.Array,
    pool: Pair,
    own: Pair,
    visible_until: jax.Array,
    end: jax.Array,
    length: jax.Array,
    visits: tuple[Visits, ...],
) -> jax.Array:
    """Lane by lane over the stretches of the pool that its branches see, then branch by branch over
    what is its own: plain products all, and no more of them than are needed.
    """
    b, n, h = q.shape
    kv_heads, places, _ = pool[0].shape
    span = min(SPAN, places)
    grouped = q.reshape(b, kv_heads, -1, h)
    grouped = jnp.concatenate([grouped, jnp.zeros_like(grouped[:1])])
    ends = jnp.concatenate([end, jnp.full(1, -1, end.dtype)])
    sums: Sums = (
        jnp.zeros(grouped.shape, jnp.float32),
        jnp.full(grouped.shape[:3], _LEAST),
        jnp.zeros(grouped.shape[:3]),
    )

    def lane(number: jax.Array, sums: Sums, lanes: Visits) -> Sums:
        slots = lanes.slots[number]
        queries, ending = grouped[slots], ends[slots][:, None]

        def visit(i: jax.Array, of_lane: Sums) -> Sums:
            first = lanes.first[number, i]
            start = jnp.minimum(first, places - span)
            until = jax.lax.dynamic_slice_in_dim(visible_until, start, span)
            place = start + jnp.arange(span)
            # What the last stretch repeats, since it may not go past the pool, is not seen twice.
            sees = (place >= first) & (place <= ending) & (ending < until)
            k, v = (jax.lax.dynamic_slice_in_dim(x, start, span, 1) for x in pool)
            return _gather(of_lane, queries, k, v, sees)

        begin = _each(lambda x, _: x[slots], sums, sums)
        found = jax.lax.fori_loop(0, lanes.stretches[number], visit, begin)
        return _each(lambda x, y: x.at[slots].set(y), sums, found)

    for lanes in visits:
        sums = jax.lax.fori_loop(0, lanes.lanes, functools.partial(lane, lanes=lanes), sums)

    def branch(number: jax.Array, sums: Sums) -> Sums:
        used = length[number]
        keys, values = (jax.lax.dynamic_index_in_dim(x, number, 0, False) for x in own)

        def visit(i: jax.Array, of_branch: Sums) -> Sums:
            start = i * OWN_SPAN
            sees = (start + jnp.arange(OWN_SPAN) < used)[None]
            k, v = (jax.lax.dynamic_slice_in_dim(x, start, OWN_SPAN, 1) for x in (keys, values))
            return _gather(of_branch, queries, k, v, sees)

        queries, *begin = (jax.lax.dynamic_slice_in_dim(x, number, 1) for x in (grouped, *sums))
        found = jax.lax.fori_loop(0, -(-used // OWN_SPAN), visit, (begin[0], begin[1], begin[2]))
        put = jax.lax.dynamic_update_slice_in_dim
        return _each(lambda x, y: put(x, y, number, 0), sums, found)

    values, _, total = jax.lax.fori_loop(0, b, branch, sums)
    # A slot without a branch has seen nothing.
    out = values[:b] / jnp.maximum(total[:b], 1e-30)[..., None]
    return out.reshape(b, n, h).astype(q.dtype)


def _each(put: Callable[[jax.Array, jax.Array], jax.Array], sums: Sums, new: Sums) -> Sums:
    return put(sums[0], new[0]), put(sums[1], new[1]), put(sums[2], new[2])


def _gather(sums: Sums, q: jax.Array, k: jax.Array, v: jax.Array, sees: jax.Array) -> Sums:
    """Go on with W branches' softmax: q [W, K, G, H], k and v [K, C, H], sees [W, C]."""
    width, kv_heads, groups, h = q.shape
    values, largest, total = sums
    heads = []
    for head in range(kv_heads):
        scores = jnp.dot(q[:, head].reshape(-1, h), k[head].T, preferred_element_type=jnp.float32)
        scores = scores.reshape(width, groups, -1) * jnp.float32(h**-0.5)
        scores = jnp.where(sees[:, None], scores, _LEAST)
        top = jnp.maximum(largest[:, head], scores.max(-1))
        weights = jnp.exp(scores - top[..., None])
        fade = jnp.exp(largest[:, head] - top)
        mixed = jnp.dot(
            weights.reshape(width * groups, -1).astype(v.dtype),
            v[head],
            preferred_element_type=jnp.float32,
        ).reshape(width, groups, h)
        heads.append(
            (
                values[:, head] * fade[..., None] + mixed,
                top,
                total[:, head] * fade + weights.sum(-1),
            )
        )
    stacked = [jnp.stack(each, axis=1) for each in zip(*heads, strict=True)]
    return stacked[0], stacked[1], stacked[2]
