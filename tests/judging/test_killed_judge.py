"""A judge that is killed again and again ends with what one ends with that was left alone."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from critic_jax.files import write_json_lines

PROGRAM = "import sys; from critic_jax.cli import main; sys.exit(main())"


def line(number: int) -> dict[str, Any]:
    """Scores, pairs and rankings, several about each picture; all texts differ."""
    fields: dict[str, Any] = {"id": f"q{number}", "question": f"Which digit is it, {number}?"}
    if number % 9:
        fields["image"] = f"{number % 8}.png"
    if number % 10 == 3:
        return fields | {"responses": [f"It is a {n}." for n in range(number % 2 + 2)]}
    if number % 3 == 0:
        return fields | {"response_a": "It is a 7.", "response_b": "It is a 1."}
    return fields | {"response": f"It is a {number % 7}."}


def start(model: Path, source: Path, output: Path, *more: str) -> subprocess.Popen[str]:
    files = ["--model", str(model), "--input", str(source), "--output", str(output)]
    words = [sys.executable, "-c", PROGRAM, "judge", *files, "--order", "both", *more]
    return subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)


def finish(process: subprocess.Popen[str]) -> None:
    _, error = process.communicate(timeout=1200)
    assert process.returncode == 0, error
    assert error == ""


@pytest.mark.parametrize(
    ("lines", "kills"), [(200, 1), pytest.param(2000, 5, marks=pytest.mark.slow)]
)
def test_a_killed_run_goes_on(critic_folder: Path, pictures: Path, lines: int, kills: int) -> None:
    source = write_json_lines(pictures / "in.jsonl", [line(n) for n in range(lines)])
    whole, output = pictures / "whole" / "r.jsonl", pictures / "killed" / "r.jsonl"
    partial = output.with_name("r.jsonl.partial")
    finish(start(critic_folder, source, whole, "--no-cache"))
    rng = random.Random(lines)
    sizes = [0]
    for _ in range(kills):
        process = start(critic_folder, source, output)
        try:
            # Killed once it has got further than the last one, at some moment after that.
            while process.poll() is None and _size(partial) <= sizes[-1]:
                time.sleep(0.005)
            time.sleep(rng.random() * 0.05)
        finally:
            process.send_signal(signal.SIGKILL)
            process.communicate()
        assert process.returncode == -signal.SIGKILL and not output.exists()
        sizes.append(_size(partial))
        if rng.random() < 0.5:  # as if it had been killed in the middle of a line
            os.truncate(partial, sizes[-1] - 5)
    assert sizes == sorted(set(sizes)) and sizes[1] > 0
    finish(start(critic_folder, source, output))
    found = [json.loads(text) for text in output.read_text().splitlines()]
    asked = [(f"q{n}", o) for n in range(lines) for o in _orders(line(n))]
    assert [(r["id"], r.get("order")) for r in found] == asked
    assert output.read_bytes() == whole.read_bytes()
    summaries = [json.loads((p.parent / "summary.json").read_text()) for p in (whole, output)]
    assert summaries[0] == summaries[1] and summaries[0]["rejected"] == 0
    assert sorted(p.name for p in output.parent.iterdir()) == ["r.jsonl", "summary.json"]


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _orders(fields: dict[str, Any]) -> list[str | None]:
    return ["ab", "ba"] if "response_a" in fields else [None]
