"""An engine whose model lies on a mesh answers as on one device, and so in several processes."""

import json
import math
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from flax import nnx
from jax.sharding import AbstractMesh
from sampling_helpers import CONFIG, STOPS
from sampling_meshes import ACROSS, WITHIN, answers, asked
from tiny_critic import random_params

from critic_jax.models.build import abstract, assemble
from critic_jax.sampling.engine import Engine
from critic_jax.sharding import MESH_AXES, param_shardings

PROGRAM = Path(__file__).parents[1] / "sampling_meshes.py"


def run(processes: int) -> list[dict[str, Any]]:
    """What each process says."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    calls = [[sys.executable, PROGRAM, *map(str, (p, processes, port))] for p in range(processes)]
    running = [
        subprocess.Popen(call, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for call in calls
    ]
    try:
        ended = [process.communicate(timeout=280) for process in running]
    finally:
        for process in running:
            process.kill()
    assert [process.returncode for process in running] == [0] * processes, ended
    return [json.loads(out.splitlines()[-1]) for out, _ in ended]


@pytest.fixture(scope="module")
def one() -> dict[str, Any]:
    engine = Engine(assemble(CONFIG, random_params(CONFIG)), STOPS, batch=4)
    found = answers(engine, asked())
    assert {"stop", "length"} == set(found["finish"])
    assert len({len(tokens) for tokens in found["tokens"]}) > 3
    return found | {"held": sum(p.nbytes for p in jax.tree.leaves(engine.weights))}


def check(found: dict[str, Any], one: dict[str, Any], fsdp: int, tensor: int) -> None:
    assert found["tokens"] == one["tokens"] and found["finish"] == one["finish"]
    for name in ("logprobs", "alternatives"):
        for a, b in zip(found[name], one[name], strict=True):
            np.testing.assert_allclose(a, b, atol=1e-5)
    # A device holds its share of key-value heads, or all where they cannot be shared.
    ways = tensor if CONFIG.decoder.num_kv_heads % tensor == 0 else 1
    assert found["cache"] * ways == one["cache"] and found["place"] * ways == one["place"]
    # Of the weights, what training holds: kept layer by layer they are no more.
    state = abstract(CONFIG)[1]
    shardings = param_shardings(state, AbstractMesh((1, fsdp, tensor), MESH_AXES))
    shares = jax.tree.map(
        lambda v, s: 4 * math.prod(s.shard_shape(v.shape)), nnx.to_pure_dict(state), shardings
    )
    assert found["held"] == sum(jax.tree.leaves(shares)) < one["held"]


def test_one_replica_in_two_processes(one: dict[str, Any]) -> None:
    """Prompts and answers of many lengths; the second process is asked nothing itself."""
    (sizes,) = ACROSS
    both = [found["x".join(map(str, sizes))] for found in run(2)]
    assert both[0] == both[1]
    assert both[0]["wrong"] == "prompt 0 is empty"
    check(both[0], one, *sizes)


@pytest.mark.slow
def test_meshes_of_one_process(one: dict[str, Any]) -> None:
    (found,) = run(1)
    for sizes in WITHIN:
        check(found["x".join(map(str, sizes))], one, *sizes)
