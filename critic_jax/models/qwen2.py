"""The Qwen2 decoder (arXiv 2407.10671).

Grouped-query attention with biased q, k, v; SwiGLU; rotary positions.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from critic_jax.models.attention import tree_attention
from critic_jax.models.config import DecoderConfig
from critic_jax.models.int8 import embed
from critic_jax.models.layers import Linear, Remat, RMSNorm, param, scan, stack
from critic_jax.sharding import spread

# The one frequency of head dim 128, theta 1e6, where torch's float32 power is an ulp off the
# rounded exact value. At position 8,829 an ulp here is 1e-3 in the cosine, so torch's constant is
# kept.
_TORCH_FREQUENCY = {(128, 1e6, 37): float.fromhex("0x1.6453f60000000p-12")}


def rope_frequencies(head_dim: int, theta: float) -> np.ndarray:
    """float32 [H / 2], bit for bit what torch computes as 1 / theta ** (arange(0, H, 2) / H)."""
    exponent = np.arange(0, head_dim, 2).astype(np.float32) / np.float32(head_dim)
    power = (np.float64(np.float32(theta)) ** exponent.astype(np.float64)).astype(np.float32)
    frequencies = np.float32(1) / power
    for (dim, base, i), value in _TORCH_FREQUENCY.items():
        if (dim, base) == (head_dim, theta):
            frequencies[i] = value
    return frequencies


def rope_tables(position: jax.Array, head_dim: int, theta: float) -> tuple[jax.Array, jax.Array]:
    """Cosine and sine [..., 1, H / 2] in float32 for integer positions [...]."""
    frequencies = jnp.asarray(rope_frequencies(head_dim, theta))
    angle = position[..., None].astype(jnp.float32) * frequencies
    return jnp.cos(angle)[..., None, :], jnp.sin(angle)[..., None, :]


def rotate(x: jax.Array, cos: jax.Array, sin: jax.Array) -> jax.Array:
    """Rotary embedding of x [..., heads, H], halves layout."""
    a, b = jnp.split(x, 2, axis=-1)
    cos, sin = cos.astype(x.dtype), sin.astype(x.dtype)
    return jnp.concatenate([a * cos - b * sin, b * cos + a * sin], axis=-1)


class DecoderLayer(nnx.Module):
    """One layer, in two halves around attention: training and decoding differ only between them."""

    def __init__(self, config: DecoderConfig, rngs: nnx.Rngs) -> None:
        d, f, h = config.hidden_size, config.ffn_size, config.head_dim
        n, k = config.num_heads, config.num_kv_heads
        self.norm1 = RMSNorm(d, config.norm_eps)
        self.q = Linear((d,), (n, h), ("embed", "heads", "head_dim"), True, rngs)
        self.k = Linear((d,), (k, h), ("embed", "kv_heads", "head_dim"), True, rngs)
        self.v = Linear((d,), (k, h), ("embed", "kv_heads", "head_dim"), True, rngs)
        self.o = Linear((n, h), (d,), ("heads", "head_dim", "embed"), False, rngs)
        self.norm2 = RMSNorm(d, config.norm_eps)
        self.gate = Linear((d,), (f,), ("embed", "ffn"), False, rngs)
        self.up = Linear((d,), (f,), ("embed", "ffn"), False, rngs)
        self.down = Linear((f,), (d,), ("ffn", "embed"), False, rngs)

    def project(
        self, x: jax.Array, cos: jax.Array, sin: jax.Array
    ) -> tuple[jax.Array, jax.Array, jax.Array]:
        """x [B, S, D] -> rotated q [B, S, N, H], rotated k and plain v [B, S, K, H]."""
        h = self.norm1(x)
        q = spread(self.q(h), "rows", None, "heads", None)
        k = spread(self.k(h), "rows", None, "kv_heads", None)
        v = spread(self.v(h), "rows", None, "kv_heads", None)
        return rotate(q, cos, sin), rotate(k, cos, sin), v

    def finish(self, x: jax.Array, attended: jax.Array) -> jax.Array:
        """x [B, S, D] and attention's result [B, S, N, H] -> the layer's output [B, S, D]."""
        # Between the halves each device holds a stretch of tokens, within them a share of the heads
        # or of the ffn: what is added over devices is scattered at once.
        x = x + spread(self.o(attended), "rows", "tokens", None)
        h = self.norm2(x)
        gate, up = (spread(w(h), "rows", None, "ffn") for w in (self.gate, self.up))
        return x + spread(self.down(jax.nn.silu(gate) * up), "rows", "tokens", None)


class Decoder(nnx.Module):
    """Embeddings, stacked layers, final norm, head."""

    def __init__(self, config: DecoderConfig, rngs: nnx.Rngs, remat: Remat = "none") -> None:
        v, d = config.vocab_size, config.hidden_size
        self.config = config
        self.remat: Remat = remat
        # A tied head's first logits then have deviation one. From a fifth of it, a small decoder
        # took three times as many steps to learn whether two tokens are equal.
        start = d**-0.5 * jax.random.normal(rngs.params(), (v, d))
        self.embedding = param(start, ("vocab", "embed"))
        self.layers = stack(lambda r: DecoderLayer(config, r), config.num_layers, rngs)
        self.norm = RMSNorm(d, config.norm_eps)
        self.untied_head = (
            None
            if config.tied_embeddings
            else param(d**-0.5 * jax.random.normal(rngs.params(), (v, d)), ("vocab", "embed"))
        )

    @property
    def head(self) -> Any:
        """[V, D]: the output matrix, which is the embedding where the two are tied."""
        held = self.embedding if self.untied_head is None else self.untied_head
        return held.get_value()

    def embed(self, tokens: jax.Array, dtype: jnp.dtype) -> jax.Array:
        """Word embeddings of tokens [B, S] -> [B, S, D] in `dtype`."""
        return embed(self.embedding.get_value(), tokens, dtype)

    def tables(self, position: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Rotary tables for positions [B, S]."""
        return rope_tables(position, self.config.head_dim, self.config.rope_theta)

    def __call__(
        self, x: jax.Array, position: jax.Array, visible_until: jax.Array
    ) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
        """Embedded rows x [B, S, D] -> normed hidden states [B, S, D], and k, v [L, B, S, K, H].

        Unused keys and values cost nothing: the compiler drops them.
        """
        cos, sin = self.tables(position)

        def step(layer: DecoderLayer, x: jax.Array) -> tuple[jax.Array, Any]:
            q, k, v = layer.project(x, cos, sin)
            return layer.finish(x, tree_attention(q, k, v, visible_until)), (k, v)

        x, cache = scan(self.layers, spread(x, "rows", "tokens", None), step, self.remat)
        return self.norm(x), cache
