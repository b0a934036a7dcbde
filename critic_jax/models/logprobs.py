"""Token log-probabilities over a large vocabulary, without the logits of a whole row in memory."""

from __future__ import annotations

import jax
import jax.numpy as jnp


def token_logprobs(
    hidden: jax.Array, head: jax.Array, targets: jax.Array, chunk: int = 1024
) -> jax.Array:
    """log p(targets) in float32: hidden [..., D], head [V, D], targets int [...] -> [...].

    Works on `chunk` tokens at a time, forward and backward: [chunk, V] float32 logits are the
    largest array.
    """
    flat, wanted = hidden.reshape(-1, hidden.shape[-1]), targets.reshape(-1)
    head = head.astype(hidden.dtype)
    count = flat.shape[0]
    chunk = min(chunk, count)
    padding = -count % chunk
    flat = jnp.pad(flat, ((0, padding), (0, 0))).reshape(-1, chunk, flat.shape[-1])
    wanted = jnp.pad(wanted, (0, padding)).reshape(-1, chunk)

    @jax.checkpoint
    def of_chunk(pair: tuple[jax.Array, jax.Array]) -> jax.Array:
        h, t = pair
        logits = jnp.einsum("cd,vd->cv", h, head, preferred_element_type=jnp.float32)
        picked = jnp.take_along_axis(logits, t[:, None], axis=-1)[:, 0]
        return picked - jax.nn.logsumexp(logits, axis=-1)

    return jax.lax.map(of_chunk, (flat, wanted)).reshape(-1)[:count].reshape(targets.shape)
