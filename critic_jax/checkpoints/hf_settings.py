"""The files beside the weights of an exported model: config, processor, generation settings."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

from critic_jax.checkpoints.hf_config import SO400M, TOWER_SIZES
from critic_jax.imaging import ImageGeometry
from critic_jax.models.config import DecoderConfig, ModelConfig, TowerConfig
from critic_jax.text import ChatTokenizer

# Pictures first, then the text, as the critic was trained; a system turn is the caller's to give.
CHAT_TEMPLATE = """\
{%- for message in messages -%}
{{- '<|im_start|>' + message['role'] + '\\n' -}}
{%- if message['content'] is string -%}
{{- message['content'] -}}
{%- else -%}
{%- for kind in ['image', 'video'] -%}
{%- for part in message['content'] if part['type'] == kind -%}
{{- '<' + kind + '>\\n' -}}
{%- endfor -%}
{%- endfor -%}
{%- for part in message['content'] if part['type'] == 'text' -%}
{{- part['text'] -}}
{%- endfor -%}
{%- endif -%}
{{- '<|im_end|>\\n' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}
{{- '<|im_start|>assistant\\n' -}}
{%- endif -%}
"""


def original_config(
    config: ModelConfig, geometry: ImageGeometry, dtype: str, tokenizer: ChatTokenizer
) -> dict[str, Any]:
    """`config.json` as LLaVA-NeXT's code writes it, for `LlavaQwenForCausalLM`."""
    values = {
        "architectures": ["LlavaQwenForCausalLM"],
        "model_type": "llava",
        **_decoder(config.decoder, dtype, tokenizer),
        "image_aspect_ratio": f"anyres_max_{geometry.max_grid_tiles}",
        "image_crop_resolution": None,
        "image_split_resolution": None,
        "image_grid_pinpoints": [list(pair) for pair in geometry.pinpoints],
        "image_token_index": tokenizer.image,
        "mm_hidden_size": config.tower.hidden_size,
        "mm_newline_position": "one_token",
        "mm_patch_merge_type": "spatial_unpad",
        "mm_projector_type": "mlp2x_gelu",
        "mm_resampler_type": None,
        "mm_spatial_pool_mode": "bilinear",
        "mm_use_im_patch_token": False,
        "mm_use_im_start_end": False,
        "mm_vision_select_feature": "patch",
        "mm_vision_select_layer": -2,
        "mm_vision_tower": f"google/{SO400M}",
        "tokenizer_model_max_length": 32768,
        "tokenizer_padding_side": "right",
        "use_mm_proj": True,
    }
    if config.tower != TowerConfig():
        values |= {"mm_vision_tower": "custom", TOWER_SIZES: asdict(config.tower)}
    return values


def transformers_config(
    config: ModelConfig, geometry: ImageGeometry, dtype: str, tokenizer: ChatTokenizer, video: int
) -> dict[str, Any]:
    """`config.json` for transformers' `LlavaOnevisionForConditionalGeneration`."""
    tower = config.tower
    return {
        "architectures": ["LlavaOnevisionForConditionalGeneration"],
        "model_type": "llava_onevision",
        "image_token_index": tokenizer.image,
        "video_token_index": video,
        "projector_hidden_act": "gelu",
        "multimodal_projector_bias": True,
        "vision_aspect_ratio": f"anyres_max_{geometry.max_grid_tiles}",
        "vision_feature_layer": -1,
        "vision_feature_select_strategy": "full",
        "image_grid_pinpoints": _pinpoints(geometry),
        "use_image_newline_parameter": True,
        "tie_word_embeddings": config.decoder.tied_embeddings,
        "torch_dtype": dtype,
        "text_config": {"model_type": "qwen2", **_decoder(config.decoder, dtype, tokenizer)},
        "vision_config": {
            "model_type": "siglip_vision_model",
            "hidden_size": tower.hidden_size,
            "intermediate_size": tower.ffn_size,
            "num_attention_heads": tower.num_heads,
            "num_hidden_layers": tower.num_layers,
            "image_size": tower.tile_size,
            "patch_size": tower.patch_size,
            "layer_norm_eps": tower.norm_eps,
            "hidden_act": "gelu_pytorch_tanh",
            "vision_use_head": False,
        },
    }


# What an exported model's own weights decide, whatever the config said that it came with: of a
# tower only the layers in use are written, and training may change the type.
_DECIDED = ("num_hidden_layers", "vision_feature_layer", "vision_use_head", "torch_dtype", "dtype")


def merged(made: dict[str, Any], came_with: dict[str, Any]) -> dict[str, Any]:
    """The config that a model came with, brought up to date by the one made for its weights."""
    values = {**made, **came_with}
    for name, value in made.items():
        if isinstance(value, dict) and isinstance(came_with.get(name), dict):
            values[name] = merged(value, came_with[name])
        elif name in _DECIDED:
            values[name] = value
    if "dtype" in values:  # transformers 5's name for torch_dtype
        values["dtype"] = made.get("torch_dtype", values["dtype"])
    return values


def _decoder(decoder: DecoderConfig, dtype: str, tokenizer: ChatTokenizer) -> dict[str, Any]:
    values = {
        "vocab_size": decoder.vocab_size,
        "hidden_size": decoder.hidden_size,
        "intermediate_size": decoder.ffn_size,
        "num_hidden_layers": decoder.num_layers,
        "num_attention_heads": decoder.num_heads,
        "num_key_value_heads": decoder.num_kv_heads,
        "rope_theta": decoder.rope_theta,
        "rms_norm_eps": decoder.norm_eps,
        "tie_word_embeddings": decoder.tied_embeddings,
        "hidden_act": "silu",
        "max_position_embeddings": 32768,
        "use_sliding_window": False,
        "attention_dropout": 0.0,
        "initializer_range": 0.02,
        "bos_token_id": tokenizer.end_of_text,
        "eos_token_id": tokenizer.im_end,
        "torch_dtype": dtype,
        "use_cache": True,
    }
    if decoder.head_dim * decoder.num_heads != decoder.hidden_size:
        values["head_dim"] = decoder.head_dim
    return values


def _pinpoints(geometry: ImageGeometry) -> list[list[int]]:
    return [[height, width] for width, height in geometry.pinpoints]


def processor_files(geometry: ImageGeometry, chat_template: str) -> dict[str, str]:
    """What transformers' processor of a LLaVA-OneVision reads beside the tokenizer, by file name.

    The names are those that releases from 4.45 on look for; 5.x reads them too.
    """
    side = geometry.tile_size
    pixels = {
        "do_convert_rgb": True,
        "do_normalize": True,
        "do_rescale": True,
        "do_resize": True,
        "image_mean": [0.5, 0.5, 0.5],
        "image_std": [0.5, 0.5, 0.5],
        "resample": 3,
        "rescale_factor": 1 / 255,
        "size": {"height": side, "width": side},
        "processor_class": "LlavaOnevisionProcessor",
    }
    picture = {
        **pixels,
        "do_pad": True,
        "image_grid_pinpoints": _pinpoints(geometry),
        "image_processor_type": "LlavaOnevisionImageProcessor",
    }
    video = {**pixels, "video_processor_type": "LlavaOnevisionVideoProcessor"}
    processor = {
        "processor_class": "LlavaOnevisionProcessor",
        "image_token": "<image>",
        "video_token": "<video>",
        "num_image_tokens": geometry.patches,
        "vision_feature_select_strategy": "full",
        "vision_aspect_ratio": f"anyres_max_{geometry.max_grid_tiles}",
    }
    return {
        "preprocessor_config.json": json.dumps(picture, indent=2) + "\n",
        "video_preprocessor_config.json": json.dumps(video, indent=2) + "\n",
        "processor_config.json": json.dumps(processor, indent=2) + "\n",
        "chat_template.jinja": chat_template,
        # Releases before 4.52 know this form only.
        "chat_template.json": json.dumps({"chat_template": chat_template}, indent=2) + "\n",
    }


def generation_settings(generation: dict[str, Any], tokenizer: ChatTokenizer) -> dict[str, Any]:
    """`generation_config.json`: what the model came with, and where an answer ends."""
    own = {
        "bos_token_id": tokenizer.end_of_text,
        "eos_token_id": list(tokenizer.stop_ids),
        "pad_token_id": tokenizer.end_of_text,
    }
    return {**own, **generation}
