"""`config.json` of a Hugging Face folder, of either family: sizes and picture geometry."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from critic_jax.errors import InputError
from critic_jax.imaging import ImageGeometry
from critic_jax.models.config import DecoderConfig, ModelConfig, TowerConfig

# The tower that every released lmms-lab checkpoint names; its config holds no sizes.
SO400M = "siglip-so400m-patch14-384"
# Our own addition to that family's config, for other towers (such as a small critic's).
TOWER_SIZES = "mm_vision_sizes"

# What a field must say, where it says anything: of the models that share these fields, only one is
# built here, and another would be read without a word and judge nonsense.
_ORIGINAL = {
    "model_type": ("llava", "qwen2", "llava_qwen"),
    "hidden_act": ("silu",),
    "use_sliding_window": (False,),
    "mm_projector_type": ("mlp2x_gelu",),
    "mm_patch_merge_type": ("spatial_unpad",),
    "mm_resampler_type": (None,),
}
_TRANSFORMERS = {
    "model_type": ("llava_onevision",),
    "projector_hidden_act": ("gelu",),
    "vision_feature_select_strategy": ("full",),
    "multimodal_projector_bias": (True,),
}
_TEXT = {"model_type": ("qwen2",), "hidden_act": ("silu",), "use_sliding_window": (False,)}
_VISION = {
    "model_type": ("siglip_vision_model",),
    "hidden_act": ("gelu_pytorch_tanh",),
    "num_channels": (3,),
}


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a file. Raises InputError if it isn't one."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except (UnicodeDecodeError, json.JSONDecodeError) as e:
        raise InputError(f"{path}: not valid JSON ({e})") from None
    if not isinstance(value, dict):
        raise InputError(f"{path}: a JSON object is expected, found {type(value).__name__}")
    return value


def read_config(folder: Path) -> tuple[ModelConfig, ImageGeometry]:
    """Sizes and picture geometry from `config.json`, of the original family or transformers'.

    Raises InputError for a model of another kind, or a field that is missing or wrong.
    """
    path = folder / "config.json"
    values = read_json(path)
    try:
        if "text_config" in values:
            return _from_transformers(values, path)
        return _from_original(values, path)
    except KeyError as e:
        raise InputError(f"{path}: field {e} is missing") from None
    except (AttributeError, TypeError, ValueError, ZeroDivisionError) as e:
        raise InputError(f"{path}: not the config of a LLaVA-OneVision ({e})") from None


def _check(values: dict[str, Any], rules: dict[str, tuple[Any, ...]], where: str) -> None:
    for field, allowed in rules.items():
        if field in values and values[field] not in allowed:
            right = " or ".join(map(repr, allowed))
            raise InputError(f"{where}: {field} is {values[field]!r}; only {right} is known")


def _from_transformers(values: dict[str, Any], path: Path) -> tuple[ModelConfig, ImageGeometry]:
    text, vision = values["text_config"], values["vision_config"]
    _check(values, _TRANSFORMERS, str(path))
    _check(text, _TEXT, f"{path} text_config")
    _check(vision, _VISION, f"{path} vision_config")
    tied = text.get("tie_word_embeddings", values.get("tie_word_embeddings", False))
    layers = vision["num_hidden_layers"]
    select = values.get("vision_feature_layer", -1)
    kept = layers + 1 + select if select < 0 else select
    if not 0 < kept <= layers:
        raise InputError(f"{path}: vision_feature_layer {select} is none of {layers} layers")
    tower = TowerConfig(
        hidden_size=vision["hidden_size"],
        ffn_size=vision["intermediate_size"],
        num_heads=vision["num_attention_heads"],
        num_layers=kept,
        tile_size=vision["image_size"],
        patch_size=vision["patch_size"],
        norm_eps=vision.get("layer_norm_eps", 1e-6),
    )
    decoder = _decoder(text, tied, path)
    pinpoints, aspect = values.get("image_grid_pinpoints"), values.get("vision_aspect_ratio")
    return ModelConfig(decoder, tower), _geometry(tower, pinpoints, aspect, "hf")


def _from_original(values: dict[str, Any], path: Path) -> tuple[ModelConfig, ImageGeometry]:
    name, sizes = str(values["mm_vision_tower"]), values.get(TOWER_SIZES)
    _check(values, _ORIGINAL, str(path))
    if SO400M not in name and sizes is None:
        raise InputError(f"{path}: mm_vision_tower is {name!r}; only {SO400M} is known")
    tower = TowerConfig(**(sizes or {}))
    decoder = _decoder(values, values.get("tie_word_embeddings", False), path)
    aspect = values.get("image_aspect_ratio")
    geometry = _geometry(tower, values.get("image_grid_pinpoints"), aspect, "original")
    return ModelConfig(decoder, tower), geometry


def _decoder(text: dict[str, Any], tied: bool, path: Path) -> DecoderConfig:
    heads, width = text["num_attention_heads"], text["hidden_size"]
    rope = text.get("rope_parameters") or {}
    scaling = (text.get("rope_scaling") or rope or {}).get("rope_type", "default")
    if scaling != "default":
        raise InputError(f"{path}: rope scaling {scaling!r} is not known; LLaVA-OneVision has none")
    return DecoderConfig(
        vocab_size=text["vocab_size"],
        hidden_size=width,
        ffn_size=text["intermediate_size"],
        num_layers=text["num_hidden_layers"],
        num_heads=heads,
        num_kv_heads=text.get("num_key_value_heads", heads),
        head_dim=text.get("head_dim") or width // heads,
        rope_theta=float(text.get("rope_theta") or rope.get("rope_theta") or 1e6),
        norm_eps=text.get("rms_norm_eps", 1e-6),
        tied_embeddings=bool(tied),
    )


def _geometry(tower: TowerConfig, pinpoints: Any, aspect: Any, unpad: Any) -> ImageGeometry:
    options: dict[str, Any] = {"tile_size": tower.tile_size, "patch_size": tower.patch_size}
    if isinstance(pinpoints, list):
        # transformers lists (height, width), the original code (width, height), as ours does.
        swap = unpad == "hf"
        options["pinpoints"] = tuple((b, a) if swap else (a, b) for a, b in pinpoints)
    if isinstance(aspect, str) and aspect.startswith("anyres_max_"):
        options["max_grid_tiles"] = int(aspect.removeprefix("anyres_max_"))
    return ImageGeometry(unpad=unpad, **options)
