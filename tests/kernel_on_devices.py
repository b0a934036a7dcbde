"""A program: the attention kernel, interpreted, on meshes of eight virtual devices.

Run by a test in a process of its own, because the number of devices is settled when JAX starts.
Prints, by mesh and array, the largest error against the dense rule over the largest value.
"""

import json
import os
from functools import partial

os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=8"

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from critic_jax.models.attention import _on_devices, attend, tree_mask
from critic_jax.models.tree_flash import flash_backward, flash_forward
from critic_jax.sharding import in_mesh, make_mesh

ROWS, TOKENS, BLOCK, HEADS, WIDTH = 4, 64, 32, 8, 32

# Data, fsdp, tensor, kv heads, rows: heads split, repeated, and rows too few to share.
WAYS = [(2, 2, 2, 2, 4), (1, 2, 4, 2, 4), (2, 2, 2, 8, 3)]


def errors(data: int, fsdp: int, tensor: int, kv_heads: int, rows: int) -> dict[str, float]:
    dice = np.random.default_rng(0)
    heads = (HEADS, kv_heads, kv_heads, HEADS)
    arrays = (jnp.asarray(dice.normal(size=(rows, TOKENS, n, WIDTH)), jnp.float32) for n in heads)
    q, k, v, d_out = arrays
    # The first half of a row is seen by all of it, then come two branches.
    until = jnp.asarray([[64] * 32 + [50] * 18 + [64] * 14] * rows, jnp.int32)
    dense = partial(attend, mask=tree_mask(until))
    out, back = jax.vjp(dense, q, k, v)
    expected = {"out": out} | dict(zip("qkv", back(d_out), strict=True))

    mesh = make_mesh(data, fsdp, tensor)
    placed = jax.device_put((q, k, v, until, d_out), NamedSharding(mesh, PartitionSpec()))

    @jax.jit
    def run(*given: jax.Array) -> tuple[jax.Array, ...]:
        *arrays, until, d_out = given
        with in_mesh(mesh):
            forward, backward = (
                partial(_on_devices, partial(kernel, block=BLOCK, interpret=True))
                for kernel in (flash_forward, flash_backward)
            )
            out, sums = forward(*arrays, until)
            return out, *backward(*arrays, until, out, sums, d_out)

    found = dict(zip(expected, run(*placed), strict=True))
    return {
        name: float(jnp.abs(found[name] - value).max() / jnp.abs(value).max())
        for name, value in expected.items()
    }


if __name__ == "__main__":
    print(json.dumps({str(way): errors(*way) for way in WAYS}))
