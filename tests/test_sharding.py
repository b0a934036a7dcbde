"""Meshes, and the same loss however the work is shared."""

import json
import os
import subprocess
import sys
from pathlib import Path

import jax
import pytest

from critic_jax.errors import InputError
from critic_jax.sharding import make_mesh


def test_a_mesh_must_be_of_this_machines_devices() -> None:
    devices = len(jax.devices())
    assert dict(make_mesh().shape) == {"data": 1, "fsdp": devices, "tensor": 1}
    with pytest.raises(InputError, match=rf"is {3 * devices} devices, this machine has {devices}"):
        make_mesh(data=3 * devices)
    with pytest.raises(InputError, match=r"mesh data 1 x fsdp 5 x tensor 7 is 35 devices"):
        make_mesh(fsdp=5, tensor=7)


def test_two_devices_give_the_loss_of_one() -> None:
    here = Path(__file__).parent
    done = subprocess.run(
        [sys.executable, here / "two_devices.py"],
        env={
            **os.environ,
            "JAX_PLATFORMS": "cpu",
            # Level 0 compiles in half the time.
            "XLA_FLAGS": "--xla_force_host_platform_device_count=2"
            " --xla_backend_optimization_level=0",
            "JAX_DEFAULT_MATMUL_PRECISION": "highest",
        },
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    one = found.pop("one")
    assert one["loss"] > 1
    assert set(found) == {"data", "fsdp", "tensor"}
    for two in found.values():
        assert two["loss"] == pytest.approx(one["loss"], rel=1e-6)
    # Rows are shared along data and fsdp, parameters along fsdp and tensor, nearly by half.
    assert [one["rows"], *(found[a]["rows"] for a in ("data", "fsdp", "tensor"))] == [2, 1, 1, 2]
    assert found["data"]["params"] == one["params"]
    assert found["fsdp"]["params"] < 0.52 * one["params"]
    assert found["tensor"]["params"] < 0.55 * one["params"]
