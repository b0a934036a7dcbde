"""A program: one of two hosts of a run, which feeds its own devices and no others.

Run twice by a test, in processes of their own, with two devices each. Prints for every step which
rows this host built, and a sum over the global batch that both must agree on.
"""

import json
import os
import sys

import jax
import jax.numpy as jnp
import numpy as np
from tiny_critic import GEOMETRY, tiny_tokenizer

from critic_jax.data import Record
from critic_jax.data.encode import Encoder
from critic_jax.data.pipeline import Rows
from critic_jax.data.plan import Budget
from critic_jax.sharding import make_mesh
from critic_jax.training.inputs import host_rows, on_device

BUDGET = Budget(records=6, rows=8, tokens=64, tiles=0)


def planned() -> Rows:
    """Two epochs of texts, no two alike."""

    def record(number: int) -> Record:
        turns = (
            {"from": "human", "value": f"Say {number}."},
            {"from": "gpt", "value": "One. " * 3},
        )
        return Record(f"r{number}", "made", turns, (), number, f"record {number}")

    encoder = Encoder(tiny_tokenizer(), GEOMETRY, "answer")
    return Rows([record(n) for n in range(20)], encoder, BUDGET, epochs=2, seed=3)


def checksum(tokens: np.ndarray | jax.Array) -> jax.Array:
    """A sum that changes when two rows change places."""
    places = jnp.arange(1, tokens.size + 1, dtype=jnp.float32).reshape(tokens.shape)
    return jnp.sum(tokens * places)


def main() -> None:
    # Read when the first device is asked for; not above, where the test imports this file too.
    os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=2"
    host, port, start = int(sys.argv[1]), sys.argv[2], int(sys.argv[3])
    jax.distributed.initialize(f"127.0.0.1:{port}", num_processes=2, process_id=host)
    rows, mesh = planned(), make_mesh(data=2, fsdp=2)
    built: list[tuple[int, int]] = []
    part = rows.part

    def watched(step: int, first: int, stop: int) -> dict[str, np.ndarray]:
        built.append((first, stop))
        return part(step, first, stop)

    rows.part = watched
    total = jax.jit(checksum)
    sums = []
    for step, batch in enumerate(on_device(rows, start, mesh), start):
        tokens = batch["tokens"]
        sums.append(float(total(tokens)))
        expected = part(step, 0, BUDGET.rows)
        for shard in tokens.addressable_shards:
            np.testing.assert_array_equal(shard.data, expected["tokens"][shard.index])
        assert float(batch["records"]) == float(expected["records"])
        assert host_rows(tokens.sharding, BUDGET.rows) == built[0]
    print(json.dumps({"built": sorted(set(built)), "sums": sums}))


if __name__ == "__main__":
    main()
