"""Weights in eight bits: a code for each, and a scale for each output channel.

qwix makes and holds them. A scale is the largest weight of its channel over 127.5, and each weight
is at most half a scale off. Products are those of the codes, scaled afterwards: nothing is lost but
by that rounding, and activations stay as they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import qwix

from critic_jax.models import nf4
from critic_jax.models.embedding import embed_tokens


def quantize(values: jax.Array, inputs: Sequence[int]) -> qwix.QArray:
    """values in eight bits, with a scale in float32 for each place of all axes but `inputs`; the
    scales keep those, of size 1.
    """
    channels = [axis for axis in range(values.ndim) if axis not in inputs]
    return qwix.quantize(
        values.astype(jnp.float32), "int8", channelwise_axes=channels, scale_dtype=jnp.float32
    )


def is_int8(values: Any) -> bool:
    """Whether these are weights that `quantize` made."""
    return isinstance(values, qwix.QArray) and values.qvalue.dtype == jnp.int8


def product(x: jax.Array, kernel: Any, contracted: int) -> jax.Array:
    """x times a kernel over the last `contracted` dimensions of x; the kernel in eight bits, in
    four (`nf4.product`) or neither.
    """
    if not is_int8(kernel):
        return nf4.product(x, kernel, contracted)
    y = nf4.product(x, kernel.qvalue.astype(x.dtype), contracted)
    return y * jnp.squeeze(kernel.scale, tuple(range(contracted))).astype(x.dtype)


def embed(table: Any, tokens: jax.Array, dtype: jnp.dtype) -> jax.Array:
    """`embed_tokens` of a table [V, D] in eight bits or not."""
    if not is_int8(table):
        return embed_tokens(table, tokens, dtype)
    codes = embed_tokens(table.qvalue, tokens, dtype)
    return codes * table.scale[tokens].astype(dtype)


def logits(hidden: jax.Array, head: Any) -> jax.Array:
    """Hidden states [..., D] times a head [V, D], in eight bits or not -> float32 [..., V]."""
    rows = head.qvalue if is_int8(head) else head
    found = jnp.einsum(
        "...d,vd->...v", hidden, rows.astype(hidden.dtype), preferred_element_type=jnp.float32
    )
    return found * head.scale[:, 0] if is_int8(head) else found
