"""The train state: what is trained, its moments, and what is frozen.

`params` (float32), `opt_state` and `step` are what a run saves and goes on from. `frozen` is there
where something is: in the computation's type, or in four bits. It comes from the run's start each
time, and no step changes it.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import optax
import qwix
from flax import nnx
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from critic_jax.models.build import Params, abstract, init_adapters, set_in
from critic_jax.models.config import ModelConfig
from critic_jax.models.layers import Axes
from critic_jax.models.nf4 import quantize, scale_sharding
from critic_jax.sharding import param_shardings
from critic_jax.training.sft import TrainState
from critic_jax.training.tuning import FULL, Path, Tuning, joined


def state_shapes(
    config: ModelConfig, tx: optax.GradientTransformation, mesh: Mesh, tuning: Tuning = FULL
) -> TrainState:
    """Of every array of a train state, with its sharding; moments are laid out as their parameters.

    `frozen` is among them where something is frozen.
    """
    model = abstract(config, lora=tuning.lora)[1]
    shardings = param_shardings(model, mesh)
    whole = NamedSharding(mesh, PartitionSpec())

    def placed(value: Any, sharding: NamedSharding) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct(value.shape, value.dtype, sharding=sharding)

    trained, frozen = tuning.split(nnx.to_pure_dict(model))
    trained_shardings, frozen_shardings = tuning.split(shardings)
    params = jax.tree.map(placed, trained, trained_shardings)
    opt_state = optax.tree.map_params(
        tx,
        placed,
        jax.eval_shape(tx.init, params),
        trained_shardings,
        transform_non_params=lambda v: placed(v, whole),
    )
    state = {
        "params": params,
        "opt_state": opt_state,
        "step": jax.ShapeDtypeStruct((), jnp.int32, sharding=whole),
    }
    if frozen:
        axes = tuning.split(_axes(model))[1]
        state["frozen"] = _map(partial(_shape, tuning), frozen, frozen_shardings, axes)
    return state


def start_shapes(config: ModelConfig, mesh: Mesh, tuning: Tuning = FULL) -> Params:
    """Of a start's parameters as they are held, those that are trained in float32."""
    model = abstract(config)[1]
    shardings = param_shardings(model, mesh)

    def shape(path: Path, value: Any, sharding: NamedSharding, axes: Axes) -> Any:
        if tuning.rate(path):
            return jax.ShapeDtypeStruct(value.shape, value.dtype, sharding=sharding)
        return _shape(tuning, path, value, sharding, axes)

    return _map(shape, nnx.to_pure_dict(model), shardings, _axes(model))


def fresh_state(
    start: Params,
    config: ModelConfig,
    tx: optax.GradientTransformation,
    mesh: Mesh,
    tuning: Tuning = FULL,
    seed: int = 0,
) -> TrainState:
    """The state before the first step, of a start's parameters; adapters are drawn by `seed`.

    start: laid out over the mesh, as `load_checkpoint` does. Its arrays are used up: a frozen one
    may be part of the state.
    """
    shapes = state_shapes(config, tx, mesh, tuning)

    def fresh(params: Params) -> TrainState:
        params = jax.tree.map(lambda p: p.astype(jnp.float32), params)
        if tuning.lora is not None:
            params = joined(params, init_adapters(config, tuning.lora, seed))
        return {"params": params, "opt_state": tx.init(params), "step": jnp.int32(0)}

    shardings = jax.tree.map(lambda v: v.sharding, saved(shapes))
    state = jax.jit(fresh, out_shardings=shardings)(tuning.split(start)[0])
    return with_frozen(state, start, config, tuning)


def with_frozen(
    state: TrainState, start: Params, config: ModelConfig, tuning: Tuning
) -> TrainState:
    """A state as it was saved, with what is frozen of a start's parameters beside it.

    The start's arrays are used up.
    """
    frozen = tuning.split(start)[1]
    if not frozen:
        return state
    axes = tuning.split(_axes(abstract(config)[1]))[1]
    return {**state, "frozen": _map(partial(hold, tuning), frozen, axes)}


def hold(tuning: Tuning, path: Path, value: Any, axes: Axes) -> Any:
    """A parameter of a start as it is held while training: in another type, if it is frozen.

    The given array is then freed at once, so that little is there twice.
    """
    dtype = jnp.dtype(tuning.dtype)
    four_bits = tuning.in_four_bits(path)
    if tuning.rate(path) or isinstance(value, qwix.QArray):
        return value
    if value.dtype == dtype and not four_bits:
        return value
    on_mesh = value.sharding if isinstance(value.sharding, NamedSharding) else None
    held = _quantized(value, axes, dtype, on_mesh) if four_bits else _cast(value, dtype)
    jax.block_until_ready(held)
    value.delete()
    return held


@partial(jax.jit, static_argnums=1)
def _cast(value: jax.Array, dtype: jnp.dtype) -> jax.Array:
    return value.astype(dtype)


@partial(jax.jit, static_argnums=(1, 2, 3))
def _quantized(
    kernel: jax.Array, axes: Axes, dtype: jnp.dtype, sharding: NamedSharding | None
) -> qwix.QArray:
    held = quantize(kernel, axes, dtype, sharding)
    if sharding is None:
        return held
    return jax.lax.with_sharding_constraint(held, _beside(held, sharding))


def saved(state: TrainState) -> TrainState:
    """What of a state is written: all but what is frozen."""
    return {name: value for name, value in state.items() if name != "frozen"}


def whole(state: TrainState) -> Params:
    """All parameters of a state's model."""
    return joined(state["params"], state.get("frozen", {}))


def _shape(tuning: Tuning, path: Path, value: Any, sharding: NamedSharding, axes: Axes) -> Any:
    """The shape that a frozen parameter is held as."""
    dtype = jnp.dtype(tuning.dtype)
    if not tuning.in_four_bits(path):
        return jax.ShapeDtypeStruct(value.shape, dtype, sharding=sharding)
    held = jax.eval_shape(partial(quantize, axes=axes, dtype=dtype), value)
    return jax.tree.map(
        lambda v, s: jax.ShapeDtypeStruct(v.shape, v.dtype, sharding=s),
        held,
        _beside(held, sharding),
    )


def _beside(held: qwix.QArray, sharding: NamedSharding) -> qwix.QArray:
    """The shardings of a kernel in four bits, from the kernel's."""
    scale = scale_sharding(sharding, held.scale.shape)
    return held.replace(qvalue=sharding, scale=scale)


def _axes(model: nnx.State) -> Params:
    """The logical axes of every parameter."""
    axes: Params = {}
    for path, variable in nnx.to_flat_state(model):
        set_in(axes, tuple(map(str, path)), variable.get_metadata()["out_sharding"])
    return axes


def _map(f: Callable[..., Any], tree: Params, *others: Params, above: Path = ()) -> Params:
    """f(path, value, ...) of every leaf of a nested dict and of others of the same form."""
    return {
        name: _map(f, value, *(o[name] for o in others), above=(*above, name))
        if isinstance(value, dict)
        else f((*above, name), value, *(o[name] for o in others))
        for name, value in tree.items()
    }
