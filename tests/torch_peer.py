"""A random LLaVA-OneVision of transformers in float32, small in width and true in geometry."""

from pathlib import Path

import torch
from tiny_critic import tiny_tokenizer
from transformers import LlavaOnevisionConfig, LlavaOnevisionForConditionalGeneration

from critic_jax.checkpoints.huggingface import HuggingFaceFolder, read_params
from critic_jax.models.build import Params
from critic_jax.sharding import make_mesh
from critic_jax.text import ChatTokenizer

IMAGE, VIDEO, VOCABULARY = 498, 499, 500


def make_peer(
    tied: bool, heads: int = 4, head_dim: int = 16, tile: int = 384
) -> LlavaOnevisionForConditionalGeneration:
    """Real tiles, patches and rope base; weights so wide that a wrong GELU or epsilon shows.

    With tiles of another size, a picture has at most two beside the first.
    """
    grids = {} if tile == 384 else {"image_grid_pinpoints": [[tile, tile], [2 * tile, tile]]}
    config = LlavaOnevisionConfig(
        text_config={
            "model_type": "qwen2",
            "vocab_size": VOCABULARY,
            "hidden_size": heads * head_dim,
            "intermediate_size": 96,
            "num_hidden_layers": 2,
            "num_attention_heads": heads,
            "num_key_value_heads": heads // 2,
            "rope_theta": 1e6,
            "tie_word_embeddings": tied,
        },
        vision_config={
            "model_type": "siglip_vision_model",
            "hidden_size": 36,
            "intermediate_size": 48,
            "num_attention_heads": 2,
            "num_hidden_layers": 2,
            "image_size": tile,
            "patch_size": 14,
            "vision_use_head": False,
        },
        image_token_index=IMAGE,
        video_token_index=VIDEO,
        tie_word_embeddings=tied,
        **grids,
    )
    torch.manual_seed(0)
    model = LlavaOnevisionForConditionalGeneration(config).eval()
    with torch.no_grad():
        for name, tensor in model.named_parameters():
            if "norm" in name and name.endswith("weight"):
                tensor.normal_(1.0, 0.2)
            elif name.endswith("bias"):
                tensor.normal_(0.0, 0.2)
            elif "embed" in name or "position" in name:
                tensor.normal_(0.0, 0.5)
            else:
                tensor.normal_(0.0, 1.5 * tensor[0].numel() ** -0.5)
    return model


def peer_tokenizer() -> ChatTokenizer:
    """One whose `<image>` is the peer's; the row after it is left for `<video>`."""
    return tiny_tokenizer(IMAGE + 1)


def read_peer(folder: Path) -> tuple[HuggingFaceFolder, Params]:
    """A Hugging Face folder and its parameters, as our loader reads them."""
    read = HuggingFaceFolder(folder)
    return read, read_params(read, make_mesh())


def save_peer(model: LlavaOnevisionForConditionalGeneration, folder: Path) -> Path:
    """The peer as a Hugging Face folder."""
    model.save_pretrained(folder)
    return folder
