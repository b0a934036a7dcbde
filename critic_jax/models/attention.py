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


def tree_attention(
    q: jax.Array, k: jax.Array, v: jax.Array, visible_until: jax.Array
) -> jax.Array:
    """Attention within rows of token trees: q [B, S, N, H], k and v [B, S, K, H], visible_until [B, S]."""
    return attend(q, k, v, tree_mask(visible_until))
