"""The device mesh, and the one table from logical axis names to mesh axes."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np
from flax import nnx
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from critic_jax.errors import InputError

MESH_AXES = ("data", "fsdp", "tensor")

# Logical axis -> mesh axis. What is not listed is held whole on every device.
RULES: dict[str, str] = {
    "embed": "fsdp",
    "heads": "tensor",
    "kv_heads": "tensor",
    "ffn": "tensor",
    "vocab": "tensor",
}

# Rows of a batch are spread over both kinds of data parallelism.
ROWS = PartitionSpec(("data", "fsdp"))


def make_mesh(data: int = 1, fsdp: int = 0, tensor: int = 1) -> Mesh:
    """A mesh over all devices; `fsdp` 0 takes what the other two leave.

    Raises InputError if the sizes don't multiply to the number of devices.
    """
    devices = jax.devices()
    fsdp = fsdp or max(1, len(devices) // (data * tensor))
    if data * fsdp * tensor != len(devices):
        raise InputError(
            f"mesh data {data} x fsdp {fsdp} x tensor {tensor} is {data * fsdp * tensor} devices, "
            f"this machine has {len(devices)}"
        )
    return Mesh(np.asarray(devices).reshape(data, fsdp, tensor), MESH_AXES)


def param_shardings(state: nnx.State, mesh: Mesh) -> Any:
    """A NamedSharding for every parameter of an (abstract) state, in a plain nested dict."""

    def of(variable: Any) -> NamedSharding:
        axes = variable.get_metadata().get("out_sharding") or ()
        return NamedSharding(mesh, PartitionSpec(*(RULES.get(a) if a else None for a in axes)))

    flat = {path: of(v) for path, v in nnx.to_flat_state(state)}
    nested: dict[str, Any] = {}
    for path, value in flat.items():
        here = nested
        *parents, last = map(str, path)
        for name in parents:
            here = here.setdefault(name, {})
        here[last] = value
    return nested


def row_sharding(mesh: Mesh) -> NamedSharding:
    """How a batch array [B, ...] is spread."""
    return NamedSharding(mesh, ROWS)
