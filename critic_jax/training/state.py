"""The train state as shapes with shardings: what is restored, what is compiled for."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from critic_jax.models.build import abstract
from critic_jax.models.config import ModelConfig
from critic_jax.sharding import param_shardings
from critic_jax.training.sft import TrainState


def state_shapes(config: ModelConfig, tx: optax.GradientTransformation, mesh: Mesh) -> TrainState:
    """Of every array of a train state; moments are laid out as their parameters."""
    model = abstract(config)[1].to_pure_dict()
    shardings = param_shardings(abstract(config)[1], mesh)
    whole = NamedSharding(mesh, PartitionSpec())

    def placed(value: Any, sharding: NamedSharding) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct(value.shape, value.dtype, sharding=sharding)

    params = jax.tree.map(
        lambda p, s: jax.ShapeDtypeStruct(p.shape, jnp.float32, sharding=s), model, shardings
    )
    opt_state = optax.tree.map_params(
        tx,
        placed,
        jax.eval_shape(tx.init, params),
        shardings,
        transform_non_params=lambda v: placed(v, whole),
    )
    return {
        "params": params,
        "opt_state": opt_state,
        "step": jax.ShapeDtypeStruct((), jnp.int32, sharding=whole),
    }
