"""`critic-jax train` as a command of its own, to be killed, asked to stop, and started again."""

import os
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np

from critic_jax.checkpoints import load_checkpoint

# The console script, as it is where torch is not installed: TensorBoard's writer would import it.
COMMAND = """
import sys
sys.modules["torch"] = None
import tensorboardX
del sys.modules["torch"]
from critic_jax.cli import main
sys.exit(main())
"""


def begin(*words: str | Path) -> subprocess.Popen[str]:
    """Start it with one device; stderr is kept for who waits."""
    # Level 0 compiles in half the time.
    flags = "--xla_backend_optimization_level=0"
    environment = os.environ | {"XLA_FLAGS": flags, "PYTHONPATH": os.pathsep.join(sys.path)}
    return subprocess.Popen(
        [sys.executable, "-c", COMMAND, "train", *words],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def end(process: subprocess.Popen[str], seconds: float = 240) -> tuple[int, str]:
    """(exit code, stderr) when it has ended."""
    _, error = process.communicate(timeout=seconds)
    return process.returncode, error


def wait_for_step(output: Path, step: int, process: subprocess.Popen[str]) -> None:
    """Until `metrics.jsonl` has the line of a step."""
    file, until = output / "metrics.jsonl", time.monotonic() + 240
    while not file.exists() or file.read_text().count("\n") < step:
        assert process.poll() is None, end(process)
        assert time.monotonic() < until
        time.sleep(0.005)


def newest(output: Path) -> int:
    """The step of the newest state; 0 where there is none."""
    folder = output / "state"
    found = [int(p.name) for p in folder.iterdir() if p.name.isdecimal()] if folder.exists() else []
    return max(found, default=0)


def parameters(output: Path) -> list[np.ndarray]:
    """Of the trained critic."""
    return [np.asarray(leaf) for leaf in jax.tree.leaves(load_checkpoint(output / "critic").params)]


def same_bits(a: Path, b: Path) -> bool:
    """Whether two runs ended with the same parameters."""
    pairs = zip(parameters(a), parameters(b), strict=True)
    return all(x.tobytes() == y.tobytes() for x, y in pairs)
