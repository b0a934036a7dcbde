"""A model from its config and a plain nested dict of parameters, and back."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from critic_jax.models.config import ModelConfig
from critic_jax.models.layers import Remat
from critic_jax.models.llava import FLOAT32, Llava

Params = dict[str, Any]


def abstract(
    config: ModelConfig, dtype: jnp.dtype = FLOAT32, remat: Remat = "none"
) -> tuple[Any, nnx.State]:
    """The model's graph and the shapes of its parameters, without computing any."""
    model = nnx.eval_shape(lambda: Llava(config, nnx.Rngs(0), dtype, remat))
    graph, state = nnx.split(model, nnx.Param)
    return graph, state


def init_params(config: ModelConfig, seed: int) -> Params:
    """Random parameters in float32, a pure function of the seed."""

    def make() -> Params:
        model = Llava(config, nnx.Rngs(seed))
        return nnx.to_pure_dict(nnx.state(model, nnx.Param))

    return jax.jit(make)()


def assemble(config: ModelConfig, params: Params, dtype: jnp.dtype = FLOAT32) -> Llava:
    """The model that holds `params` and computes in `dtype`."""
    graph, state = abstract(config, dtype)
    nnx.replace_by_pure_dict(state, params)
    return nnx.merge(graph, state)


def get_in(tree: Params, path: tuple[str, ...]) -> Any:
    """What stands at a path of a nested dict."""
    for name in path:
        tree = tree[name]
    return tree


def set_in(tree: Params, path: tuple[str, ...], value: Any) -> None:
    """Put a value at a path of a nested dict."""
    for name in path[:-1]:
        tree = tree.setdefault(name, {})
    tree[path[-1]] = value
