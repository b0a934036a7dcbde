"""How processes are told that they are one run; what they then do, see training/test_two_hosts."""

import socket
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import jax
import pytest

from critic_jax import hosts
from critic_jax.errors import InputError, WorkError
from critic_jax.hosts import join_hosts

NAMES = (
    *("JAX_COORDINATOR_ADDRESS", "JAX_NUM_PROCESSES", "JAX_PROCESS_ID"),
    *("MEGASCALE_NUM_SLICES", "TPU_WORKER_HOSTNAMES", "GCE_METADATA_IP", "JAX_PLATFORMS"),
)
FOUND_BY_JAX = (None, None, None)


@pytest.fixture
def joined(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What JAX was told; no process is really joined."""
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)
    told: list[Any] = []
    monkeypatch.setattr(jax.distributed, "initialize", lambda *words: told.append(words))
    monkeypatch.setattr(hosts, "PATIENCE", 0.5)
    return told


@pytest.fixture
def first() -> Iterator[str]:
    """Where process 0 listens."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"127.0.0.1:{server.getsockname()[1]}"


def test_the_three_are_taken_from_the_command_or_else_from_the_environment(
    joined: list[Any], first: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    join_hosts("10.0.0.2:1234", 4, 0)
    monkeypatch.setenv("JAX_COORDINATOR_ADDRESS", first)
    monkeypatch.setenv("JAX_NUM_PROCESSES", "2")
    monkeypatch.setenv("JAX_PROCESS_ID", "0")
    join_hosts()
    join_hosts(process=1)
    assert joined == [("10.0.0.2:1234", 4, 0), (first, 2, 0), (first, 2, 1)]


def test_one_process_joins_nobody(joined: list[Any]) -> None:
    join_hosts()
    join_hosts("10.0.0.2:1234", 1, 0)
    assert not joined


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("10.0.0.2:1234", 2, None), "several processes need all of --coordinator HOST:PORT"),
        ((None, 2, 0), "several processes need all of"),
        (("10.0.0.2", 2, 0), "coordinator '10.0.0.2'; it should be like 10.0.0.2:1234"),
        (("10.0.0.2:1234", 2, 2), "process 2 of 2; they are counted from 0"),
    ],
)
def test_what_is_missing_or_wrong_is_told(words: Any, said: str, joined: list[Any]) -> None:
    with pytest.raises(InputError) as caught:
        join_hosts(*words)
    assert str(caught.value).startswith(said) and not joined


def test_a_number_in_the_environment_that_is_none_is_told(
    joined: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JAX_NUM_PROCESSES", "two")
    with pytest.raises(InputError, match="JAX_NUM_PROCESSES='two'; it should be a number"):
        join_hosts()


def test_a_first_process_that_is_not_there_is_one_line(joined: list[Any], first: str) -> None:
    join_hosts(first, 2, 1)
    assert joined == [(first, 2, 1)]
    with socket.create_server(("127.0.0.1", 0)) as closed:
        nobody = f"127.0.0.1:{closed.getsockname()[1]}"
    with pytest.raises(WorkError, match=f"process 0 did not answer at {nobody} for 0.5 seconds"):
        join_hosts(nobody, 2, 1)


def test_what_jax_cannot_do_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: Any) -> None:
        raise RuntimeError("initialize was called before.\nMore words.")

    monkeypatch.setattr(jax.distributed, "initialize", fails)
    with pytest.raises(WorkError) as caught:
        join_hosts("127.0.0.1:1234", 2, 0)
    assert str(caught.value) == (
        "the processes of this run did not find each other (initialize was called before.)"
    )


@pytest.mark.parametrize(
    ("environment", "several"),
    [
        ({"TPU_WORKER_HOSTNAMES": "a,b,c,d"}, True),
        ({"TPU_WORKER_HOSTNAMES": "localhost"}, False),
        ({"MEGASCALE_NUM_SLICES": "2", "TPU_WORKER_HOSTNAMES": "localhost"}, True),
        ({"TPU_WORKER_HOSTNAMES": "a,b", "JAX_PLATFORMS": "cpu"}, False),
        ({"TPU_WORKER_HOSTNAMES": "a,b", "JAX_PLATFORMS": "tpu,cpu"}, True),
    ],
)
def test_a_slice_of_several_hosts_is_known_by_its_environment(
    environment: dict[str, str],
    several: bool,
    joined: list[Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    join_hosts()
    assert joined == [FOUND_BY_JAX] * several


@pytest.fixture
def metadata(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, str]]:
    """The metadata server of a machine with a TPU; by name of an attribute, its value."""
    attributes: dict[str, str] = {}

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            value = attributes.get(self.path.rpartition("/")[2])
            known = value is not None and self.headers["Metadata-Flavor"] == "Google"
            self.send_response(200 if known else 404)
            self.end_headers()
            self.wfile.write((value or "").encode())

        def log_message(self, *_: Any) -> None: ...

    server = HTTPServer(("127.0.0.1", 0), Handler)
    Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("GCE_METADATA_IP", f"127.0.0.1:{server.server_port}")
    monkeypatch.setattr(hosts.Path, "glob", lambda *_: iter([Path("/dev/accel0")]))
    yield attributes
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize(
    ("endpoints", "several"),
    [("0:1:10.0.0.2,1:2:10.0.0.3", True), ("0:1:10.0.0.2", False), (None, False)],
)
def test_a_slice_of_several_hosts_is_known_by_its_metadata(
    endpoints: str | None, several: bool, joined: list[Any], metadata: dict[str, str]
) -> None:
    if endpoints is not None:
        metadata["worker-network-endpoints"] = endpoints
    join_hosts()
    assert joined == [FOUND_BY_JAX] * several


@pytest.mark.parametrize("count", [1, 2])
def test_several_slices_of_one_host_each_are_known_by_its_metadata(
    count: int, joined: list[Any], metadata: dict[str, str]
) -> None:
    metadata["worker-network-endpoints"] = "0:1:10.0.0.2"
    metadata["tpu-env"] = f"TYPE: 'V5LITE_POD'\nMEGASCALE_NUM_SLICES: '{count}'\nWORKER_ID: '0'\n"
    join_hosts()
    assert joined == [FOUND_BY_JAX] * (count - 1)
