"""The stages of a round that sample: policy and judge, each as the replica that a host makes."""

from __future__ import annotations

import jax.numpy as jnp
from jax.sharding import Mesh

from critic_jax.aot.program import Program
from critic_jax.aot.serving import decode_step, prefill_step
from critic_jax.aot.topology import memory_of
from critic_jax.models.config import ModelConfig
from critic_jax.sampling.config import SamplingConfig
from critic_jax.sampling.engine import PLACES
from critic_jax.sampling.replicas import fewest, group, sampling_mesh
from critic_jax.training.config import AlignConfig

JUDGED_TOKENS = 512
"""What a judge may say at most, unless its checkpoint says otherwise."""


def rollout_prefill(config: AlignConfig, model: ModelConfig, mesh: Mesh) -> Program:
    """The policy reads prompts."""
    return prefill_step(_engine(config, config.max_new_tokens), model, _replica(model, mesh))


def rollout_decode(config: AlignConfig, model: ModelConfig, mesh: Mesh) -> Program:
    """The policy answers."""
    return decode_step(_engine(config, config.max_new_tokens), model, _replica(model, mesh))


def judging_prefill(config: AlignConfig, model: ModelConfig, mesh: Mesh) -> Program:
    """A judge of the policy's size reads pairs of answers."""
    return prefill_step(_engine(config, JUDGED_TOKENS), model, _replica(model, mesh))


def judging_decode(config: AlignConfig, model: ModelConfig, mesh: Mesh) -> Program:
    """A judge of the policy's size gives its verdicts."""
    return decode_step(_engine(config, JUDGED_TOKENS), model, _replica(model, mesh))


def _engine(config: AlignConfig, new_tokens: int) -> SamplingConfig:
    """As a stage makes it: a picture has as many tiles as in training."""
    return SamplingConfig(
        config.init, row_tokens=PLACES, row_tiles=config.row_tiles, new_tokens=new_tokens
    )


def _replica(model: ModelConfig, mesh: Mesh) -> Mesh:
    """Of the first host's devices as few as hold the model, or all devices of the slice."""
    everyone = list(mesh.devices.flat)
    own = [device for device in everyone if device.process_index == everyone[0].process_index]
    each = fewest(model, jnp.dtype("bfloat16"), group(own, everyone), memory_of(everyone))
    return sampling_mesh(model, own[:each] if each else everyone)
