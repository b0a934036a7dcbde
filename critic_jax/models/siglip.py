"""The SigLIP vision tower (Zhai et al. 2023, arXiv 2303.15343), cut as LLaVA-OneVision cuts it.

Features are the output of the last kept layer, before the post-norm. The post-norm's weights
stay in the model so that a checkpoint comes back whole; they touch nothing and get no gradient.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import nnx

from critic_jax.models.attention import full_attention
from critic_jax.models.config import TowerConfig
from critic_jax.models.layers import LayerNorm, Linear, Remat, param, scan, stack
from critic_jax.sharding import spread


class TowerLayer(nnx.Module):
    """Pre-norm transformer layer with full attention and a tanh-GELU MLP."""

    def __init__(self, config: TowerConfig, rngs: nnx.Rngs) -> None:
        d, n, h, f = config.hidden_size, config.num_heads, config.head_dim, config.ffn_size
        self.norm1 = LayerNorm(d, config.norm_eps)
        self.q = Linear((d,), (n, h), ("embed", "heads", "head_dim"), True, rngs)
        self.k = Linear((d,), (n, h), ("embed", "heads", "head_dim"), True, rngs)
        self.v = Linear((d,), (n, h), ("embed", "heads", "head_dim"), True, rngs)
        self.o = Linear((n, h), (d,), ("heads", "head_dim", "embed"), True, rngs)
        self.norm2 = LayerNorm(d, config.norm_eps)
        self.fc1 = Linear((d,), (f,), ("embed", "ffn"), True, rngs)
        self.fc2 = Linear((f,), (d,), ("ffn", "embed"), True, rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        """x [T, P, D] -> [T, P, D]."""
        # No tile needs another: tiles are spread over all devices, and weights come to them.
        h = self.norm1(x)
        q, k, v = (spread(w(h), "tiles", None, None, None) for w in (self.q, self.k, self.v))
        x = x + spread(self.o(full_attention(q, k, v)), "tiles", None, None)
        h = spread(self.fc1(self.norm2(x)), "tiles", None, None)
        return x + spread(self.fc2(jax.nn.gelu(h, approximate=True)), "tiles", None, None)


class Tower(nnx.Module):
    """Tiles of pixels to patch features."""

    def __init__(self, config: TowerConfig, rngs: nnx.Rngs, remat: Remat = "none") -> None:
        d, size = config.hidden_size, config.patch_size
        self.config = config
        self.remat: Remat = remat
        self.patch = Linear((3 * size * size,), (d,), ("patch", "embed"), True, rngs)
        table = jax.random.normal(rngs.params(), (config.patches, d)) * d**-0.5
        self.position = param(table, ("position", "embed"))
        self.layers = stack(lambda r: TowerLayer(config, r), config.num_layers, rngs)
        self.post_norm = LayerNorm(d, config.norm_eps)

    def __call__(self, tiles: jax.Array, dtype: jnp.dtype) -> jax.Array:
        """tiles uint8 [T, tile, tile, 3] -> features [T, P, D] in `dtype`."""
        pixels = spread(self.patchify(tiles).astype(dtype), "tiles", None, None)
        x = spread(self.patch(pixels) + self.position[...].astype(dtype), "tiles", None, None)
        # Kept activations of a tile are small; the host's memory would gain nothing.
        remat: Remat = "block" if self.remat == "offload" else self.remat
        x, _ = scan(self.layers, x, lambda layer, h: (layer(h), None), remat)
        return x

    def patchify(self, tiles: jax.Array) -> jax.Array:
        """Normalised patches [T, P, 3 * patch * patch] in float32.

        Channels come first, as in the convolution's kernel.
        """
        side, size = self.config.side, self.config.patch_size
        # 1/255, then mean 0.5 and deviation 0.5: the same float32 steps as the reference.
        pixels = (tiles.astype(jnp.float32) * jnp.float32(1 / 255) - 0.5) / 0.5
        pixels = pixels[:, : side * size, : side * size]
        pixels = pixels.reshape(-1, side, size, side, size, 3).transpose(0, 1, 3, 5, 2, 4)
        return pixels.reshape(-1, side * side, 3 * size * size)
