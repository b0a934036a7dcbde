"""A model's weights as the sampler wants them: each decoder layer's by itself."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, wraps
from typing import Any, NamedTuple, TypeVar

from flax import nnx
from jax.sharding import Mesh

from critic_jax.models.layers import unstack
from critic_jax.models.llava import Llava
from critic_jax.models.qwen2 import DecoderLayer
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
    graphs = Graphs(graph, split[0][0], mesh_of(nnx.state(model, nnx.Param)))
    return graphs, Weights(state, tuple(params for _, params in split))


def in_its_mesh(function: Callable[..., Result]) -> Callable[..., Result]:
    """A function of graphs and more, traced within their mesh."""

    @wraps(function)
    def within(graphs: Graphs, *arguments: Any) -> Result:
        with in_mesh(graphs.mesh):
            return function(graphs, *arguments)

    return within
