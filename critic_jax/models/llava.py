"""LLaVA-OneVision: tower, projector, newline vector and decoder (arXiv 2408.03326).

Letters: B rows, S tokens, T tiles a row, P patches a tile, D decoder width, L layers, K kv heads,
H head dim.
"""

from __future__ import annotations

from collections.abc import Mapping

import jax
import jax.numpy as jnp
from flax import nnx

from critic_jax.models.config import ModelConfig
from critic_jax.models.int8 import logits
from critic_jax.models.layers import Linear, Remat, param
from critic_jax.models.qwen2 import Decoder
from critic_jax.models.siglip import Tower
from critic_jax.sharding import spread

FLOAT32 = jnp.dtype(jnp.float32)


class Projector(nnx.Module):
    """Two linear layers with the exact (erf) GELU between; the tower's is the tanh one."""

    def __init__(self, tower_width: int, width: int, rngs: nnx.Rngs) -> None:
        self.fc1 = Linear((tower_width,), (width,), (None, "embed"), True, rngs)
        self.fc2 = Linear((width,), (width,), (None, "embed"), True, rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.fc2(jax.nn.gelu(self.fc1(x), approximate=False))


class Llava(nnx.Module):
    """The model. Parameters are created in float32; it computes in `dtype`.

    `remat`: what a backward pass computes again instead of keeping it (see `layers.scan`).
    """

    def __init__(
        self,
        config: ModelConfig,
        rngs: nnx.Rngs,
        dtype: jnp.dtype = FLOAT32,
        remat: Remat = "none",
    ) -> None:
        d = config.decoder.hidden_size
        self.config = config
        self.dtype = jnp.dtype(dtype)
        self.tower = Tower(config.tower, rngs, remat)
        self.projector = Projector(config.tower.hidden_size, d, rngs)
        self.newline = param(d**-0.5 * jax.random.normal(rngs.params(), (d,)), ("embed",))
        self.decoder = Decoder(config.decoder, rngs, remat)

    def feature_table(self, tiles: jax.Array) -> jax.Array:
        """uint8 tiles [B, T, tile, tile, 3] -> [B, 1 + T*P, D].

        Row 0 is the newline vector, then every patch of every tile.
        """
        b, t = tiles.shape[:2]
        with jax.named_scope("tower"):
            features = self.tower(tiles.reshape(-1, *tiles.shape[2:]), self.dtype)
        with jax.named_scope("projector"):
            features = spread(self.projector(features), "tiles", None, None)
            features = features.reshape(b, t * self.config.tower.patches, -1)
            features = spread(features, "rows", None, "width")
        newline = jnp.broadcast_to(self.newline[...].astype(self.dtype), (b, 1, features.shape[-1]))
        return spread(jnp.concatenate([newline, features], axis=1), "rows", None, "width")

    def embed(self, batch: Mapping[str, jax.Array]) -> jax.Array:
        """Input vectors [B, S, D] of packed rows.

        Word embeddings, and at visual tokens weighted sums of rows of the feature table.
        """
        tiles = batch["tiles"]
        return self.embed_with(self.feature_table(tiles) if tiles.shape[1] else None, batch)

    def embed_with(self, table: jax.Array | None, batch: Mapping[str, jax.Array]) -> jax.Array:
        """The same with a feature table [B, 1 + T*P, D] made before; None where all is text."""
        text = self.decoder.embed(batch["tokens"], self.dtype)
        if table is None:
            return text
        index, weight = batch["tap_index"], batch["tap_weight"]
        visual = jnp.zeros((*text.shape[:2], table.shape[-1]), self.dtype)
        # The table is spread along D, so that each device gathers on its own.
        visual = spread(visual, "rows", None, "width")
        # Tap by tap: a [B, S, 4, D] array would be the largest of the whole step.
        for tap in range(4):
            rows = jnp.take_along_axis(table, index[..., tap, None], axis=1)
            visual = visual + rows * weight[..., tap, None].astype(self.dtype)
        visual = spread(visual, "rows", "tokens", None)
        return jnp.where(jnp.any(weight != 0, axis=-1)[..., None], visual, text)

    def __call__(
        self, batch: Mapping[str, jax.Array]
    ) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
        """Packed rows -> hidden states [B, S, D], and keys and values [L, B, S, K, H].

        `batch` holds the arrays of `critic_jax.tree.Row`, stacked over B.
        """
        x = self.embed(batch)
        with jax.named_scope("decoder"):
            return self.decoder(x, batch["position"], batch["visible_until"])

    def logits(self, hidden: jax.Array) -> jax.Array:
        """Hidden states [..., D] -> logits [..., V] in float32."""
        return logits(hidden, self.decoder.head)
