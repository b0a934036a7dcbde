"""TPU topologies by name, without such a machine."""

from __future__ import annotations

import os
from dataclasses import dataclass
from importlib.util import find_spec

import jax
from jax.experimental import topologies

from critic_jax.errors import InputError

GIB = 2**30

HBM: dict[str, int] = {
    "TPU v4": 32 * GIB,
    "TPU v5 lite": 16 * GIB,
    "TPU v5": 95 * GIB,
    "TPU v6 lite": 32 * GIB,
    "TPU7x": 192 * GIB,
}
"""Memory of a chip, by JAX's `device_kind`, as Google's system pages state it."""


# What libtpu otherwise asks the cloud, and warns that it cannot; and that several processes may
# load it, since none of them takes a TPU.
SETTINGS = {
    "TPU_SKIP_MDS_QUERY": "1",
    "TPU_ACCELERATOR_TYPE": "v5litepod-1",
    "TPU_WORKER_HOSTNAMES": "localhost",
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
}


@dataclass(frozen=True)
class Topology:
    """The devices of a slice. A v4 or v7x chip is two devices to JAX, every other chip one."""

    name: str
    devices: list[jax.Device]

    @property
    def kind(self) -> str:
        """JAX's name of the chip."""
        return self.devices[0].device_kind

    @property
    def chips(self) -> int:
        """How many there are."""
        return _chips(self.devices)

    @property
    def hbm_bytes(self) -> int:
        """Memory of a device."""
        return memory_of(self.devices)


def memory_of(devices: list[jax.Device]) -> int:
    """Bytes of each device of a slice."""
    return HBM[devices[0].device_kind] * _chips(devices) // len(devices)


def _chips(devices: list[jax.Device]) -> int:
    return len({tuple(device.coords) for device in devices})


def topology(name: str) -> Topology:
    """The slice that a name such as v5e:4x8, v5p:4x4x4 or v6e:1x1 means.

    Raises InputError for an unknown name, or where libtpu is not installed.
    """
    for variable, value in SETTINGS.items():
        os.environ.setdefault(variable, value)
    if find_spec("libtpu") is None:
        raise InputError("compiling for a TPU needs libtpu: pip install 'critic_jax[aot]'")
    # A machine has four chips unless it is said to have one.
    machine = {"chips_per_host_bounds": (1, 1, 1)} if name.endswith(":1x1") else {}
    try:
        found = topologies.get_topology_desc(platform="tpu", topology_name=name, **machine)
        devices = list(found.devices)
    except Exception as error:
        said = str(error).splitlines()[0]
        raise InputError(
            f"topology {name}: {said}; names are like v4:4x4x4, v5e:4x8, v5p:4x4x4, v6e:8x8"
        ) from None
    slice_ = Topology(name, devices)
    if slice_.kind not in HBM:
        raise InputError(f"topology {name}: unknown kind of chip {slice_.kind!r}")
    return slice_
