"""The two programs of an engine, for a mesh that is not there: prefill and decode."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from critic_jax.aot.program import Program
from critic_jax.models.build import abstract, assemble
from critic_jax.models.config import ModelConfig
from critic_jax.sampling.cache import Cache, Shape, cache_shapes, kv_bytes, kv_ways
from critic_jax.sampling.choose import Sampling, dynamic
from critic_jax.sampling.config import SamplingConfig
from critic_jax.sampling.decode import decode, idle
from critic_jax.sampling.prefill import READ, pieces, read
from critic_jax.sampling.run import MOST
from critic_jax.sampling.trees import bucket
from critic_jax.sampling.visits import plan_visits
from critic_jax.sampling.weights import Graphs, Weights, in_its_mesh, take_apart
from critic_jax.sharding import param_shardings
from critic_jax.tree import pack

STOPS = (0, 1)
"""Ids that stop an answer; which they are changes nothing."""


def prefill_step(config: SamplingConfig, model: ModelConfig, mesh: Mesh) -> Program:
    """A trunk of the whole context with a branch for each slot, read in one program: the engine
    runs its parts one by one.
    """
    graphs, weights = weight_shapes(config, model, mesh)
    tile, patches = model.tower.tile_size, model.tower.patches
    shape = (tile, tile, 3)
    row = pack([], [], config.row_tokens, config.row_tiles, shape, patches).arrays()
    ends = np.zeros(1 << (config.batch - 1).bit_length(), np.int32)
    batch = {name: row[name][None] for name in READ}
    given = (list(pieces(row["tiles"], graphs.devices)), batch, ends, np.int32(0))
    arguments = (weights, _cache(config, model, mesh).pool, *_everywhere(given, mesh))
    function = jax.jit(partial(read, graphs), donate_argnums=1)
    return Program(function, arguments, config.row_tokens)


def decode_step(config: SamplingConfig, model: ModelConfig, mesh: Mesh) -> Program:
    """A run of all branches, of as many tokens as the host asks for."""
    graphs, weights = weight_shapes(config, model, mesh)
    given = (
        idle(config.batch, model.decoder.hidden_size),
        np.zeros(config.row_tokens, np.int32),
        plan_visits([], config.batch, config.row_tokens),
        dynamic([Sampling()] * config.batch),
        np.int32(0),
    )
    arguments = (weights, _cache(config, model, mesh), *_everywhere(given, mesh))
    run = partial(in_its_mesh(decode), graphs, STOPS, MOST)
    return Program(jax.jit(run, donate_argnums=1), arguments, config.batch)


def weight_shapes(config: SamplingConfig, model: ModelConfig, mesh: Mesh) -> tuple[Graphs, Weights]:
    """The weights of an engine as `jax.ShapeDtypeStruct`, laid out as a checkpoint is loaded."""
    state, dtype = abstract(model)[1], jnp.dtype(config.dtype)

    def placed(value: Any, sharding: NamedSharding) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct(value.shape, dtype, sharding=sharding)

    shapes = jax.tree.map(placed, nnx.to_pure_dict(state), param_shardings(state, mesh))
    return take_apart(assemble(model, shapes, dtype))


def held(config: SamplingConfig, model: ModelConfig, mesh: Mesh) -> dict[str, Any]:
    """What a config's engine has room for, and how its keys and values lie."""
    shape, dtype = _shape(config), jnp.dtype(config.dtype)
    ways, heads = kv_ways(model.decoder, mesh), model.decoder.num_kv_heads
    places = shape.places + shape.slots * shape.room
    return {
        "branches": config.batch,
        "context": config.row_tokens,
        "tiles": config.row_tiles,
        "new_tokens": config.new_tokens,
        "kv_layout": f"{heads // ways} of {heads} heads to a chip",
        "kv_bytes_per_chip": places * kv_bytes(model.decoder, dtype, mesh),
    }


def _shape(config: SamplingConfig) -> Shape:
    return Shape(config.batch, config.row_tokens, bucket(config.new_tokens))


def _cache(config: SamplingConfig, model: ModelConfig, mesh: Mesh) -> Cache:
    return cache_shapes(model.decoder, jnp.dtype(config.dtype), _shape(config), mesh)


def _everywhere(arrays: Any, mesh: Mesh) -> Any:
    """Shapes of arrays that every device holds whole."""
    whole = NamedSharding(mesh, PartitionSpec())
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=whole), arrays)
