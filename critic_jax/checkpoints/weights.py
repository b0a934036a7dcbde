"""One table of weights: Hugging Face key, parameter path, and how the two shapes relate.

Several layouts of keys are in use: the original LLaVA code's, and transformers' old and new one,
each with and without a `vision_model` level. They differ only in the prefix of each part, so a
weight is a part and a suffix, and a layout is a prefix a part.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from critic_jax.models.config import ModelConfig

ParamPath = tuple[str, ...]


@dataclass(frozen=True)
class Weight:
    """One parameter. `layers` > 0: so many tensors, `{i}` in the suffix, stacked on the first axis.

    torch stores a linear map as [outputs, inputs], each flattened; the model holds it as
    [in..., out...], `inputs` axes of the first kind. `stored`: the tensor's shape where torch keeps
    more axes than that. Other parameters have `inputs` 0 and are stored as they are; biases flat.

    A tensor may also be taken in blocks, cut on torch's first axis, which is the parameter's axis
    `split` (of one layer).
    """

    part: str
    suffix: str
    path: ParamPath
    inputs: int = 0
    stored: tuple[int, ...] = ()
    layers: int = 0

    @property
    def split(self) -> int:
        """The axis of one layer's parameter that torch's first axis begins with."""
        return self.inputs

    def keys(self, layout: dict[str, str]) -> list[str]:
        """The tensors' names in a layout, in layer order."""
        key = layout[self.part] + self.suffix
        return [key.format(i=i) for i in range(self.layers)] if self.layers else [key]

    def each(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """One tensor's share of the whole parameter's shape: without the axis of layers."""
        return shape[1:] if self.layers else shape

    def stored_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """The shape of torch's tensor, from that of one layer of the parameter."""
        if self.stored:
            return (shape[self.inputs], *self.stored)
        if self.inputs:
            return math.prod(shape[self.inputs :]), math.prod(shape[: self.inputs])
        return (math.prod(shape),) if self.path[-1] == "bias" else shape

    def read(self, tensor: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
        """A tensor (or a block of it) as the parameter's layer (block) of `shape`; a view."""
        if self.inputs:
            tensor = tensor.reshape(len(tensor), -1).T
        return tensor.reshape(shape)

    def tensor(self, values: np.ndarray) -> np.ndarray:
        """A layer (or a block of it) of the parameter as torch's tensor; the inverse of `read`."""
        stored = self.stored_shape(values.shape)
        if self.inputs:
            values = values.reshape(math.prod(values.shape[: self.inputs]), -1).T
        return np.ascontiguousarray(values).reshape(stored)


_HF_OLD = {
    "decoder": "language_model.model.",
    "head": "language_model.",
    "tower": "vision_tower.",
    "projector.1": "multi_modal_projector.linear_1.",
    "projector.2": "multi_modal_projector.linear_2.",
    "newline": "",
}
_HF_NEW = {
    "decoder": "model.language_model.",
    "head": "",
    "tower": "model.vision_tower.",
    "projector.1": "model.multi_modal_projector.linear_1.",
    "projector.2": "model.multi_modal_projector.linear_2.",
    "newline": "model.",
}
LAYOUTS: dict[str, dict[str, str]] = {
    "original": {
        "decoder": "model.",
        "head": "",
        "tower": "model.vision_tower.vision_tower.vision_model.",
        "projector.1": "model.mm_projector.0.",
        "projector.2": "model.mm_projector.2.",
        "newline": "model.",
    },
    "hf-old": {**_HF_OLD, "tower": "vision_tower.vision_model."},
    "hf-old-bare-tower": _HF_OLD,  # what transformers 5 saves
    "hf-new": {**_HF_NEW, "tower": "model.vision_tower.vision_model."},
    "hf-new-bare-tower": _HF_NEW,  # what transformers 5 holds in memory
}


def weights(config: ModelConfig) -> list[Weight]:
    """Every parameter of a model."""
    return [*_decoder(config), *_tower(config), *_projector()]


def _linear(
    part: str, suffix: str, path: ParamPath, bias: bool = True, layers: int = 0, inputs: int = 1
) -> Iterator[Weight]:
    yield Weight(part, suffix + "weight", (*path, "kernel"), inputs=inputs, layers=layers)
    if bias:
        yield Weight(part, suffix + "bias", (*path, "bias"), layers=layers)


def _norm(part: str, suffix: str, path: ParamPath, bias: bool, layers: int = 0) -> Iterator[Weight]:
    yield Weight(part, suffix + "weight", (*path, "scale"), layers=layers)
    if bias:
        yield Weight(part, suffix + "bias", (*path, "bias"), layers=layers)


def _decoder(config: ModelConfig) -> Iterator[Weight]:
    c, layers = config.decoder, ("decoder", "layers")
    yield Weight("decoder", "embed_tokens.weight", ("decoder", "embedding"))
    if not c.tied_embeddings:
        yield Weight("head", "lm_head.weight", ("decoder", "untied_head"))
    yield from _norm("decoder", "norm.", ("decoder", "norm"), bias=False)
    each = "layers.{i}."
    for ours, theirs in (("norm1", "input_layernorm."), ("norm2", "post_attention_layernorm.")):
        yield from _norm("decoder", each + theirs, (*layers, ours), False, c.num_layers)
    for name in ("q", "k", "v", "o"):
        suffix = f"{each}self_attn.{name}_proj."
        bias, inputs = name != "o", 2 if name == "o" else 1
        yield from _linear("decoder", suffix, (*layers, name), bias, c.num_layers, inputs)
    for name in ("gate", "up", "down"):
        suffix = f"{each}mlp.{name}_proj."
        yield from _linear("decoder", suffix, (*layers, name), False, c.num_layers)


def _tower(config: ModelConfig) -> Iterator[Weight]:
    c, layers, each = config.tower, ("tower", "layers"), "encoder.layers.{i}."
    patch, kernel = "embeddings.patch_embedding.", (3, c.patch_size, c.patch_size)
    yield Weight("tower", patch + "weight", ("tower", "patch", "kernel"), inputs=1, stored=kernel)
    yield Weight("tower", patch + "bias", ("tower", "patch", "bias"))
    yield Weight("tower", "embeddings.position_embedding.weight", ("tower", "position"))
    yield from _norm("tower", "post_layernorm.", ("tower", "post_norm"), bias=True)
    for ours, theirs in (("norm1", "layer_norm1."), ("norm2", "layer_norm2.")):
        yield from _norm("tower", each + theirs, (*layers, ours), True, c.num_layers)
    for name in ("q", "k", "v", "o"):
        theirs = f"{each}self_attn.{'out' if name == 'o' else name}_proj."
        inputs = 2 if name == "o" else 1
        yield from _linear("tower", theirs, (*layers, name), True, c.num_layers, inputs)
    for name in ("fc1", "fc2"):
        yield from _linear("tower", f"{each}mlp.{name}.", (*layers, name), True, c.num_layers)


def _projector() -> Iterator[Weight]:
    yield from _linear("projector.1", "", ("projector", "fc1"))
    yield from _linear("projector.2", "", ("projector", "fc2"))
    yield Weight("newline", "image_newline", ("newline",))


def detect_layout(names: Iterable[str]) -> str | None:
    """Which layout a set of tensor names is in, by the keys that only one layout has."""
    present = set(names)
    for name, layout in LAYOUTS.items():
        wanted = ("tower", "embeddings.patch_embedding.weight"), ("newline", "image_newline")
        if all(layout[part] + suffix in present for part, suffix in wanted):
            return name
    return None
