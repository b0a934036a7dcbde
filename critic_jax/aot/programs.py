"""What can be compiled: for each kind of config, the jitted steps that a run with it takes."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from critic_jax.aot.program import Program
from critic_jax.aot.rounds import (
    judging_decode,
    judging_prefill,
    rollout_decode,
    rollout_prefill,
)
from critic_jax.aot.serving import decode_step, held, prefill_step
from critic_jax.data.pair_rows import pair_arrays
from critic_jax.models.config import ModelConfig
from critic_jax.sampling.config import SamplingConfig
from critic_jax.sharding import row_sharding
from critic_jax.training.config import AlignConfig, DpoConfig, TrainConfig
from critic_jax.training.dpo import loss_of, make_dpo_step, make_reference
from critic_jax.training.optimizer import optimizer
from critic_jax.training.options import step_options
from critic_jax.training.sft import make_step
from critic_jax.training.state import start_shapes, state_shapes
from critic_jax.training.tuning import tuning_of
from critic_jax.tree import Row, pack


def sft_step(config: TrainConfig, model: ModelConfig, mesh: Mesh) -> Program:
    """The step of supervised fine-tuning, with the optimizer's part."""
    # How many steps a run has changes its learning rates only.
    tx = optimizer(config, 1000)
    step = make_step(model, jnp.dtype(config.dtype), tx, step_options(config, mesh))
    batch = batch_shapes(config, model, mesh)
    arguments = (state_shapes(model, tx, mesh, tuning_of(config)), batch)
    return Program(step, arguments, config.rows * config.row_tokens)


def batch_shapes(config: TrainConfig, model: ModelConfig, mesh: Mesh) -> dict[str, Any]:
    """A step's batch: what packed rows hold, stacked, and the count of records."""
    return _stacked(config, mesh, _empty(config, model).arrays())


def _empty(config: TrainConfig, model: ModelConfig) -> Row:
    """A row of the config's sizes."""
    tile, patches = model.tower.tile_size, model.tower.patches
    return pack([], [], config.row_tokens, config.row_tiles, (tile, tile, 3), patches)


def _stacked(config: TrainConfig, mesh: Mesh, row: dict[str, Any]) -> dict[str, Any]:
    """The shapes of a step's rows, and of the count of records."""
    spread, whole = row_sharding(mesh), NamedSharding(mesh, PartitionSpec())
    batch = {
        name: jax.ShapeDtypeStruct((config.rows, *value.shape), value.dtype, sharding=spread)
        for name, value in row.items()
    }
    return batch | {"records": jax.ShapeDtypeStruct((), jnp.float32, sharding=whole)}


def dpo_step(config: DpoConfig, model: ModelConfig, mesh: Mesh) -> Program:
    """The preference step, with the optimizer's part."""
    tx = optimizer(config, 1000)
    options, dtype = step_options(config, mesh), jnp.dtype(config.dtype)
    step = make_dpo_step(model, dtype, tx, loss_of(config), options)
    arguments = (state_shapes(model, tx, mesh, tuning_of(config)), pair_shapes(config, model, mesh))
    return Program(step, arguments, config.rows * config.row_tokens)


def reference_pass(config: DpoConfig, model: ModelConfig, mesh: Mesh) -> Program:
    """The forward pass that finds what the reference says of a step's pairs."""
    function = make_reference(model, jnp.dtype(config.dtype), step_options(config, mesh))
    params = start_shapes(model, mesh, tuning_of(config))
    arguments = (params, pair_shapes(config, model, mesh))
    return Program(function, arguments, config.rows * config.row_tokens)


def pair_shapes(config: DpoConfig, model: ModelConfig, mesh: Mesh) -> dict[str, Any]:
    """A step's batch of pairs."""
    return _stacked(config, mesh, pair_arrays(_empty(config, model), [], [], config.global_batch))


PROGRAMS: dict[type[Any], dict[str, Callable[[Any, ModelConfig, Mesh], Program]]] = {
    TrainConfig: {"sft": sft_step},
    DpoConfig: {"dpo": dpo_step, "reference": reference_pass},
    SamplingConfig: {"prefill": prefill_step, "decode": decode_step},
    AlignConfig: {
        "rollout_prefill": rollout_prefill,
        "rollout_decode": rollout_decode,
        "judging_prefill": judging_prefill,
        "judging_decode": judging_decode,
        "reference": reference_pass,
        "dpo": dpo_step,
    },
}
"""By a config's class, its steps by name."""


def stated(config: Any, model: ModelConfig, mesh: Mesh) -> dict[str, Any]:
    """What a config's steps are compiled for, beside model and mesh."""
    if isinstance(config, SamplingConfig):
        return held(config, model, mesh)
    return {name: getattr(config, name) for name in ("rows", "row_tokens", "row_tiles")}


def with_row_tokens(config: Any, tokens: int) -> Any:
    """The config with rows of another length, and as many tiles for each token as before."""
    tiles = max(1, round(config.row_tiles * tokens / config.row_tokens))
    return dataclasses.replace(config, row_tokens=tokens, row_tiles=tiles)
