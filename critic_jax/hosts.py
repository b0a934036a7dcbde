"""Several processes as one run: how they find each other, and how they agree."""

from __future__ import annotations

import os
import socket
import time
import urllib.request
from pathlib import Path
from urllib.error import URLError

import jax
import numpy as np
from jax.experimental import multihost_utils

from critic_jax.errors import InputError, WorkError

PATIENCE = 300.0
"""Seconds that the others wait for process 0 to be there."""


def join_hosts(
    coordinator: str | None = None, processes: int | None = None, process: int | None = None
) -> None:
    """Make this process one of a run's; before anything else that uses a device.

    coordinator: address and port of process 0. What is not given is read from
        JAX_COORDINATOR_ADDRESS, JAX_NUM_PROCESSES and JAX_PROCESS_ID. Without any of them a TPU
        slice of several hosts is joined by itself, and on anything else nothing happens.

    Raises InputError where some of the three are missing or wrong, WorkError where process 0 is not
    found. Where process 0 waits for one that does not come, JAX itself ends it, after five minutes.
    """
    given = (
        coordinator or os.environ.get("JAX_COORDINATOR_ADDRESS") or None,
        _number("JAX_NUM_PROCESSES", processes),
        _number("JAX_PROCESS_ID", process),
    )
    if given == (None, None, None):
        if not _on_tpu_slice():
            return
        address = count = number = None  # found out by JAX
    else:
        address, count, number = given
        if address is None or count is None or number is None:
            raise InputError(
                "several processes need all of --coordinator HOST:PORT, --processes and --process "
                "(or JAX_COORDINATOR_ADDRESS, JAX_NUM_PROCESSES and JAX_PROCESS_ID)"
            )
        if not address.rpartition(":")[2].isdecimal():
            raise InputError(f"coordinator {address!r}; it should be like 10.0.0.2:1234")
        if not 0 <= number < count:
            raise InputError(f"process {number} of {count}; they are counted from 0")
        if count == 1:
            return
        if number:
            _wait_for_first(address)
    try:
        jax.distributed.initialize(address, count, number)
    except (RuntimeError, ValueError) as error:
        said = str(error).splitlines()[0]
        raise WorkError(f"the processes of this run did not find each other ({said})") from error


def _wait_for_first(address: str) -> None:
    """Go on when process 0 listens: JAX would wait as long, and then end with a stack trace."""
    host, _, port = address.rpartition(":")
    until = time.monotonic() + PATIENCE
    while True:
        try:
            socket.create_connection((host.strip("[]"), int(port)), timeout=5).close()
            return
        except OSError as error:
            if time.monotonic() > until:
                raise WorkError(
                    f"process 0 did not answer at {address} for {PATIENCE:g} seconds ({error})"
                ) from None
            time.sleep(0.2)


def is_first() -> bool:
    """Whether this is process 0, which writes what is written once."""
    return jax.process_index() == 0


def all_agree(fine: bool) -> bool:
    """Whether it is so on every process. All must ask."""
    if jax.process_count() == 1:
        return fine
    return bool(np.all(multihost_utils.process_allgather(np.asarray(fine))))


def wait_for_all(name: str) -> None:
    """Go on when every process has come to the place of that name."""
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(name)


def whole(array: jax.Array) -> np.ndarray:
    """An array on the host, also where parts of it lie with other processes. All must ask."""
    if array.is_fully_addressable or array.is_fully_replicated:
        return np.asarray(array)
    return np.asarray(multihost_utils.process_allgather(array, tiled=True))


def _number(name: str, given: int | None) -> int | None:
    if given is not None or name not in os.environ:
        return given
    try:
        return int(os.environ[name])
    except ValueError:
        raise InputError(f"{name}={os.environ[name]!r}; it should be a number") from None


def _on_tpu_slice() -> bool:
    """Whether this machine is one of several of a TPU slice, or its slice one of several.

    Kubernetes says so in the environment, a Compute Engine machine in its metadata.
    """
    if os.environ.get("JAX_PLATFORMS", "tpu").split(",")[0] not in ("", "tpu"):
        return False
    if int(os.environ.get("MEGASCALE_NUM_SLICES", "1")) > 1:
        return True
    if names := os.environ.get("TPU_WORKER_HOSTNAMES"):
        return "," in names
    if not any(Path("/dev").glob("accel*")) and not any(Path("/dev").glob("vfio/*")):
        return False
    place = os.environ.get("GCE_METADATA_IP", "metadata.google.internal")
    url = f"http://{place}/computeMetadata/v1/instance/attributes/worker-network-endpoints"
    asked = urllib.request.Request(url, headers={"Metadata-Flavor": "Google"})
    try:
        with urllib.request.urlopen(asked, timeout=3) as answer:
            return b"," in answer.read()
    except (URLError, TimeoutError):  # no machine of that kind
        return False
