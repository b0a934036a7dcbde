"""Commands that are killed again and again while they write, as a machine that fails does."""

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

PROGRAM = "import sys; from critic_jax.cli import main; sys.exit(main())"


def start(*words: str | Path, quick: bool = True) -> subprocess.Popen[str]:
    """The console script on its way. quick: it compiles in half the time, for a tiny model."""
    command = [sys.executable, "-c", PROGRAM, *map(str, words)]
    flags = {"XLA_FLAGS": "--xla_backend_optimization_level=0"} if quick else {}
    return subprocess.Popen(
        command,
        env=os.environ | flags,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process: subprocess.Popen[str]) -> None:
    """Wait for an end without a word of complaint."""
    _, error = process.communicate(timeout=1200)
    assert process.returncode == 0, error
    assert error == ""


def kill_while_it_writes(
    words: Sequence[str | Path],
    partials: Sequence[Path],
    kills: int,
    seed: int,
    quick: bool = True,
) -> None:
    """Run a command, whose last word is its output, and end it with SIGKILL, `kills` times; then
    let it finish.

    Each time it has got further than before, as the size of `partials` tells, and is killed at some
    moment after that; half of the times a line is cut short too, as by a kill amid its writing.
    """
    rng, sizes = random.Random(seed), [0]
    for _ in range(kills):
        process = start(*words, quick=quick)
        try:
            while process.poll() is None and _size(partials) <= sizes[-1]:
                time.sleep(0.005)
            time.sleep(rng.random() * 0.05)
        finally:
            process.send_signal(signal.SIGKILL)
            process.communicate()
        assert process.returncode == -signal.SIGKILL and not Path(words[-1]).exists()
        sizes.append(_size(partials))
        if rng.random() < 0.5:
            last = [path for path in partials if path.exists() and path.stat().st_size][-1]
            os.truncate(last, last.stat().st_size - 5)
    assert sizes == sorted(set(sizes)) and sizes[1] > 0
    finish(start(*words, quick=quick))


def _size(partials: Sequence[Path]) -> int:
    return sum(path.stat().st_size for path in partials if path.exists())
