"""The scripts as bats calls them; the distribution's own `bats` runs the file."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

FILE = Path(__file__).with_name("scenarios.bats")


@pytest.mark.slow
def test_every_scenario_in_bats() -> None:
    paths = os.pathsep.join([str(FILE.parents[1]), *sys.path])
    environment = os.environ | {"PYTHON": sys.executable, "PYTHONPATH": paths}
    done = subprocess.run(
        ["bats", "--tap", FILE],
        env=environment,
        capture_output=True,
        text=True,
        timeout=600,
        # A shell cannot listen to a Ctrl-C that was ignored when it began, as in a background job.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    assert done.returncode == 0, done.stdout + done.stderr
    said = done.stdout.splitlines()
    assert said[0] == f"1..{FILE.read_text().count('@test')}"
    assert all(line.startswith("ok ") for line in said[1:])
