"""Read a Hugging Face folder of LLaVA-OneVision or LLaVA-Critic weights."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
from flax import nnx
from safetensors import SafetensorError, safe_open

from critic_jax.checkpoints.weights import LAYOUTS, Weight, detect_layout, weights
from critic_jax.errors import InputError
from critic_jax.imaging import ImageGeometry
from critic_jax.models.build import Params, abstract
from critic_jax.models.config import DecoderConfig, ModelConfig, TowerConfig

# The tower that every released lmms-lab checkpoint names; its config holds no sizes.
_SO400M = "siglip-so400m-patch14-384"


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
    """Sizes and picture geometry from `config.json`, of the original family or transformers'."""
    path = folder / "config.json"
    values = read_json(path)
    try:
        if "text_config" in values:
            return _from_transformers(values)
        return _from_original(values, path)
    except KeyError as e:
        raise InputError(f"{path}: field {e} is missing") from None
    except (AttributeError, TypeError, ValueError) as e:
        raise InputError(f"{path}: not the config of a LLaVA-OneVision ({e})") from None


def _from_transformers(values: dict[str, Any]) -> tuple[ModelConfig, ImageGeometry]:
    text, vision = values["text_config"], values["vision_config"]
    tied = text.get("tie_word_embeddings", values.get("tie_word_embeddings", False))
    layers = vision["num_hidden_layers"]
    select = values.get("vision_feature_layer", -1)
    kept = layers + 1 + select if select < 0 else select
    tower = TowerConfig(
        hidden_size=vision["hidden_size"],
        ffn_size=vision["intermediate_size"],
        num_heads=vision["num_attention_heads"],
        num_layers=kept,
        tile_size=vision["image_size"],
        patch_size=vision["patch_size"],
        norm_eps=vision.get("layer_norm_eps", 1e-6),
    )
    return ModelConfig(_decoder(text, tied), tower), _geometry(
        tower, values.get("image_grid_pinpoints"), values.get("vision_aspect_ratio"), "hf"
    )


def _from_original(values: dict[str, Any], path: Path) -> tuple[ModelConfig, ImageGeometry]:
    name = str(values["mm_vision_tower"])
    if _SO400M not in name:
        raise InputError(f"{path}: mm_vision_tower is {name!r}; only {_SO400M} is known")
    tower = TowerConfig()
    decoder = _decoder(values, values.get("tie_word_embeddings", False))
    aspect = values.get("image_aspect_ratio")
    geometry = _geometry(tower, values.get("image_grid_pinpoints"), aspect, "original")
    return ModelConfig(decoder, tower), geometry


def _decoder(text: dict[str, Any], tied: bool) -> DecoderConfig:
    heads, width = text["num_attention_heads"], text["hidden_size"]
    rope = text.get("rope_parameters") or {}
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


def shards(folder: Path) -> list[Path]:
    """The safetensors files of a folder.

    Raises InputError if there are none, or if the index names one that is not there.
    """
    index = folder / "model.safetensors.index.json"
    if index.exists():
        listed = read_json(index).get("weight_map")
        if not isinstance(listed, dict) or not listed:
            raise InputError(f"{index}: field 'weight_map' should name the file of each tensor")
        names = sorted(set(map(str, listed.values())))
        for name in names:
            if not (folder / name).exists():
                raise InputError(f"{index}: names {name}, which is not in the folder")
        return [folder / n for n in names]
    found = sorted(folder.glob("*.safetensors"))
    if not found:
        raise InputError(f"{folder}: holds no .safetensors weights (pickled ones are not read)")
    return found


def read_params(folder: Path, config: ModelConfig) -> tuple[Params, str]:
    """All parameters as float32 or as stored (bfloat16, float16), and the name of the layout found.

    Raises InputError for missing, surplus or mis-shaped tensors.
    """
    with ExitStack() as files:
        where: dict[str, Any] = {}
        for path in shards(folder):
            try:
                opened = files.enter_context(safe_open(path, framework="flax"))
            except SafetensorError as e:
                raise InputError(f"{path}: not a readable safetensors file ({e})") from None
            for key in opened.keys():  # noqa: SIM118 (not a mapping)
                if key in where:
                    raise InputError(f"{path}: tensor {key} is in another shard too")
                where[key] = opened
        layout = detect_layout(where)
        if layout is None:
            raise InputError(f"{folder}: the tensor names are of no known LLaVA-OneVision layout")
        table = weights(config)
        _check_names(folder, set(where), table, layout, config)
        shapes = nested_shapes(config)
        params: Params = {}
        for weight in table:
            value = _gather(folder, weight, layout, shapes, lambda k: where[k].get_tensor(k))
            set_in(params, weight.path, jnp.asarray(value))
        return params, layout


def _check_names(
    folder: Path, present: set[str], table: list[Weight], layout: str, config: ModelConfig
) -> None:
    wanted = {k for w in table for k in w.keys(LAYOUTS[layout])}
    missing = sorted(wanted - present)
    if missing:
        raise InputError(f"{folder}: {len(missing)} tensors missing, the first is {missing[0]}")
    # A tied head may be stored all the same; rotary constants are recomputed.
    tied_head = LAYOUTS[layout]["head"] + "lm_head.weight"
    ignored = {tied_head} if config.decoder.tied_embeddings else set()
    surplus = sorted(k for k in present - wanted - ignored if not k.endswith("inv_freq"))
    if surplus:
        raise InputError(f"{folder}: {len(surplus)} unknown tensors, the first is {surplus[0]}")


def _gather(
    folder: Path,
    weight: Weight,
    layout: str,
    shapes: dict[tuple[str, ...], tuple[int, ...]],
    get: Callable[[str], Any],
) -> np.ndarray:
    shape = shapes[weight.path]
    each = shape[1:] if weight.layers else shape
    parts = []
    for key in weight.keys(LAYOUTS[layout]):
        tensor = np.asarray(get(key))
        try:
            parts.append(weight.read(tensor, each))
        except ValueError:
            raise InputError(
                f"{folder}: tensor {key} has shape {list(tensor.shape)}, "
                f"the config asks for {list(each)}"
            ) from None
    return np.stack(parts) if weight.layers else parts[0]


def nested_shapes(config: ModelConfig) -> dict[tuple[str, ...], tuple[int, ...]]:
    """The shape of every parameter, by path."""
    _, state = abstract(config)
    return {tuple(map(str, path)): tuple(v.shape) for path, v in nnx.to_flat_state(state)}


def set_in(tree: Params, path: tuple[str, ...], value: Any) -> None:
    """Put a value at a path of a nested dict."""
    for name in path[:-1]:
        tree = tree.setdefault(name, {})
    tree[path[-1]] = value
