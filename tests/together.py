"""A program: console commands one after the other, as one of the processes of a run.

`run` starts as many of it as wanted, each with a few devices, and tells what they came to.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

Command = Sequence[str | Path]
Ended = tuple[int, str, str]
"""A command's exit code, stdout and stderr."""


def run(
    commands: Sequence[Command], processes: int, devices: int = 1, seconds: float = 500
) -> list[list[Ended]]:
    """What each process says of each command."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    # Level 0 compiles in half the time.
    flags = f"--xla_force_host_platform_device_count={devices} --xla_backend_optimization_level=0"
    words = json.dumps([list(map(str, command)) for command in commands])
    running = []
    for process in range(processes):
        joined = {
            "JAX_COORDINATOR_ADDRESS": f"127.0.0.1:{port}",
            "JAX_NUM_PROCESSES": str(processes),
            "JAX_PROCESS_ID": str(process),
        }
        environment = os.environ | joined | {"XLA_FLAGS": flags}
        environment["PYTHONPATH"] = os.pathsep.join(sys.path)
        running.append(
            subprocess.Popen(
                [sys.executable, __file__, words],
                env=environment,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
        )
    try:
        ended = [process.communicate(timeout=seconds) for process in running]
    finally:
        for process in running:
            process.kill()
    assert [process.returncode for process in running] == [0] * processes, ended
    told = [json.loads(out.splitlines()[-1]) for out, _ in ended]
    return [[(code, out, error) for code, out, error in of_process] for of_process in told]


def main() -> None:
    from critic_jax.cli import main as command

    told = []
    for words in json.loads(sys.argv[1]):
        out, error = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(error):
            code = command(words)
        told.append((code, out.getvalue(), error.getvalue()))
        # Joined once; the other commands find the processes joined.
        os.environ.pop("JAX_COORDINATOR_ADDRESS", None)
        os.environ.pop("JAX_NUM_PROCESSES", None)
        os.environ.pop("JAX_PROCESS_ID", None)
    print(json.dumps(told))


if __name__ == "__main__":
    main()
