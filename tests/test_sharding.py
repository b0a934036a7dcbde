"""Meshes, and the same loss however the work is shared."""

import json
import math
import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import jax
import pytest
from flax import nnx
from jax.sharding import AbstractMesh, PartitionSpec

from critic_jax.errors import InputError
from critic_jax.models.build import abstract
from critic_jax.models.config import tiny
from critic_jax.sharding import MESH_AXES, make_mesh, param_shardings


def test_a_mesh_must_be_of_this_machines_devices() -> None:
    devices = len(jax.devices())
    assert dict(make_mesh().shape) == {"data": 1, "fsdp": devices, "tensor": 1}
    with pytest.raises(InputError, match=rf"is {3 * devices} devices, this machine has {devices}"):
        make_mesh(data=3 * devices)
    with pytest.raises(InputError, match=r"mesh data 1 x fsdp 5 x tensor 7 is 35 devices"):
        make_mesh(fsdp=5, tensor=7)


def run_meshes(*words: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, Path(__file__).with_name("meshes.py"), *words],
        env={**os.environ, "JAX_PLATFORMS": "cpu", "JAX_DEFAULT_MATMUL_PRECISION": "highest"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def check_meshes(*processes: "subprocess.Popen[str]") -> dict[str, dict[str, float]]:
    """What each process found, which must be the same; held to the tolerances."""
    said = [process.communicate(timeout=900) for process in processes]
    for process, (_, error) in zip(processes, said, strict=True):
        assert process.returncode == 0, error
    found, *others = [json.loads(out.splitlines()[-1]) for out, _ in said]
    assert all(other == found for other in others)
    one = found.pop("one")
    assert one["loss"] > 1 and one["norm"] > 1
    for way, far in found.items():
        assert far["loss"] < 1e-6, way
        assert far["gradient"] < 1e-5, way
        assert far["params"] < 1e-6, way
        assert far.get("repeats", True), way
    return found


def test_a_step_is_the_same_however_it_is_shared() -> None:
    found = check_meshes(run_meshes("few"))
    assert set(found) == {"1x1x4", "2x2x2", "accumulate"}


@pytest.mark.slow
def test_a_step_is_the_same_on_every_other_mesh() -> None:
    assert len(check_meshes(run_meshes("others"))) == 12


def test_a_step_is_the_same_on_two_processes() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    found = check_meshes(*(run_meshes("few", process, "2", port) for process in "01"))
    assert set(found) == {"1x8x1", "2x1x4"}


def test_what_a_mesh_cannot_divide_is_named() -> None:
    state = abstract(tiny())[1]
    mesh = AbstractMesh((1, 3, 1), MESH_AXES)
    said = (
        "mesh fsdp 3: decoder.embedding has 64 along embed, which it does not divide; fsdp may be 1"
    )
    with pytest.raises(InputError, match=re.escape(said)):
        param_shardings(state, mesh)
    # Key-value heads and vocabulary rows are held whole instead.
    found = param_shardings(abstract(tiny(510))[1], AbstractMesh((1, 1, 4), MESH_AXES))
    layer = found["decoder"]["layers"]
    assert layer["k"]["kernel"].spec == PartitionSpec(None, "fsdp", None, None)
    assert layer["q"]["kernel"].spec == PartitionSpec(None, "fsdp", "tensor", None)
    assert found["decoder"]["embedding"].spec == PartitionSpec(None, "fsdp")


def held(sizes: tuple[int, int, int]) -> float:
    """The share of the parameters that one device of a mesh holds."""
    state = abstract(tiny(512))[1]
    shardings = param_shardings(state, AbstractMesh(sizes, MESH_AXES))
    shapes = jax.tree.map(lambda p: p.shape, nnx.to_pure_dict(state))
    shares = jax.tree.map(lambda s, shape: math.prod(s.shard_shape(shape)), shardings, shapes)
    total = sum(math.prod(p.shape) for p in jax.tree.leaves(nnx.to_pure_dict(state)))
    return sum(jax.tree.leaves(shares)) / total


def test_devices_share_the_parameters() -> None:
    assert held((2, 1, 1)) == 1
    assert held((1, 2, 1)) < 0.52
    assert held((1, 1, 2)) < 0.55
    assert held((1, 2, 2)) < 0.28
