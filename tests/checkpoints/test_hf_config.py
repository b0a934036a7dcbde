"""The configs of both families, and one clear line for each that is of another model."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
from torch_peer import make_peer

from critic_jax.checkpoints.blocks import shapes
from critic_jax.checkpoints.hf_config import read_config
from critic_jax.errors import InputError
from critic_jax.imaging import ImageGeometry
from critic_jax.models.config import DecoderConfig, ModelConfig, TowerConfig, onevision_7b

# What LLaVA-OneVision 7B's config.json holds, sizes and picture settings.
LMMS_7B: dict[str, Any] = {
    "architectures": ["LlavaQwenForCausalLM"],
    "hidden_size": 3584,
    "intermediate_size": 18944,
    "num_hidden_layers": 28,
    "num_attention_heads": 28,
    "num_key_value_heads": 4,
    "vocab_size": 152064,
    "tie_word_embeddings": False,
    "rope_theta": 1000000.0,
    "rms_norm_eps": 1e-06,
    "image_aspect_ratio": "anyres_max_9",
    "image_grid_pinpoints": [[384 * w, 384 * h] for w in range(1, 7) for h in range(1, 7)],
    "mm_vision_tower": "google/siglip-so400m-patch14-384",
    "mm_vision_select_layer": -2,
    "mm_hidden_size": 1152,
    "torch_dtype": "bfloat16",
}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{not json", "not valid JSON"),
        ('"text"', "a JSON object is expected, found str"),
        ("{}", "field 'mm_vision_tower' is missing"),
        ('{"text_config": {}, "vision_config": {}}', "is missing"),
        ('{"text_config": null, "vision_config": null}', "not the config of a LLaVA-OneVision"),
        (json.dumps(LMMS_7B | {"mm_vision_tower": "openai/clip-vit"}), "only siglip-so400m"),
        (json.dumps({**LMMS_7B, "hidden_size": None}), "not the config of a LLaVA-OneVision"),
        (json.dumps(LMMS_7B | {"image_aspect_ratio": "anyres_max_x"}), "not the config of"),
    ],
)
def test_a_wrong_config_is_named(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "config.json"
    path.write_text(text)
    with pytest.raises(InputError, match=f"{path}: .*{said}"):
        read_config(tmp_path)


# lmms-lab's uploads say "llava", so that serving code finds them; training writes "qwen2".
@pytest.mark.parametrize("model_type", ["llava", "qwen2"])
def test_the_config_of_an_original_checkpoint(tmp_path: Path, model_type: str) -> None:
    (tmp_path / "config.json").write_text(json.dumps(LMMS_7B | {"model_type": model_type}))
    config, geometry = read_config(tmp_path)
    assert config == onevision_7b()
    assert config.decoder == DecoderConfig(152064, 3584, 18944, 28, 28, 4, 128)
    assert config.tower == TowerConfig(1152, 4304, 16, 26, 384, 14)
    assert geometry == ImageGeometry(unpad="original")
    assert sum(map(math.prod, shapes(config).values())) == 8_030_348_832


def test_a_tied_original_config_with_other_pinpoints(tmp_path: Path) -> None:
    changed = {
        "tie_word_embeddings": True,
        "image_grid_pinpoints": [[384, 768], [768, 384]],
        "image_aspect_ratio": "anyres_max_4",
    }
    (tmp_path / "config.json").write_text(json.dumps(LMMS_7B | changed))
    config, geometry = read_config(tmp_path)
    assert config.decoder.tied_embeddings
    # The original code lists (width, height), as ours does; transformers lists (height, width).
    assert geometry.pinpoints == ((384, 768), (768, 384))
    assert geometry.max_grid_tiles == 4


@pytest.fixture
def peer_config(tmp_path: Path) -> dict[str, Any]:
    """What transformers writes for a small model."""
    make_peer(tied=False).config.save_pretrained(tmp_path)
    return json.loads((tmp_path / "config.json").read_text())


def read(folder: Path, values: dict[str, Any]) -> tuple[ModelConfig, ImageGeometry]:
    (folder / "config.json").write_text(json.dumps(values))
    return read_config(folder)


def test_transformers_pinpoints_are_turned_round(
    tmp_path: Path, peer_config: dict[str, Any]
) -> None:
    peer_config["image_grid_pinpoints"] = [[384, 768], [1152, 384]]
    _, geometry = read(tmp_path, peer_config)
    assert geometry.pinpoints == ((768, 384), (384, 1152))
    assert geometry.unpad == "hf"


def test_the_layers_of_the_tower_that_are_kept(tmp_path: Path, peer_config: dict[str, Any]) -> None:
    peer_config["vision_config"]["num_hidden_layers"] = 27
    for layer, kept in [(-1, 27), (-2, 26), (20, 20)]:
        config, _ = read(tmp_path, peer_config | {"vision_feature_layer": layer})
        assert config.tower.num_layers == kept
    for layer in (0, 28, -28):
        with pytest.raises(InputError, match=f"vision_feature_layer {layer} is none of 27 layers"):
            read(tmp_path, peer_config | {"vision_feature_layer": layer})


@pytest.mark.parametrize(
    ("part", "field", "value"),
    [
        ("", "model_type", "llava_next"),
        ("", "projector_hidden_act", "relu"),
        ("", "vision_feature_select_strategy", "default"),
        ("text_config", "model_type", "llama"),
        ("text_config", "hidden_act", "gelu"),
        ("text_config", "use_sliding_window", True),
        ("vision_config", "model_type", "clip_vision_model"),
        ("vision_config", "hidden_act", "quick_gelu"),
    ],
)
def test_a_model_of_another_kind_is_refused(
    tmp_path: Path, peer_config: dict[str, Any], part: str, field: str, value: Any
) -> None:
    (peer_config[part] if part else peer_config)[field] = value
    with pytest.raises(InputError, match=f"config.json ?{part}: {field} is {value!r}; only"):
        read(tmp_path, peer_config)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("model_type", "mistral"),
        ("mm_projector_type", "linear"),
        ("mm_patch_merge_type", "flat"),
        ("mm_resampler_type", "perceiver"),
        ("use_sliding_window", True),
    ],
)
def test_an_original_model_of_another_kind_is_refused(
    tmp_path: Path, field: str, value: Any
) -> None:
    with pytest.raises(InputError, match=f"config.json: {field} is {value!r}; only"):
        read(tmp_path, LMMS_7B | {field: value})


def test_scaled_rotary_positions_are_refused(tmp_path: Path, peer_config: dict[str, Any]) -> None:
    peer_config["text_config"]["rope_parameters"] = {"rope_type": "yarn", "rope_theta": 1e6}
    with pytest.raises(InputError, match="rope scaling 'yarn' is not known"):
        read(tmp_path, peer_config)
