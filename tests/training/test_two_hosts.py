"""Two hosts of a run: each builds its own rows, and together they see the whole step."""

import json
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from two_hosts import BUDGET, checksum, planned

HOSTS = Path(__file__).parents[1] / "two_hosts.py"


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


@pytest.mark.parametrize("start", [0, 3])
def test_each_host_feeds_its_own_devices(start: int) -> None:
    port = free_port()
    calls = [[sys.executable, HOSTS, str(host), str(port), str(start)] for host in (0, 1)]
    running = [
        subprocess.Popen(call, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for call in calls
    ]
    ended = [process.communicate(timeout=240) for process in running]
    assert [process.returncode for process in running] == [0, 0], ended
    found = [json.loads(out.splitlines()[-1]) for out, _ in ended]
    half = BUDGET.rows // 2
    assert [f["built"] for f in found] == [[[0, half]], [[half, BUDGET.rows]]]
    rows = planned()
    whole = [float(checksum(rows[step]["tokens"])) for step in range(start, len(rows))]
    assert found[0]["sums"] == found[1]["sums"] == whole
    assert len(whole) == len(rows) - start > 3
