"""Token log-probabilities over a large vocabulary, without the logits of a whole row in memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import jax
import jax.numpy as jnp

from critic_jax.sharding import mesh_size, spread

Arrays = tuple[jax.Array, ...]

CHUNK, CPU_CHUNK = 1024, 256
"""Tokens whose logits [CHUNK, V] are in memory at a time, on each device that holds rows. A CPU has
no matrix unit to fill, and is slow at getting new memory. What remains goes by quarters of it."""


def token_logprobs(
    hidden: jax.Array,
    head: jax.Array,
    targets: jax.Array,
    wanted: jax.Array | None = None,
    chunk: int | None = None,
) -> jax.Array:
    """log p(targets) in float32: hidden [B, S, D], head [V, D], targets int [B, S] -> [B, S].

    `wanted` [B, S] is true where it is needed; elsewhere the result is 0. Only those tokens are
    worked on, `chunk` at a time, forward and backward: what is not supervised costs nothing, and
    [chunk, V] float32 logits are the largest array.
    """
    wanted = jnp.ones(targets.shape, bool) if wanted is None else wanted
    flat, *others = _in_groups(hidden, targets, wanted)
    return _grouped(chunk, flat, head, *others).reshape(targets.shape)


def weighted_logprobs(
    hidden: jax.Array,
    head: jax.Array,
    targets: jax.Array,
    weights: jax.Array,
    chunk: int | None = None,
) -> jax.Array:
    """The sum of weights times log p(targets), float32: arrays as above, weights [B, S] -> [].

    A sum's gradient is known as soon as the logits are, so under differentiation these are computed
    once, where `token_logprobs` needs them again in the backward pass. No gradient by weights.
    """
    flat, *others = _in_groups(hidden, targets, weights)
    return _weighted(chunk, flat, head, *others)


def _in_groups(hidden: jax.Array, *of_tokens: jax.Array) -> Iterator[jax.Array]:
    """Rows on one device are worked on together; on a mesh, each device finds tokens of its own."""
    groups = mesh_size("data", "fsdp")
    groups = groups if len(hidden) % groups == 0 else 1
    yield spread(hidden, "rows", None, None).reshape(groups, -1, hidden.shape[-1])
    for values in of_tokens:
        yield values.reshape(groups, -1)


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _grouped(
    chunk: int | None, hidden: jax.Array, head: jax.Array, targets: jax.Array, wanted: jax.Array
) -> jax.Array:
    """hidden [G, n, D], head [V, D], targets and wanted [G, n] -> log-probabilities [G, n]."""
    return _forward(chunk, hidden, head, targets, wanted)[0]


def _forward(
    chunk: int | None, hidden: jax.Array, head: jax.Array, targets: jax.Array, wanted: jax.Array
) -> tuple[jax.Array, Arrays]:
    arrays = (hidden, head, targets, wanted)
    logprobs, norms = _on_platform(chunk, _logprobs, arrays)
    return logprobs, (*arrays, norms)


def _backward(
    chunk: int | None, saved: Arrays, gradient: jax.Array
) -> tuple[jax.Array, jax.Array, None, None]:
    by_hidden, by_head = _on_platform(chunk, _gradients, (*saved, gradient))
    return by_hidden, by_head, None, None


_grouped.defvjp(_forward, _backward)


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _weighted(
    chunk: int | None, hidden: jax.Array, head: jax.Array, targets: jax.Array, weights: jax.Array
) -> jax.Array:
    """hidden [G, n, D], head [V, D], targets and weights [G, n] -> the sum."""
    return jnp.sum(weights * _grouped(chunk, hidden, head, targets, weights != 0))


def _weighted_forward(
    chunk: int | None, hidden: jax.Array, head: jax.Array, targets: jax.Array, weights: jax.Array
) -> tuple[jax.Array, Arrays]:
    arrays = (hidden, head, targets, weights != 0, weights)
    logprobs, *gradients = _on_platform(chunk, _with_gradients, arrays)
    return jnp.sum(weights * logprobs), tuple(gradients)


def _weighted_backward(
    chunk: int | None, gradients: Arrays, by_sum: jax.Array
) -> tuple[jax.Array, jax.Array, None, None]:
    by_hidden, by_head = (g * by_sum.astype(g.dtype) for g in gradients)
    return by_hidden, by_head, None, None


_weighted.defvjp(_weighted_forward, _weighted_backward)


def _on_platform(chunk: int | None, work: Callable[..., Arrays], arrays: Arrays) -> Arrays:
    tokens = arrays[0].shape[1]
    if chunk is not None:
        return work(min(chunk, tokens), *arrays)
    cpu, default = (partial(work, min(size, tokens)) for size in (CPU_CHUNK, CHUNK))
    return jax.lax.platform_dependent(*arrays, cpu=cpu, default=default)


def _logprobs(
    chunk: int, hidden: jax.Array, head: jax.Array, targets: jax.Array, wanted: jax.Array
) -> Arrays:
    """Log-probabilities and the logarithms of what they are divided by, both [G, n]."""
    order, place = _wanted_first(wanted, chunk)
    matrix = _whole(head, hidden.dtype)

    def body(start: jax.Array, size: int, found: Arrays) -> Arrays:
        picks = jax.lax.dynamic_slice_in_dim(order, start, size, 1)
        logits = _logits(_take(hidden, picks), matrix)
        norm = jax.nn.logsumexp(logits, axis=-1)
        picked = jnp.take_along_axis(logits, _take(targets, picks)[..., None], axis=-1)[..., 0]
        return _put(found[0], picked - norm, start), _put(found[1], norm, start)

    empty = jnp.zeros(order.shape, jnp.float32)
    logprobs, norms = (_take(x, place) for x in _in_chunks(wanted, chunk, body, (empty, empty)))
    return jnp.where(wanted, logprobs, 0), norms


def _gradients(
    chunk: int,
    hidden: jax.Array,
    head: jax.Array,
    targets: jax.Array,
    wanted: jax.Array,
    norms: jax.Array,
    gradient: jax.Array,
) -> Arrays:
    """By hidden and by head, from those by log-probabilities [G, n]."""
    return _with_gradients(chunk, hidden, head, targets, wanted, gradient, norms)[1:]


def _with_gradients(
    chunk: int,
    hidden: jax.Array,
    head: jax.Array,
    targets: jax.Array,
    wanted: jax.Array,
    gradient: jax.Array,
    norms: jax.Array | None = None,
) -> Arrays:
    """Log-probabilities and their gradients by hidden and by head, from those by the former.

    `norms`, where they are known, spare a pass over the logits.
    """
    order, place = _wanted_first(wanted, chunk)
    matrix = _whole(head, hidden.dtype)
    gradient = jnp.where(wanted, gradient, 0)

    def body(start: jax.Array, size: int, found: Arrays) -> Arrays:
        logprobs, by_hidden, by_head = found
        picks = jax.lax.dynamic_slice_in_dim(order, start, size, 1)
        h = _take(hidden, picks)
        logits = _logits(h, matrix)
        target = _take(targets, picks)[..., None]
        norm = jax.nn.logsumexp(logits, axis=-1) if norms is None else _take(norms, picks)
        picked = jnp.take_along_axis(logits, target, axis=-1)[..., 0]
        # d log p(t) / d logits = onehot(t) - softmax(logits)
        hot = jax.lax.broadcasted_iota(jnp.int32, logits.shape, 2) == target
        # Behind the last token, picks point at tokens that had their turn.
        real = start + jnp.arange(size) < gradient.shape[1]
        scale = jnp.where(real, _take(gradient, picks), 0)[..., None]
        softmax = jnp.exp(logits - norm[..., None])
        by_logits = (scale * (hot - softmax)).astype(h.dtype)
        of_hidden = jnp.einsum("gcv,vd->gcd", by_logits, matrix)
        of_head = jnp.einsum("gcv,gcd->vd", by_logits, h, preferred_element_type=jnp.float32)
        logprobs = _put(logprobs, picked - norm, start)
        return logprobs, _put(by_hidden, of_hidden, start), by_head + of_head

    start = (
        jnp.zeros(order.shape, jnp.float32),
        jnp.zeros((*order.shape, hidden.shape[-1]), hidden.dtype),
        spread(jnp.zeros(head.shape, jnp.float32), "vocab", None),
    )
    logprobs, by_hidden, by_head = _in_chunks(wanted, chunk, body, start)
    logprobs = jnp.where(wanted, _take(logprobs, place), 0)
    by_hidden = jnp.where(wanted[..., None], _take(by_hidden, place), 0)
    return logprobs, by_hidden, by_head.astype(head.dtype)


def _wanted_first(wanted: jax.Array, chunk: int) -> tuple[jax.Array, jax.Array]:
    """(order [G, n'], place [G, n]): which token comes when, wanted ones first; and its inverse.

    n' has room for a last chunk; the rest points at tokens again and is never read back.
    """
    order = jnp.argsort(~wanted, axis=-1, stable=True)
    return jnp.pad(order, ((0, 0), (0, chunk))), jnp.argsort(order, axis=-1)


def _in_chunks(
    wanted: jax.Array, chunk: int, body: Callable[[jax.Array, int, Arrays], Arrays], found: Arrays
) -> Arrays:
    """body(start, size, found so far), until the fullest group is through; all go along."""
    count = jnp.max(jnp.sum(wanted, axis=-1))
    small = -(-chunk // 4)
    whole = count // chunk
    found = jax.lax.fori_loop(0, whole, lambda i, f: body(i * chunk, chunk, f), found)
    first = whole * chunk
    rest = -(-(count - first) // small)
    return jax.lax.fori_loop(0, rest, lambda i, f: body(first + i * small, small, f), found)


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
