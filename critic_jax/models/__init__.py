"""The model in Flax NNX: SigLIP tower, projector, Qwen2 decoder.

Knows no files, tokens or training.
"""

from critic_jax.models.attention import tree_attention
from critic_jax.models.config import PRESETS, DecoderConfig, ModelConfig, TowerConfig
from critic_jax.models.llava import Llava
from critic_jax.models.logprobs import token_logprobs

__all__ = [
    "PRESETS",
    "DecoderConfig",
    "Llava",
    "ModelConfig",
    "TowerConfig",
    "token_logprobs",
    "tree_attention",
]
