"""Attention. Letters: B rows, S queries, C keys, N heads, K kv heads, G = N / K, H head dim."""

from __future__ import annotations

import jax
import jax.numpy as jnp


def attend(q: jax.Array, k: jax.Array, v: jax.Array, mask: jax.Array | None) -> jax.Array:
    """Grouped attention of q [B, S, N, H] over k, v [B, C, K, H]; returns [B, S, N, H].

    `mask` [B, S, C] is true where a query may look, or None for everywhere. Softmax in float32.
    """
    b, s, n, h = q.shape
    groups = n // k.shape[2]
    grouped = q.reshape(b, s, k.shape[2], groups, h)
    scores = jnp.einsum("bskgh,bckh->bkgsc", grouped, k, preferred_element_type=jnp.float32)
    scores = scores * jnp.float32(h**-0.5)
    if mask is not None:
        scores = jnp.where(mask[:, None, None], scores, jnp.finfo(jnp.float32).min)
    weights = jax.nn.softmax(scores, axis=-1).astype(v.dtype)
    return jnp.einsum("bkgsc,bckh->bskgh", weights, v).reshape(b, s, n, h)


def tree_mask(visible_until: jax.Array) -> jax.Array:
    """[B, S, S]: query i sees key j if and only if j <= i < visible_until[j]."""
    index = jnp.arange(visible_until.shape[-1], dtype=visible_until.dtype)
    query, key = index[:, None], index[None, :]
    return (key <= query) & (query < visible_until[:, None, :])


def tree_attention(q: jax.Array, k: jax.Array, v: jax.Array, visible_until: jax.Array) -> jax.Array:
    """Attention within rows of token trees: q [B, S, N, H], k and v [B, S, K, H],
    visible_until [B, S].

    One function, whatever the machine: dense where products are batched well, blockwise on a CPU.
    """
    return jax.lax.platform_dependent(q, k, v, visible_until, cpu=_blockwise, default=_dense)


def _dense(q: jax.Array, k: jax.Array, v: jax.Array, visible_until: jax.Array) -> jax.Array:
    return attend(q, k, v, tree_mask(visible_until))


def _blockwise(q: jax.Array, k: jax.Array, v: jax.Array, visible_until: jax.Array) -> jax.Array:
    """Row by row and head by head, each block of queries over the keys before its end.

    On a CPU a batched product runs at a sixth of the speed of plain ones, half of a dense mask is
    never seen, and [S, S] scores cost more to keep for the backward pass than to compute again.
    """
    s, n, h = q.shape[1:]
    kv_heads, groups = k.shape[2], n // k.shape[2]
    block = max(128, -(-s // 16))
    scale = jnp.float32(h**-0.5)

    @jax.checkpoint
    def row(arrays: tuple[jax.Array, ...]) -> jax.Array:
        q, k, v, until = arrays
        grouped = q.reshape(s, kv_heads, groups, h)
        blocks = []
        for begin in range(0, s, block):
            end = min(s, begin + block)
            query = jnp.arange(begin, end)[:, None]
            mask = (jnp.arange(end) <= query) & (query < until[None, :end])
            heads = []
            for head in range(kv_heads):
                rows = grouped[begin:end, head].reshape(-1, h)
                scores = jnp.dot(rows, k[:end, head].T, preferred_element_type=jnp.float32)
                scores = scores.reshape(end - begin, groups, end) * scale
                scores = jnp.where(mask[:, None], scores, jnp.finfo(jnp.float32).min)
                weights = jax.nn.softmax(scores, axis=-1).astype(v.dtype)
                mixed = weights.reshape(-1, end) @ v[:end, head]
                heads.append(mixed.reshape(end - begin, groups, h))
            blocks.append(jnp.stack(heads, axis=1))
        return jnp.concatenate(blocks).reshape(s, n, h)

    return jax.lax.map(row, (q, k, v, visible_until))
