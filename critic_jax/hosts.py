"""Several processes as one run: how they find each other, and how they agree."""

from __future__ import annotations

import os
import pickle
import re
import socket
import time
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar
from urllib.error import URLError

import jax
import numpy as np
from jax.experimental import multihost_utils

from critic_jax.errors import InputError, WorkError

T = TypeVar("T")

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


def processes() -> int:
    """How many this run has. One that joined none is alone, and needs no device to know that."""
    return jax.process_count() if jax.distributed.is_initialized() else 1


def is_first() -> bool:
    """Whether this is process 0, which writes what is written once."""
    return processes() == 1 or jax.process_index() == 0


def all_agree(fine: bool) -> bool:
    """Whether it is so on every process. All must ask."""
    if processes() == 1:
        return fine
    return bool(np.all(multihost_utils.process_allgather(np.asarray(fine))))


def wait_for_all(name: str) -> None:
    """Go on when every process has come to the place of that name."""
    if processes() > 1:
        multihost_utils.sync_global_devices(name)


def exchange(said: Any) -> list[Any]:
    """What every process says, in their order, in all of them. All must ask."""
    if processes() == 1:
        return [said]
    content = np.frombuffer(pickle.dumps(said), np.uint8)
    lengths = multihost_utils.process_allgather(np.asarray(len(content)))
    held = np.zeros(1 << int(lengths.max()).bit_length(), np.uint8)  # few sizes: few programs
    held[: len(content)] = content
    each = multihost_utils.process_allgather(held)
    return [pickle.loads(one[:length].tobytes()) for one, length in zip(each, lengths, strict=True)]


def on_first(work: Callable[[], T]) -> T:
    """What `work` gives on process 0, the only one that does it, in all of them. All must ask.

    Where it raises InputError or WorkError, all do; where anything else, the others a WorkError.
    """
    if processes() == 1:
        return work()
    return _same(exchange(_Outcome.of(work) if is_first() else None)[:1])[0]


def on_each(work: Callable[[], T]) -> list[T]:
    """What `work` gives on each process, in all of them; an error of one as by `on_first`."""
    if processes() == 1:
        return [work()]
    return _same(exchange(_Outcome.of(work)))


@dataclass(frozen=True)
class _Outcome:
    """What a process came to: a value, or an error in words; its own error stays with it."""

    value: Any = None
    wrong_input: bool = False
    said: str = ""
    process: int = 0

    @classmethod
    def of(cls, work: Callable[[], Any]) -> _Outcome:
        here = jax.process_index()
        try:
            return cls(work())
        except (InputError, WorkError) as error:
            return cls(None, isinstance(error, InputError), str(error), here)
        except Exception as error:
            # Told before it passes on, or the others would wait for this process.
            exchange(cls(None, False, f"process {here}: {type(error).__name__}: {error}", here))
            raise


def _same(outcomes: list[_Outcome]) -> list[Any]:
    for outcome in outcomes:
        if outcome.said:
            raise (InputError if outcome.wrong_input else WorkError)(outcome.said)
    return [outcome.value for outcome in outcomes]


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
    if "," in _attribute("worker-network-endpoints"):
        return True
    # Each slice may be of one machine. JAX reads the same line: `MEGASCALE_NUM_SLICES: '2'`.
    slices = re.search(r"^\s*MEGASCALE_NUM_SLICES\s*:\s*'?(\d+)", _attribute("tpu-env"), re.M)
    return slices is not None and int(slices[1]) > 1


def _attribute(name: str) -> str:
    """What a Compute Engine machine's metadata say; nothing where it is no such machine."""
    place = os.environ.get("GCE_METADATA_IP", "metadata.google.internal")
    url = f"http://{place}/computeMetadata/v1/instance/attributes/{name}"
    asked = urllib.request.Request(url, headers={"Metadata-Flavor": "Google"})
    try:
        with urllib.request.urlopen(asked, timeout=3) as answer:
            return str(answer.read().decode("utf-8", "replace"))
    except (URLError, TimeoutError):
        return ""
