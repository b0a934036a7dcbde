"""Adapters as a folder that torch's peft loads onto the model in transformers."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from critic_jax.checkpoints.publish import published
from critic_jax.checkpoints.tensor_writer import Planned, ShardWriter
from critic_jax.checkpoints.weights import LAYOUTS, Weight, weights
from critic_jax.files import write_json
from critic_jax.models.build import Params, get_in
from critic_jax.models.config import ModelConfig
from critic_jax.models.lora import Lora

CONFIG = "adapter_config.json"

# The names of modules in memory, which peft goes by; those in files are other ones.
_MODULES = LAYOUTS["hf-new-bare-tower"]


def adapted(config: ModelConfig, lora: Lora) -> list[Weight]:
    """The weights that have an adapter."""
    return [w for w in weights(config) if w.path[-1] == "kernel" and lora.adapts(w.path[:-1])]


def write_adapters(
    path: Path, config: ModelConfig, lora: Lora, adapters: Params, base: str
) -> None:
    """Write adapter_model.safetensors and adapter_config.json, in place of earlier ones.

    adapters: nested dict in which the adapter of a kernel `..., q, kernel` stands as `..., q,
    adapter` with a [L, in..., rank] and b [L, rank, out...]. base: what they were trained on.
    Raises InputError if `path` holds something else.
    """
    tensors: dict[str, np.ndarray] = {}
    modules = []
    for weight in adapted(config, lora):
        adapter = get_in(adapters, (*weight.path[:-1], "adapter"))
        names = [key.removesuffix(".weight") for key in weight.keys(_MODULES)]
        pairs = zip(*(np.asarray(adapter[n], np.float32) for n in "ab"), strict=True)
        each = pairs if weight.layers else [(adapter["a"], adapter["b"])]
        for name, (a, b) in zip(names, each, strict=True):
            # torch's linear maps are [outputs, inputs].
            tensors[f"base_model.model.{name}.lora_A.weight"] = _turned(a, (-1, lora.rank))
            tensors[f"base_model.model.{name}.lora_B.weight"] = _turned(b, (lora.rank, -1))
        numbered = (_MODULES[weight.part] + weight.suffix).removesuffix(".weight")
        modules.append(re.escape(numbered).replace(r"\{i\}", r"\d+"))
    with published(path, CONFIG) as building:
        planned = [Planned(name, value.dtype, value.shape) for name, value in tensors.items()]
        with ShardWriter(building / "adapter_model.safetensors", planned) as file:
            for value in tensors.values():
                file.write(value)
        write_json(building / CONFIG, _settings(lora, "|".join(modules), base))


def _turned(values: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    return np.ascontiguousarray(np.asarray(values, np.float32).reshape(shape).T)


def _settings(lora: Lora, modules: str, base: str) -> dict[str, object]:
    return {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": base,
        "r": lora.rank,
        "lora_alpha": lora.alpha,
        "lora_dropout": 0.0,
        "bias": "none",
        "fan_in_fan_out": False,
        "inference_mode": True,
        # A pattern over whole names: a list of endings would fit the tower's layers too.
        "target_modules": modules,
    }
