"""A program: one training step on one device, and on up to eight in many ways of sharing it.

Run by a test in a process of its own, because the number of devices is settled when JAX starts:
meshes.py WAYS PROCESS PROCESSES PORT, where WAYS is "few" or "others", and the devices may be
spread over processes. Prints, for every way, how far loss, gradients and parameters after a step of
plain gradient descent are from those of one device, and whether a second run gave the same bits.
"""

import json
import os
import sys
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from tiny_critic import tiny_checkpoint

from critic_jax.models.build import Params, abstract
from critic_jax.sharding import make_mesh, param_shardings, row_sharding
from critic_jax.training.sft import StepOptions, make_gradients
from critic_jax.tree import Path, pack

DEVICES = 8
WAYS = sys.argv[1] if sys.argv[1:] else "few"
PROCESS, PROCESSES, PORT = (int(word) for word in (sys.argv[2:] or ("0", "1", "0")))

# (data, fsdp, tensor): every axis alone and with others; 4 is more than the two key-value heads.
FEW = [(1, 1, 4), (2, 2, 2)]
OTHERS = [(2, 1, 1), (1, 2, 1), (1, 1, 2), (2, 2, 1), (1, 2, 2), (1, 8, 1), (1, 4, 2), (1, 2, 4)]
# Each with an axis that runs across two processes.
ACROSS = [(1, 8, 1), (2, 1, 4)]
OPTIONS: dict[str, dict[str, Any]] = {
    "accumulate": {"accumulate": 2, "remat": "block"},
    "token, accumulate": {"loss_mean": "token", "accumulate": 4},
    "block": {"remat": "block"},
    "products": {"remat": "products"},
    "token": {"loss_mean": "token"},
}
ROWS, TOKENS, TILES = 8, 64, 4


def batch() -> dict[str, np.ndarray]:
    """Rows of a few branches on a trunk with a picture; one has no target, one is padding alone."""
    rng = np.random.default_rng(0)
    rows = []
    for number in range(ROWS):
        trunk = rng.integers(0, 700, 24)
        paths = []
        for length in rng.integers(5, 12, 3 if number < ROWS - 1 else 0):
            tokens = np.concatenate([trunk, rng.integers(0, 700, length)]).astype(np.int32)
            weights = np.where(np.arange(len(tokens)) > 24, rng.random(len(tokens)), 0)
            paths.append(Path(tokens, (weights * (number != 2)).astype(np.float32)))
        row = pack(paths, [list(range(len(paths)))], TOKENS, TILES, (16, 16, 3), 16).arrays()
        if paths:
            row["tiles"][:] = rng.integers(0, 256, row["tiles"].shape)
            row["tap_index"][3:19] = rng.integers(0, 1 + 16 * TILES, (16, 4))
            row["tap_weight"][3:19] = rng.random((16, 4))
        rows.append(row)
    stacked = {name: np.stack([r[name] for r in rows]) for name in rows[0]}
    return stacked | {"records": np.float32(3 * (ROWS - 1))}


class Run:
    """Loss and gradients of the batch on a mesh, as arrays that every process holds whole."""

    def __init__(self, mesh: Any, **options: Any) -> None:
        checkpoint = tiny_checkpoint()
        shardings = param_shardings(abstract(checkpoint.config)[1], mesh)
        whole = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())

        def place(value: np.ndarray, sharding: Any) -> jax.Array:
            return jax.make_array_from_callback(value.shape, sharding, lambda i: value[i])

        self.params = jax.tree.map(place, checkpoint.params, shardings)
        self.rows = {
            name: place(value, row_sharding(mesh) if value.ndim else whole)
            for name, value in batch().items()
        }
        gradients = make_gradients(
            checkpoint.config, jnp.dtype(jnp.float32), StepOptions(mesh=mesh, **options)
        )

        def step(params: Params, rows: dict[str, jax.Array]) -> tuple[jax.Array, Params, Params]:
            loss, grads = gradients(params, rows)
            return loss, grads, optax.apply_updates(params, jax.tree.map(lambda g: -0.1 * g, grads))

        self.step = jax.jit(step, out_shardings=whole)

    def __call__(self) -> tuple[float, Params, Params]:
        return jax.tree.map(np.asarray, self.step(self.params, self.rows))


def distance(found: Any, expected: Any) -> dict[str, float]:
    """Relative error of the loss and of the worst gradient, largest error of a parameter.

    A gradient's error is taken relative to its norm, or to a hundredth of the norm of all: SigLIP's
    key bias has a true gradient of zero.
    """
    everything = float(optax.tree.norm(expected[1]))

    def of_gradient(a: np.ndarray, b: np.ndarray) -> float:
        return float(np.linalg.norm(a - b) / max(np.linalg.norm(b), 1e-2 * everything))

    return {
        "loss": float(abs(found[0] - expected[0]) / abs(expected[0])),
        "gradient": max(jax.tree.leaves(jax.tree.map(of_gradient, found[1], expected[1]))),
        "params": max(
            jax.tree.leaves(
                jax.tree.map(lambda a, b: float(np.abs(a - b).max()), found[2], expected[2])
            )
        ),
    }


def main() -> None:
    # Read when the first device is asked for. Level 0 compiles in half the time.
    os.environ["XLA_FLAGS"] = (
        f"--xla_force_host_platform_device_count={DEVICES // PROCESSES}"
        " --xla_backend_optimization_level=0"
    )
    found: dict[str, Any] = {}
    if PROCESSES > 1:
        jax.distributed.initialize(f"127.0.0.1:{PORT}", PROCESSES, PROCESS)
    one = jax.local_devices()[:1]
    expected = Run(make_mesh(devices=one))()
    found["one"] = {"loss": float(expected[0]), "norm": float(optax.tree.norm(expected[1]))}
    meshes = ACROSS if PROCESSES > 1 else FEW if WAYS == "few" else OTHERS
    for sizes in meshes:
        run = Run(make_mesh(*sizes, devices=jax.devices()[: int(np.prod(sizes))]))
        first, second = run(), run()
        same = jax.tree.map(lambda a, b: a.tobytes() == b.tobytes(), first, second)
        found["x".join(map(str, sizes))] = distance(first, expected) | {
            "repeats": all(jax.tree.leaves(same))
        }
    if PROCESSES == 1:
        token = Run(make_mesh(devices=one), loss_mean="token")()
        for name, options in list(OPTIONS.items())[slice(1) if WAYS == "few" else slice(1, None)]:
            run = Run(make_mesh(1, 2, 2, devices=jax.devices()[:4]), **options)
            found[name] = distance(run(), token if "token" in name else expected)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
