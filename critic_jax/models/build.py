"""A model from its config and a plain nested dict of parameters, and back."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from critic_jax.models.config import ModelConfig
from critic_jax.models.layers import Remat
from critic_jax.models.llava import FLOAT32, Llava
from critic_jax.models.lora import Lora, add_adapters

Params = dict[str, Any]


def abstract(
    config: ModelConfig,
    dtype: jnp.dtype = FLOAT32,
    remat: Remat = "none",
    lora: Lora | None = None,
) -> tuple[Any, nnx.State]:
    """The model's graph and the shapes of its parameters, without computing any."""
    model = nnx.eval_shape(lambda: _made(config, 0, dtype, remat, lora))
    graph, state = nnx.split(model, nnx.Param)
    return graph, state


def _made(
    config: ModelConfig, seed: int, dtype: jnp.dtype, remat: Remat, lora: Lora | None
) -> Llava:
    model = Llava(config, nnx.Rngs(seed), dtype, remat)
    if lora is not None:
        add_adapters(model, lora, nnx.Rngs(seed))
    return model


def init_params(config: ModelConfig, seed: int) -> Params:
    """Random parameters in float32, a pure function of the seed."""

    def make() -> Params:
        model = Llava(config, nnx.Rngs(seed))
        return nnx.to_pure_dict(nnx.state(model, nnx.Param))

    return jax.jit(make)()


def init_adapters(config: ModelConfig, lora: Lora, seed: int) -> Params:
    """The parameters that adapters add, in float32; to be called within a jitted function."""
    model = _made(config, seed, FLOAT32, "none", lora)
    adapters: Params = {}
    for path, variable in nnx.to_flat_state(nnx.state(model, nnx.Param)):
        if "adapter" in path:
            set_in(adapters, tuple(map(str, path)), variable.get_value())
    return adapters


def assemble(
    config: ModelConfig, params: Params, dtype: jnp.dtype = FLOAT32, lora: Lora | None = None
) -> Llava:
    """The model that holds `params` and computes in `dtype`."""
    graph, state = abstract(config, dtype, lora=lora)
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
