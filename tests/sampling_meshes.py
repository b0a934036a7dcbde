"""A program: what an engine answers on meshes of four devices.

Run by a test in processes of its own, because the number of devices is settled when JAX starts:
sampling_meshes.py PROCESS PROCESSES PORT. The devices are spread over the processes, of which only
the first knows what is asked. Prints for every mesh what was answered, tokens and
log-probabilities, what a device holds, and what a wrong request led to.
"""

import json
import os
import sys
from typing import Any

import jax
import numpy as np
from sampling_helpers import CONFIG, PROMPTS, STOPS, text
from tiny_critic import random_params

from critic_jax.errors import InputError
from critic_jax.models.build import abstract, assemble
from critic_jax.sampling.choose import Sampling
from critic_jax.sampling.engine import Engine
from critic_jax.sharding import make_mesh, param_shardings
from critic_jax.tree import Path

DEVICES = 4
# (fsdp, tensor): 4 is more than the two key-value heads.
ACROSS = [(2, 2)]
WITHIN = [(2, 2), (1, 4), (4, 1)]
SAMPLING = Sampling(12, 1.0, top_p=0.95, repetition_penalty=1.2, seed=4, alternatives=(60, 61))
EMPTY = Path(np.zeros(0, np.int32), np.zeros(0, np.float32))


def asked() -> list[Path]:
    """Of many lengths, with a trunk that three share, and pictures."""
    trunk = text(40, 9).tokens
    branches = []
    for seed in range(3):
        tokens = np.concatenate([trunk, text(3 + 4 * seed, seed).tokens])
        branches.append(Path(tokens, np.zeros(len(tokens), np.float32)))
    return [*branches, *PROMPTS]


def answers(engine: Engine, prompts: list[Path]) -> dict[str, Any]:
    """Two to each prompt, so more than there are slots."""
    found = [c for each in engine.generate(prompts, SAMPLING, n=2) for c in each]
    return {
        "tokens": [list(c.tokens) for c in found],
        "finish": [c.finish for c in found],
        "logprobs": [list(c.logprobs) for c in found],
        "alternatives": [c.alternatives.tolist() for c in found],
        "cache": engine.cache_bytes(),
        "place": engine.place_bytes(),
    }


def said(engine: Engine, prompts: list[Path]) -> str:
    try:
        engine.generate(prompts, SAMPLING)
    except InputError as error:
        return str(error)
    return "nothing"


def main() -> None:
    process, processes, port = map(int, sys.argv[1:])
    # Read when the first device is asked for. Level 0 compiles in half the time.
    os.environ["XLA_FLAGS"] = (
        f"--xla_force_host_platform_device_count={DEVICES // processes}"
        " --xla_backend_optimization_level=0"
    )
    if processes > 1:
        jax.distributed.initialize(f"127.0.0.1:{port}", processes, process)
    found = {}
    for sizes in ACROSS if processes > 1 else WITHIN:
        mesh = make_mesh(1, *sizes)
        params = jax.tree.map(
            lambda v, s: jax.make_array_from_callback(v.shape, s, lambda i: v[i]),
            random_params(CONFIG),
            param_shardings(abstract(CONFIG)[1], mesh),
        )
        engine = Engine(assemble(CONFIG, params), STOPS, batch=4)
        wrong = said(engine, [EMPTY] if process == 0 else [])
        prompts = asked() if process == 0 else []
        held = sum(p.addressable_shards[0].data.nbytes for p in jax.tree.leaves(engine.weights))
        found["x".join(map(str, sizes))] = answers(engine, prompts) | {"wrong": wrong, "held": held}
    print(json.dumps(found))


if __name__ == "__main__":
    main()
