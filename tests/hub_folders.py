"""Hugging Face folders of random weights, in any layout, family, type and number of files."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file, save_file
from torch_peer import IMAGE, make_peer, peer_tokenizer

from critic_jax.checkpoints.blocks import shapes
from critic_jax.checkpoints.weights import LAYOUTS, weights
from critic_jax.models.config import DecoderConfig, ModelConfig, TowerConfig

Tensors = dict[str, np.ndarray]

# Sizes of torch_peer's model; heads, layers and widths all differ, so that none passes for another.
TOWER = TowerConfig(36, 48, 2, 3, tile_size=384, patch_size=14)


def small_model(tied: bool, rows: int = 500) -> ModelConfig:
    """A few thousand parameters and a vocabulary of `rows`."""
    return ModelConfig(DecoderConfig(rows, 64, 96, 2, 4, 2, 16, tied_embeddings=tied), TOWER)


def random_tensors(config: ModelConfig, layout: str, dtype: Any, seed: int = 0) -> Tensors:
    """Every tensor of a model, by its name in a layout."""
    rng, found = np.random.default_rng(seed), shapes(config)
    tensors = {}
    for weight in weights(config):
        stored = weight.stored_shape(weight.each(found[weight.path]))
        for key in weight.keys(LAYOUTS[layout]):
            tensors[key] = rng.normal(0, 0.2, stored).astype(dtype)
    return tensors


def config_json(config: ModelConfig, family: str, dtype: str) -> dict[str, Any]:
    """A config as the family's own code writes it, with a field that we know nothing of."""
    c, t = config.decoder, config.tower
    text = {
        "vocab_size": c.vocab_size,
        "hidden_size": c.hidden_size,
        "intermediate_size": c.ffn_size,
        "num_hidden_layers": c.num_layers,
        "num_attention_heads": c.num_heads,
        "num_key_value_heads": c.num_kv_heads,
        "rope_theta": 1e6,
        "rms_norm_eps": 1e-6,
        "tie_word_embeddings": c.tied_embeddings,
    }
    if family == "original":
        return {
            **text,
            "architectures": ["LlavaQwenForCausalLM"],
            "model_type": "qwen2",
            "torch_dtype": dtype,
            "image_aspect_ratio": "anyres_max_9",
            "image_grid_pinpoints": [[384 * w, 384 * h] for w in (1, 2, 3) for h in (1, 2)],
            "mm_patch_merge_type": "spatial_unpad",
            "mm_projector_type": "mlp2x_gelu",
            "mm_vision_tower": "custom",
            "mm_vision_sizes": {
                "hidden_size": t.hidden_size,
                "ffn_size": t.ffn_size,
                "num_heads": t.num_heads,
                "num_layers": t.num_layers,
                "tile_size": t.tile_size,
                "patch_size": t.patch_size,
            },
            "faster_token_stride": 10,
        }
    values = make_peer(c.tied_embeddings).config.to_dict()
    values["vision_config"]["num_hidden_layers"] = t.num_layers
    values["text_config"] |= text
    values |= {"dtype": dtype, "image_token_index": IMAGE, "note": "ours"}
    values["image_grid_pinpoints"] = [[384 * h, 384 * w] for w in (1, 2, 3) for h in (1, 2)]
    return values


def write_folder(
    folder: Path, config: ModelConfig, layout: str, dtype: str, files: int = 1
) -> Tensors:
    """Write a model; its config is of the family that the layout belongs to."""
    import ml_dtypes

    kind = ml_dtypes.bfloat16 if dtype == "bfloat16" else np.dtype(dtype)
    tensors = random_tensors(config, layout, kind)
    family = "original" if layout == "original" else "hf"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config_json(config, family, dtype)))
    (folder / "generation_config.json").write_text(
        json.dumps({"do_sample": True, "temperature": 0.7, "repetition_penalty": 1.05})
    )
    peer_tokenizer().save(folder)
    names = sorted(tensors)
    if files == 1:
        save_file(tensors, folder / "model.safetensors")
        return tensors
    where = {}
    for n in range(files):
        file = f"model-{n + 1:05}-of-{files:05}.safetensors"
        save_file({k: tensors[k] for k in names[n::files]}, folder / file)
        where |= dict.fromkeys(names[n::files], file)
    index = {"metadata": {}, "weight_map": where}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    return tensors


def read_folder(folder: Path) -> Tensors:
    """All tensors of a folder, whatever the number of its files."""
    tensors: Tensors = {}
    for file in folder.glob("*.safetensors"):
        tensors |= load_file(file)
    return tensors


def assert_same_bits(ours: Tensors, expected: Tensors) -> None:
    """Names, types, shapes and every bit."""
    assert set(ours) == set(expected)
    for name, tensor in expected.items():
        found = ours[name]
        assert (found.dtype, found.shape) == (tensor.dtype, tensor.shape), name
        assert found.tobytes() == tensor.tobytes(), name


def renamed(tensors: Tensors, config: ModelConfig, old: str, new: str) -> Tensors:
    """The tensors under the names of another layout."""
    names = {
        a: b
        for w in weights(config)
        for a, b in zip(w.keys(LAYOUTS[old]), w.keys(LAYOUTS[new]), strict=True)
    }
    assert set(names) == set(tensors)
    return {names[name]: tensor for name, tensor in tensors.items()}
