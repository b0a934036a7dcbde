"""Sizes of the model, with presets.

Letters: D model, N heads, K kv heads, H head dim, F ffn, V vocab.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True)
class TowerConfig:
    """SigLIP vision tower, of which `num_layers` are kept.

    Features are the last kept layer's output, before the post-norm.
    """

    hidden_size: int = 1152
    ffn_size: int = 4304
    num_heads: int = 16
    num_layers: int = 26
    tile_size: int = 384
    patch_size: int = 14
    norm_eps: float = 1e-6

    @property
    def head_dim(self) -> int:
        """H: 72 in the released tower."""
        return self.hidden_size // self.num_heads

    @property
    def side(self) -> int:
        """Patches along one edge; the pixels that don't fill a patch are never seen."""
        return self.tile_size // self.patch_size

    @property
    def patches(self) -> int:
        """P: 729 in the released tower."""
        return self.side**2


@dataclass(frozen=True)
class DecoderConfig:
    """Qwen2 decoder. `vocab_size` counts the stored rows; a tokenizer may use fewer."""

    vocab_size: int
    hidden_size: int
    ffn_size: int
    num_layers: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    rope_theta: float = 1e6
    norm_eps: float = 1e-6
    tied_embeddings: bool = False


@dataclass(frozen=True)
class ModelConfig:
    """A whole LLaVA-OneVision: tower, two-layer projector, decoder."""

    decoder: DecoderConfig
    tower: TowerConfig = field(default_factory=TowerConfig)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> ModelConfig:
        """The inverse of `to_dict`."""
        return cls(DecoderConfig(**values["decoder"]), TowerConfig(**values["tower"]))


def tiny(vocab_size: int = 512) -> ModelConfig:
    """About 0.1 M parameters at 16-pixel tiles: for tests, and for trying a loop."""
    decoder = DecoderConfig(vocab_size, 64, 128, 2, 4, 2, 16, tied_embeddings=True)
    return ModelConfig(decoder, TowerConfig(48, 96, 4, 2, tile_size=16, patch_size=4))


def onevision_0p5b() -> ModelConfig:
    """LLaVA-OneVision 0.5B: 893,618,208 parameters. No critic of this size was released."""
    return ModelConfig(DecoderConfig(151936, 896, 4864, 24, 14, 2, 64, tied_embeddings=True))


def onevision_7b() -> ModelConfig:
    """LLaVA-OneVision and LLaVA-Critic 7B: 8,030,348,832 parameters."""
    return ModelConfig(DecoderConfig(152064, 3584, 18944, 28, 28, 4, 128))


def onevision_72b() -> ModelConfig:
    """LLaVA-OneVision and LLaVA-Critic 72B: 73,180,522,016 parameters."""
    return ModelConfig(DecoderConfig(152064, 8192, 29568, 80, 64, 8, 128))


PRESETS = {"tiny": tiny, "0.5b": onevision_0p5b, "7b": onevision_7b, "72b": onevision_72b}
