"""Which devices hold a model together, and how often it is held."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
from flax import nnx
from jax.sharding import Mesh

from critic_jax.errors import InputError
from critic_jax.models.build import abstract
from critic_jax.models.config import ModelConfig
from critic_jax.sharding import make_mesh

SHARE = 0.6
"""Of a device's memory, for weights; the rest is for keys, values and what is worked on."""

UNDIVIDED = ("TPU v5 lite", "TPU v6 lite")
"""Chips whose slices, where they are of more than `DIVIDED` chips, run a program on one chip or on
all: libtpu compiles none for a part of them."""

DIVIDED = 8


def replica_meshes(config: ModelConfig, dtype: jnp.dtype, each: int = 0) -> list[Mesh]:
    """A mesh for each replica of the model that this process works with alone; or, where none of
    the processes can hold the model, the one over all of them, which all work with together.

    each: devices of a replica; 0 for the fewest that hold the weights in `SHARE` of their memory.
    Raises InputError for a number that does not divide this process's devices, nor is all there
    are.
    """
    own, everyone = jax.local_devices(), jax.devices()
    # A device that does not tell its memory, as a CPU does not, is taken to have enough.
    memory = (own[0].memory_stats() or {}).get("bytes_limit")
    each = each or (fewest(config, dtype, group(own, everyone), memory) if memory else 1)
    if 0 < each <= len(own) and len(own) % each == 0:
        return [
            sampling_mesh(config, own[first : first + each]) for first in range(0, len(own), each)
        ]
    if each in (0, len(everyone)):
        return [sampling_mesh(config, everyone)]
    sizes = [n for n in range(1, len(own) + 1) if len(own) % n == 0]
    sizes = [*sizes, len(everyone)] if len(everyone) > len(own) else sizes
    raise InputError(
        f"replica_devices is {each}; with {len(own)} devices here and {len(everyone)} in all it "
        f"may be {', '.join(map(str, sizes))}"
    )


def sampling_mesh(config: ModelConfig, devices: list[jax.Device]) -> Mesh:
    """A mesh to decode on: as far along `tensor` as every part is divided, for there each device
    reads its share of keys, values and weights; what is left along `fsdp`."""
    decoder, tower = config.decoder, config.tower
    heads, widths = (decoder.num_kv_heads, tower.num_heads), (decoder.ffn_size, tower.ffn_size)
    tensor = math.gcd(len(devices), *heads, *widths)
    return make_mesh(1, len(devices) // tensor, tensor, devices)


def group(own: list[jax.Device], everyone: list[jax.Device]) -> int:
    """How many of a host's devices may run a program of their own."""
    alone = everyone[0].device_kind in UNDIVIDED and len(everyone) > DIVIDED
    return 1 if alone else len(own)


def fewest(config: ModelConfig, dtype: jnp.dtype, devices: int, memory: int) -> int:
    """How many of a host's devices, each of so many bytes, hold the weights in `SHARE` of their
    memory; 0 where all of them do not. Weights that are put into eight bits are read as they are
    first, and need the same room."""
    count = sum(math.prod(v.shape) for v in jax.tree.leaves(nnx.to_pure_dict(abstract(config)[1])))
    for several in (n for n in range(1, devices + 1) if devices % n == 0):
        if count * dtype.itemsize <= SHARE * memory * several:
            return several
    return 0
