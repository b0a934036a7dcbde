"""A program: the loss of one batch on one device, and on two in each way of sharing the work.

Run by a test in a process of its own, because the number of devices is settled when JAX starts.
Prints {"one": {...}, "data": ..., "fsdp": ..., "tensor": ...}: the loss, and how many numbers of
the parameters and how many rows the first device holds.
"""

import json
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from tiny_critic import tiny_checkpoint

from critic_jax.models.build import abstract
from critic_jax.sharding import make_mesh, param_shardings, row_sharding
from critic_jax.training.sft import make_loss
from critic_jax.tree import Path, pack


def batch() -> dict[str, np.ndarray]:
    """Two rows of text, each with a tile that some of its tokens see."""
    rng = np.random.default_rng(0)
    rows = []
    for _ in range(2):
        path = Path(rng.integers(0, 700, 30).astype(np.int32), rng.random(30).astype(np.float32))
        row = pack([path], [[0]], 32, 1, (16, 16, 3), 16).arrays()
        row["tiles"][:] = rng.integers(0, 256, row["tiles"].shape)
        row["tap_index"][3:19, 0] = np.arange(1, 17)
        row["tap_weight"][3:19, 0] = 1
        rows.append(row)
    return {name: np.stack([r[name] for r in rows]) for name in rows[0]}


def held(tree: Any) -> int:
    """Numbers that the first device holds."""
    first = jax.devices()[0]
    shards = (s for leaf in jax.tree.leaves(tree) for s in leaf.addressable_shards)
    return sum(s.data.size for s in shards if s.device == first)


def main() -> None:
    checkpoint = tiny_checkpoint()
    config, params, rows = checkpoint.config, checkpoint.params, batch()
    loss = jax.jit(make_loss(config, jnp.dtype(jnp.float32)))
    records = jnp.float32(2)

    def measured(params: Any, rows: dict[str, jax.Array]) -> dict[str, float]:
        return {
            "loss": float(loss(params, {**rows, "records": records})),
            "params": held(params),
            "rows": held(rows["tokens"]) // 32,
        }

    found = {"one": measured(jax.device_put(params), jax.device_put(rows))}
    for axis in ("data", "fsdp", "tensor"):
        mesh = make_mesh(**{"data": 1, "fsdp": 1, "tensor": 1} | {axis: 2})
        placed = jax.device_put(params, param_shardings(abstract(config)[1], mesh))
        spread = jax.device_put(rows, row_sharding(mesh))
        found[axis] = measured(placed, spread)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
