"""A run of two rounds that is killed again and again ends like one that was left alone."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import jax
import numpy as np
import pytest
from chat_server import Chat, chatting
from killed import PROGRAM
from reward_functions import by_vowels

from critic_jax.checkpoints import load_checkpoint

KILLS = 10


def start(config: Path, output: Path, url: str) -> subprocess.Popen[str]:
    """The verb on its way, judged at an endpoint."""
    words = ["align", str(config), "--output", str(output), "--endpoint", url]
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join(sys.path),
        "JAX_DISABLE_MOST_OPTIMIZATIONS": "true",
        "NO_PROXY": "127.0.0.1",
        "CRITIC_JAX_CACHE": str(output.with_name(f"cache of {output.name}")),
    }
    command = [sys.executable, "-c", PROGRAM, *words]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)


def written(output: Path) -> int:
    """Grows with what a run has done."""
    total = 0
    for folder, _, names in os.walk(output):  # folders come and go meanwhile
        for name in names:
            with suppress(FileNotFoundError):
                total += 0 if name.startswith(".") else Path(folder, name).stat().st_size
    return total


def bits(output: Path, number: int) -> list[bytes]:
    params = load_checkpoint(output / f"round_{number}" / "dpo" / "policy").params
    return [np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(params)]


@pytest.mark.slow
def test_kills_at_any_moment_change_nothing(config: Path, tmp_path: Path) -> None:
    rng, whole, output = random.Random(0), tmp_path / "whole", tmp_path / "killed"
    with chatting(Chat(say=by_vowels)) as chat:
        began = time.monotonic()
        assert start(config, whole, chat.url).wait(600) == 0
        seconds, kills = time.monotonic() - began, 0
        while kills < KILLS:
            process = start(config, output, chat.url)
            before, until = written(output) if output.exists() else 0, time.monotonic() + 600
            # Each time it gets on with it, and is killed at some moment after that.
            while process.poll() is None and (not output.exists() or written(output) <= before):
                assert time.monotonic() < until
                time.sleep(0.005)
            time.sleep(rng.random() * seconds / KILLS / 4)
            process.send_signal(signal.SIGKILL)
            kills += process.wait() == -signal.SIGKILL
            if (output / "round_2" / "round.json").exists():
                break
        assert kills >= KILLS - 1
        assert start(config, output, chat.url).wait(600) == 0
    for number in (1, 2):
        for name in ("rollouts", "pairs", "dropped", "after", "compared"):
            a, b = (run / f"round_{number}" / f"{name}.jsonl" for run in (whole, output))
            assert a.read_text().replace(str(whole), str(output)) == b.read_text(), name
        assert bits(whole, number) == bits(output, number)
        a, b = (run / f"round_{number}" / "round.json" for run in (whole, output))
        assert a.read_text().replace(str(whole), str(output)) == b.read_text()
