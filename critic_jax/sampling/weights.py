"""A model's weights as the sampler wants them: each decoder layer's by itself."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, wraps
from typing import Any, Literal, NamedTuple, TypeVar

import jax
from flax import nnx
from jax.sharding import Mesh

from critic_jax.models.int8 import quantize
from critic_jax.models.layers import Linear, unstack
from critic_jax.models.llava import Llava
from critic_jax.models.qwen2 import Decoder, DecoderLayer
from critic_jax.sharding import in_mesh, mesh_of

Result = TypeVar("Result")


@dataclass(frozen=True)
class Graphs:
    """What `Weights` are the weights of, and their mesh if they lie on one. Compiled functions
    depend on it.
    """

    around: Any
    layer: Any
    mesh: Mesh | None = None

    def __hash__(self) -> int:
        return self._number

    @cached_property
    def _number(self) -> int:
        # Some hundred objects are gone through for it, and each call of a function asks for it.
        return hash((self.around, self.layer, self.mesh))

    @property
    def devices(self) -> int:
        """How many hold the weights together."""
        return 1 if self.mesh is None else self.mesh.size

    def model(self, around: Any) -> Llava:
        """The model without its decoder's layers."""
        model: Llava = nnx.merge(self.around, around)
        return model

    def decoder_layer(self, layer: Any) -> DecoderLayer:
        """One of the decoder's layers."""
        found: DecoderLayer = nnx.merge(self.layer, layer)
        return found


WeightFormat = Literal["full", "int8"]
"""How a sampler holds a model's weights: as the model does, or in eight bits."""

SamplingDtype = Literal["float32", "bfloat16"]
"""What a sampler computes in, and holds keys and values in."""


def usual_dtype() -> SamplingDtype:
    """bfloat16 on accelerators, which are made for it; float32 on a CPU, which is not."""
    return "float32" if jax.default_backend() == "cpu" else "bfloat16"


class Weights(NamedTuple):
    """The parameters of the decoder's layers one by one, and of all that is around them."""

    around: Any
    layers: tuple[Any, ...]


def take_apart(model: Llava, held: WeightFormat = "full") -> tuple[Graphs, Weights]:
    """Slicing a stack of layers at every token is several times slower than layers of their own.

    Nothing of the stack is kept: its memory is free as soon as the caller lets go of the model.
    held "int8": the kernels of all linear layers, word embeddings and head are put into eight bits
    (`models.int8`); norms, biases and position embeddings stay as they are.
    """
    layers = unstack(model.decoder.layers, model.config.decoder.num_layers)
    around = nnx.merge(*nnx.split(model))
    around.decoder.layers = None
    if held == "int8":
        for part in (*layers, around):
            _into_int8(part)
    split = [nnx.split(layer, nnx.Param) for layer in layers]
    graph, state = nnx.split(around, nnx.Param)
    graphs = Graphs(graph, split[0][0], mesh_of(nnx.state(model, nnx.Param)))
    return graphs, Weights(state, tuple(params for _, params in split))


def in_its_mesh(function: Callable[..., Result]) -> Callable[..., Result]:
    """A function of graphs and more, traced within their mesh."""

    @wraps(function)
    def within(graphs: Graphs, *arguments: Any) -> Result:
        with in_mesh(graphs.mesh):
            return function(graphs, *arguments)

    return within


def _into_int8(part: nnx.Module) -> None:
    for _, module in nnx.iter_modules(part):
        if isinstance(module, Linear):
            # Layers that were taken from a stack still carry the names of its axes.
            axes = module.kernel.get_metadata("out_sharding")
            stacked = axes[0] == "layers" and module.kernel.get_value().ndim == len(axes)
            _hold(module.kernel, tuple(range(stacked, stacked + module.contracted)))
        elif isinstance(module, Decoder):
            _hold(module.embedding, (1,))
            if module.untied_head is not None:
                _hold(module.untied_head, (1,))


def _hold(param: nnx.Param, inputs: tuple[int, ...]) -> None:
    param.set_value(_quantized(param.get_value(), inputs))


_quantized = jax.jit(quantize, static_argnums=1)
