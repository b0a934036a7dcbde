"""The device mesh, and the tables from logical axis names to mesh axes."""

from __future__ import annotations

import contextlib
import math
from contextlib import AbstractContextManager
from functools import partial
from typing import Any

import jax
import numpy as np
from flax import nnx
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from critic_jax.errors import InputError

MESH_AXES = ("data", "fsdp", "tensor")

# Logical axis of a parameter -> mesh axis. What is not listed is held whole on every device.
RULES: dict[str, str] = {
    "embed": "fsdp",
    "heads": "tensor",
    "kv_heads": "tensor",
    "ffn": "tensor",
    "vocab": "tensor",
}

# These are held whole where the mesh axis does not divide them.
WHOLE_IF_UNEVEN = ("kv_heads", "vocab")

# Logical axis of an activation -> mesh axes. Rows are spread over both kinds of data parallelism,
# tiles over every chip: no tile needs another.
ACTIVATIONS: dict[str, tuple[str, ...]] = {
    "rows": ("data", "fsdp"),
    "tiles": ("data", "fsdp", "tensor"),
    "tokens": ("tensor",),
    "width": ("tensor",),
    "heads": ("tensor",),
    "kv_heads": ("tensor",),
    "ffn": ("tensor",),
    "vocab": ("tensor",),
}

# Rows of a batch are spread over both kinds of data parallelism.
ROWS = PartitionSpec(ACTIVATIONS["rows"])


def make_mesh(
    data: int = 1, fsdp: int = 0, tensor: int = 1, devices: list[jax.Device] | None = None
) -> Mesh:
    """A mesh over all devices, or those given; `fsdp` 0 takes what the other two leave.

    Raises InputError if the sizes don't multiply to the number of devices.
    """
    where = "these are" if devices else "this machine has"
    devices = devices or jax.devices()
    fsdp = fsdp or max(1, len(devices) // (data * tensor))
    if data * fsdp * tensor != len(devices):
        raise InputError(
            f"mesh data {data} x fsdp {fsdp} x tensor {tensor} is {data * fsdp * tensor} devices, "
            f"{where} {len(devices)}"
        )
    return Mesh(np.asarray(devices).reshape(data, fsdp, tensor), MESH_AXES)


def in_mesh(mesh: Mesh | None) -> AbstractContextManager[Any]:
    """Within it, also while a function is traced, `spread` spreads over `mesh`."""
    if mesh is None:
        return contextlib.nullcontext()
    return jax.sharding.use_abstract_mesh(mesh.abstract_mesh)


def mesh_size(*axes: str) -> int:
    """Devices along some axes of the mesh that `in_mesh` set; 1 without one."""
    shape = jax.sharding.get_abstract_mesh().shape
    return math.prod(shape.get(axis, 1) for axis in axes)


def spread(x: jax.Array, *axes: str | None) -> jax.Array:
    """x, laid out over the current mesh by one name of `ACTIVATIONS` (or None) a dimension.

    A dimension that its mesh axes don't divide is held whole. Without a mesh, x as it is.
    """
    if mesh_size(*MESH_AXES) == 1:
        return x
    spec = [
        ACTIVATIONS[name] if name and size % mesh_size(*ACTIVATIONS[name]) == 0 else None
        for size, name in zip(x.shape, axes, strict=True)
    ]
    return jax.lax.with_sharding_constraint(x, PartitionSpec(*spec))


def param_shardings(state: nnx.State, mesh: Mesh) -> Any:
    """A NamedSharding for every parameter of an (abstract) state, in a plain nested dict.

    Raises InputError where a mesh axis cannot divide a parameter.
    """
    nested: dict[str, Any] = {}
    for path, variable in nnx.to_flat_state(state):
        *parents, last = map(str, path)
        here = nested
        for name in parents:
            here = here.setdefault(name, {})
        here[last] = _sharding(variable, mesh, ".".join(map(str, path)))
    return nested


def _sharding(variable: Any, mesh: Mesh, name: str) -> NamedSharding:
    spec: list[str | None] = []
    for size, axis in zip(variable.shape, variable.get_metadata()["out_sharding"], strict=True):
        over = RULES.get(axis) if axis else None
        if over and size % mesh.shape[over]:
            if axis not in WHOLE_IF_UNEVEN:
                raise InputError(
                    f"mesh {over} {mesh.shape[over]}: {name} has {size} along {axis}, which it "
                    f"does not divide; {over} may be {_divisors(size, mesh.size)}"
                )
            over = None
        spec.append(over)
    return NamedSharding(mesh, PartitionSpec(*spec))


def _divisors(size: int, devices: int) -> str:
    return ", ".join(str(n) for n in range(1, devices + 1) if size % n == 0 and devices % n == 0)


def mesh_of(tree: Any) -> Mesh | None:
    """The mesh of more than one device that a tree's arrays lie on, if they do."""
    for leaf in jax.tree.leaves(tree):
        sharding = getattr(leaf, "sharding", None)
        if isinstance(sharding, NamedSharding) and sharding.mesh.size > 1:
            assert isinstance(sharding.mesh, Mesh)
            return sharding.mesh
    return None


def entry(stacked: Any, number: int) -> Any:
    """stacked[number], spread over its mesh as the stack is; also of a `jax.ShapeDtypeStruct`."""
    if isinstance(stacked, jax.ShapeDtypeStruct):
        held = stacked.sharding
        sharding = NamedSharding(held.mesh, PartitionSpec(*held.spec[1:]))
        return jax.ShapeDtypeStruct(stacked.shape[1:], stacked.dtype, sharding=sharding)
    mesh = mesh_of(stacked)
    if mesh is None:
        return stacked[number]
    return _entry(stacked, number, NamedSharding(mesh, PartitionSpec(*stacked.sharding.spec[1:])))


@partial(jax.jit, static_argnums=2)
def _entry(stacked: jax.Array, number: int, sharding: NamedSharding) -> jax.Array:
    return jax.lax.with_sharding_constraint(stacked[number], sharding)


def row_sharding(mesh: Mesh) -> NamedSharding:
    """How a batch array [B, ...] is spread."""
    return NamedSharding(mesh, ROWS)
