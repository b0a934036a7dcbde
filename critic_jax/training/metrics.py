"""The lines of a run: `metrics.jsonl` and TensorBoard's files, each step once."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tensorboardX import SummaryWriter

from critic_jax.files import told_if_full, write_atomically
from critic_jax.hosts import is_first

Line = dict[str, Any]


class Metrics:
    """Appends a line a step, behind the lines of the first `step` steps; `last` is the last one's.

    What an earlier start wrote behind those is dropped: from the JSONL file here, and from
    TensorBoard's curves by the mark that it knows restarts by. Of several processes the first
    writes.
    """

    def __init__(self, folder: Path, step: int) -> None:
        self._folder = folder
        path = folder / "metrics.jsonl"
        kept: list[str] = []
        if path.exists():
            kept = [line for line in path.read_text().splitlines(True) if _step_of(line) <= step]
        self.last = int(_step_of(kept[-1])) if kept else 0
        self._open = is_first()
        if not self._open:
            return
        self._file = write_atomically(path, "".join(kept)).open("a")
        # A file is named by its second; the step tells two starts in one apart.
        name, first = str(folder / "tensorboard"), step + 1
        self._curves = SummaryWriter(name, purge_step=first, filename_suffix=f".{first}")

    def __enter__(self) -> Metrics:
        return self

    def __exit__(self, *error: object) -> None:
        if self._open:
            self._file.close()
            self._curves.close()

    def flush(self) -> None:
        """Hand all lines to the disk."""
        if self._open:
            self._curves.flush()

    def write(self, line: Line) -> None:
        """Raises WorkError where there is no room."""
        if not self._open:
            return
        with told_if_full(self._folder):
            self._file.write(json.dumps(line) + "\n")
            self._file.flush()
            for name, value in line.items():
                if name != "step":
                    self._curves.add_scalar(name, value, line["step"])


def _step_of(line: str) -> float:
    try:
        return json.loads(line)["step"]
    except (json.JSONDecodeError, KeyError):
        return float("inf")  # a line that a kill cut short
