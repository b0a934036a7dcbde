"""Token log-probabilities over a large vocabulary, without the logits of a whole row in memory."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp

from critic_jax.sharding import mesh_size, spread

CHUNK = 1024
"""Tokens whose logits [CHUNK, V] are in memory at a time, on each device that holds rows."""


def token_logprobs(
    hidden: jax.Array,
    head: jax.Array,
    targets: jax.Array,
    wanted: jax.Array | None = None,
    chunk: int = CHUNK,
) -> jax.Array:
    """log p(targets) in float32: hidden [B, S, D], head [V, D], targets int [B, S] -> [B, S].

    `wanted` [B, S] is true where it is needed; elsewhere the result is 0. Only those tokens are
    worked on, `chunk` at a time, forward and backward: what is not supervised costs nothing, and
    [chunk, V] float32 logits are the largest array.
    """
    b, s, d = hidden.shape
    # Rows on one device are worked on together; on a mesh, each device finds tokens of its own.
    groups = mesh_size("data", "fsdp")
    groups = groups if b % groups == 0 else 1
    wanted = jnp.ones((b, s), bool) if wanted is None else wanted
    flat = spread(hidden, "rows", None, None).reshape(groups, -1, d)
    chunk = min(chunk, flat.shape[1])
    found = _grouped(chunk, flat, head, targets.reshape(groups, -1), wanted.reshape(groups, -1))
    return found.reshape(b, s)


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _grouped(
    chunk: int, hidden: jax.Array, head: jax.Array, targets: jax.Array, wanted: jax.Array
) -> jax.Array:
    """hidden [G, n, D], head [V, D], targets and wanted [G, n] -> log-probabilities [G, n]."""
    return _forward(chunk, hidden, head, targets, wanted)[0]


def _forward(
    chunk: int, hidden: jax.Array, head: jax.Array, targets: jax.Array, wanted: jax.Array
) -> tuple[jax.Array, tuple[jax.Array, ...]]:
    order, place = _wanted_first(wanted, chunk)
    matrix = _whole(head, hidden.dtype)

    def body(i: jax.Array, carry: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        picks = jax.lax.dynamic_slice_in_dim(order, i * chunk, chunk, 1)
        logits = _logits(_take(hidden, picks), matrix)
        norm = jax.nn.logsumexp(logits, axis=-1)
        picked = jnp.take_along_axis(logits, _take(targets, picks)[..., None], axis=-1)[..., 0]
        return _put(carry[0], picked - norm, i * chunk), _put(carry[1], norm, i * chunk)

    empty = jnp.zeros(order.shape, jnp.float32)
    sorted_logprobs, norms = jax.lax.fori_loop(0, _chunks(wanted, chunk), body, (empty, empty))
    logprobs = jnp.where(wanted, _take(sorted_logprobs, place), 0)
    return logprobs, (hidden, head, targets, wanted, norms)


def _backward(
    chunk: int, saved: tuple[jax.Array, ...], gradient: jax.Array
) -> tuple[jax.Array, jax.Array, None, None]:
    hidden, head, targets, wanted, norms = saved
    order, place = _wanted_first(wanted, chunk)
    matrix = _whole(head, hidden.dtype)
    gradient = jnp.where(wanted, gradient, 0)

    def body(i: jax.Array, carry: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        by_hidden, by_head = carry
        picks = jax.lax.dynamic_slice_in_dim(order, i * chunk, chunk, 1)
        norm = jax.lax.dynamic_slice_in_dim(norms, i * chunk, chunk, 1)
        h = _take(hidden, picks)
        logits = _logits(h, matrix)
        # d log p(t) / d logits = onehot(t) - softmax(logits)
        hot = (
            jax.lax.broadcasted_iota(jnp.int32, logits.shape, 2) == _take(targets, picks)[..., None]
        )
        # Behind the last token, picks point at tokens that had their turn.
        real = i * chunk + jnp.arange(chunk) < gradient.shape[1]
        scale = jnp.where(real, _take(gradient, picks), 0)[..., None]
        by_logits = (scale * (hot - jnp.exp(logits - norm[..., None]))).astype(h.dtype)
        of_hidden = jnp.einsum("gcv,vd->gcd", by_logits, matrix)
        of_head = jnp.einsum("gcv,gcd->vd", by_logits, h, preferred_element_type=jnp.float32)
        return _put(by_hidden, of_hidden, i * chunk), by_head + of_head

    start = (
        jnp.zeros((*order.shape, hidden.shape[-1]), hidden.dtype),
        spread(jnp.zeros(head.shape, jnp.float32), "vocab", None),
    )
    by_hidden, by_head = jax.lax.fori_loop(0, _chunks(wanted, chunk), body, start)
    by_hidden = jnp.where(wanted[..., None], _take(by_hidden, place), 0)
    return by_hidden, by_head.astype(head.dtype), None, None


_grouped.defvjp(_forward, _backward)


def _wanted_first(wanted: jax.Array, chunk: int) -> tuple[jax.Array, jax.Array]:
    """(order [G, n'], place [G, n]): which token comes when, wanted ones first; and its inverse.

    n' is n rounded up to whole chunks; the rest points at tokens again and is never read back.
    """
    order = jnp.argsort(~wanted, axis=-1, stable=True)
    return jnp.pad(order, ((0, 0), (0, -order.shape[1] % chunk))), jnp.argsort(order, axis=-1)


def _chunks(wanted: jax.Array, chunk: int) -> jax.Array:
    """Chunks that the fullest group needs; all go through as many."""
    return -(-jnp.max(jnp.sum(wanted, axis=-1)) // chunk)


def _whole(head: jax.Array, dtype: jnp.dtype) -> jax.Array:
    """The head once for all chunks, whole along D on every device."""
    return spread(head.astype(dtype), "vocab", None)


def _logits(hidden: jax.Array, head: jax.Array) -> jax.Array:
    logits = jnp.einsum("gcd,vd->gcv", hidden, head, preferred_element_type=jnp.float32)
    return spread(logits, "rows", None, "vocab")


def _take(values: jax.Array, index: jax.Array) -> jax.Array:
    """values [G, n, ...] at index [G, m] -> [G, m, ...]."""
    index = index.reshape(*index.shape, *(1,) * (values.ndim - 2))
    return jnp.take_along_axis(values, index, axis=1)


def _put(into: jax.Array, values: jax.Array, start: jax.Array) -> jax.Array:
    return jax.lax.dynamic_update_slice_in_dim(into, values.astype(into.dtype), start, 1)
