"""A model's weights as the sampler wants them: each decoder layer's by itself."""

from __future__ import annotations

from typing import Any, NamedTuple

from flax import nnx

from critic_jax.models.layers import unstack
from critic_jax.models.llava import Llava
from critic_jax.models.qwen2 import DecoderLayer


class Graphs(NamedTuple):
    """What `Weights` are the weights of; hashable, so that compiled functions may depend on it."""

    around: Any
    layer: Any

    def model(self, around: Any) -> Llava:
        """The model without its decoder's layers."""
        model: Llava = nnx.merge(self.around, around)
        return model

    def decoder_layer(self, layer: Any) -> DecoderLayer:
        """One of the decoder's layers."""
        found: DecoderLayer = nnx.merge(self.layer, layer)
        return found


class Weights(NamedTuple):
    """The parameters of the decoder's layers one by one, and of all that is around them."""

    around: Any
    layers: tuple[Any, ...]


def take_apart(model: Llava) -> tuple[Graphs, Weights]:
    """Slicing a stack of layers at every token is several times slower than layers of their own.

    Nothing of the stack is kept: its memory is free as soon as the caller lets go of the model.
    """
    layers = unstack(model.decoder.layers, model.config.decoder.num_layers)
    split = [nnx.split(layer, nnx.Param) for layer in layers]
    around = nnx.merge(*nnx.split(model))
    around.decoder.layers = None
    graph, state = nnx.split(around, nnx.Param)
    return Graphs(graph, split[0][0]), Weights(state, tuple(params for _, params in split))
