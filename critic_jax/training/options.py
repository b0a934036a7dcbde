"""How a config wants its steps computed."""

from __future__ import annotations

from jax.sharding import Mesh

from critic_jax.errors import InputError
from critic_jax.training.config import TrainConfig
from critic_jax.training.sft import StepOptions
from critic_jax.training.tuning import tuning_of


def step_options(config: TrainConfig, mesh: Mesh) -> StepOptions:
    """The config's options. Raises InputError if its rows cannot be shared over the mesh so."""
    groups = config.accumulate * mesh.shape["data"] * mesh.shape["fsdp"]
    if config.accumulate < 1 or config.rows % groups:
        raise InputError(
            f"rows {config.rows}, accumulate {config.accumulate}: a step's rows must be a multiple "
            f"of accumulate x data x fsdp, here {config.accumulate} x {mesh.shape['data']} x "
            f"{mesh.shape['fsdp']}"
        )
    if config.row_tokens % mesh.shape["tensor"]:
        raise InputError(
            f"row_tokens {config.row_tokens}: must be a multiple of tensor, {mesh.shape['tensor']}"
        )
    lora = tuning_of(config).lora
    return StepOptions(config.remat, config.accumulate, config.loss_mean, mesh, lora)
