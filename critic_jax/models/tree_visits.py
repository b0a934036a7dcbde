"""Which pairs of a query block and a key block an attention kernel has to visit.

A row's mask is sparse: query i sees key j if and only if j <= i < visible_until[j]. A pair of
blocks is visited if and only if it holds at least one visible pair of tokens. Letters: B rows,
S tokens, P the most pairs a row can have.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

# What a kernel must know of a visit.
LIVE, FIRST, LAST, WHOLE = 1, 2, 4, 8


class Visits(NamedTuple):
    """The pairs of each row, in the order in which a kernel takes them.

    Entries past a row's last pair repeat its blocks, so that nothing new is fetched for them.
    """

    query_block: jax.Array  # [B, P] int32
    key_block: jax.Array  # [B, P] int32
    # [B, P] int32: LIVE for a pair of this row, FIRST and LAST of the block that the list is
    # sorted by, WHOLE where every query of the block sees every key of it.
    kind: jax.Array
    steps: jax.Array  # int32: the largest number of pairs of a row


def visits(visible_until: jax.Array, block: int, by_key: bool = False) -> Visits:
    """The pairs of blocks of `block` tokens to visit, sorted by query block, or by key block.

    `visible_until` [B, S], S a multiple of `block`, visible_until[j] > j.
    """
    rows, tokens = visible_until.shape
    blocks = tokens // block
    begin = block * jnp.arange(blocks)[:, None]
    key = jnp.arange(tokens)
    # [B, query blocks, keys]: whether any query, and whether every query of the block sees the key.
    until = visible_until[:, None, :]
    seen = jnp.maximum(key, begin) < jnp.minimum(until, begin + block)
    by_all = (key <= begin) & (begin + block <= until)
    some = jnp.any(seen.reshape(rows, blocks, blocks, block), -1)
    whole = jnp.all(by_all.reshape(rows, blocks, blocks, block), -1)
    if by_key:
        some, whole = some.swapaxes(1, 2), whole.swapaxes(1, 2)

    # Sorting numbers that hold a pair and its kind is the compaction: a pair not to be visited
    # sorts behind all others.
    pair = jnp.arange(blocks * blocks, dtype=jnp.int32)
    numbers = 2 * pair + whole.reshape(rows, -1)
    absent = jnp.int32(2 * blocks * blocks)
    numbers = jnp.sort(jnp.where(some.reshape(rows, -1), numbers, absent))
    numbers = numbers[:, : blocks * (blocks + 1) // 2]
    live = numbers < absent
    count = live.sum(1, dtype=jnp.int32)
    numbers = jnp.minimum(numbers, jnp.max(jnp.where(live, numbers, 0), 1, keepdims=True))

    outer, inner = numbers // (2 * blocks), numbers // 2 % blocks
    change = outer[:, 1:] != outer[:, :-1]
    edge = jnp.ones((rows, 1), bool)
    at_end = jnp.arange(numbers.shape[1]) == count[:, None] - 1
    first = jnp.concatenate([edge, change], 1)
    last = jnp.concatenate([change, edge], 1) | at_end
    kind = LIVE + FIRST * first + LAST * last + WHOLE * (numbers % 2)
    kind = jnp.where(live, kind, 0).astype(jnp.int32)
    query_block, key_block = (inner, outer) if by_key else (outer, inner)
    return Visits(query_block, key_block, kind, jnp.max(count))
