"""A program: a training step of adapters on four-bit kernels, on one device and on meshes of eight.

Run by a test in a process of its own, because the number of devices is settled when JAX starts:
adapter_meshes.py WAYS, where WAYS is "few" or "others". Prints, for every mesh, how far loss and
gradients are from those of one device, and whether all that is frozen lies there with the same
bits; with "all", whether a whole step moves adapters so, and nothing else.
"""

import json
import os
import sys
from typing import Any

# Left to itself, the CPU's compiler starts more gathers at once than there are threads to wait in.
os.environ["XLA_FLAGS"] = (
    "--xla_force_host_platform_device_count=8 --xla_backend_optimization_level=0"
    " --xla_cpu_enable_concurrency_optimized_scheduler=false"
)

import jax
import jax.numpy as jnp
import numpy as np
import optax
from meshes import batch, distance
from tiny_critic import tiny_checkpoint

from critic_jax.models.build import Params, abstract
from critic_jax.models.lora import Lora
from critic_jax.sharding import make_mesh, param_shardings, row_sharding
from critic_jax.training.sft import StepOptions, make_gradients, make_step
from critic_jax.training.state import fresh_state, state_shapes
from critic_jax.training.tuning import Tuning

TUNING = Tuning(
    tower=0.0,
    projector=0.0,
    decoder=0.0,
    lora=Lora(4, 8.0, ("decoder.[qo]", "decoder.down", "tower.o")),
    quantized=True,
)
WAYS = sys.argv[1]
MESHES: dict[str, tuple[tuple[int, int, int], dict[str, Any]]] = {
    "2x2x2, accumulate": ((2, 2, 2), {"accumulate": 2, "remat": "block"}),
    "1x1x4": ((1, 1, 4), {}),
    "1x2x2": ((1, 2, 2), {"remat": "block"}),
}


class Run:
    """Loss and gradients on a mesh, the frozen tree before and after a step, held by the host."""

    def __init__(self, sizes: tuple[int, int, int] | None, **options: Any) -> None:
        count = int(np.prod(sizes or (1,)))
        mesh = make_mesh(*(sizes or ()), devices=jax.devices()[:count])
        checkpoint = tiny_checkpoint()
        tx = optax.sgd(0.1)
        whole = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())
        shapes = state_shapes(checkpoint.config, tx, mesh, TUNING)
        shardings = param_shardings(abstract(checkpoint.config)[1], mesh)
        start = jax.tree.map(jax.device_put, checkpoint.params, shardings)
        state = fresh_state(start, checkpoint.config, tx, mesh, TUNING, seed=1)
        assert all(jax.tree.leaves(jax.tree.map(as_said, shapes, state)))
        state["params"] = jax.tree.map(never_zero, state["params"])
        rows = {
            name: jax.device_put(value, row_sharding(mesh) if value.ndim else whole)
            for name, value in batch().items()
        }
        dtype, options = jnp.dtype(jnp.float32), StepOptions(mesh=mesh, lora=TUNING.lora, **options)
        gradients = jax.jit(make_gradients(checkpoint.config, dtype, options))
        loss, grads = gradients(state["params"], rows, state["frozen"])
        updated = jax.tree.map(lambda p, g: p - 0.1 * g, state["params"], grads)
        self.found = jax.tree.map(np.asarray, (loss, grads, updated))
        self.frozen = bits(state["frozen"])
        if WAYS == "others":
            after, _ = make_step(checkpoint.config, dtype, tx, options)(state, rows)
            assert bits(after["frozen"]) == self.frozen
            far = jax.tree.map(lambda a, b: np.abs(a - b).max(), after["params"], self.found[2])
            assert max(map(float, jax.tree.leaves(far))) < 1e-6


def as_said(shape: jax.ShapeDtypeStruct, value: jax.Array) -> bool:
    """An axis of one device may stand in one sharding and not in the other."""
    same = (shape.shape, shape.dtype) == (value.shape, value.dtype)
    return same and shape.sharding.is_equivalent_to(value.sharding, value.ndim)


def never_zero(value: jax.Array) -> jax.Array:
    """Adapters' second half starts at zero, which would hide the gradient of the first."""
    return jax.device_put(jnp.where(value == 0, 0.03, value), value.sharding)


def bits(tree: Params) -> list[bytes]:
    return [np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(tree)]


def main() -> None:
    one = Run(None)
    found: dict[str, Any] = {"one": {"loss": float(one.found[0])}}
    for name, (sizes, options) in list(MESHES.items())[
        slice(1) if WAYS == "few" else slice(1, None)
    ]:
        run = Run(sizes, **options)
        same = {"same": run.frozen == one.frozen}
        found[name] = distance(run.found, one.found) | same
    print(json.dumps(found))


if __name__ == "__main__":
    main()
