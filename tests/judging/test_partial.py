"""Results while they are made: what a kill, an error and a power cut leave of them."""

import json
import os
from pathlib import Path

import pytest

from critic_jax.judging import partial as room
from critic_jax.judging.partial import SYNC_SECONDS, Partial


@pytest.fixture
def synced(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[int]:
    """How many lines were in the file whenever it was brought to the disk."""
    lines: list[int] = []
    file = tmp_path / "out.jsonl.partial"
    monkeypatch.setattr(os, "fsync", lambda _: lines.append(len(file.read_text().splitlines())))
    return lines


def test_what_was_written_reaches_the_disk_each_second_and_at_the_end(
    monkeypatch: pytest.MonkeyPatch, synced: list[int], tmp_path: Path
) -> None:
    now = 100.0
    monkeypatch.setattr(room.time, "monotonic", lambda: now)
    with Partial(tmp_path / "out.jsonl", "m", {}) as partial:
        for number in range(7):
            now += SYNC_SECONDS * 0.4
            partial.write({"id": str(number), "model": "m"})
    assert synced == [3, 6, 7]


def test_an_error_keeps_what_was_written(synced: list[int], tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), Partial(tmp_path / "out.jsonl", "m", {}) as partial:
        partial.write({"id": "a", "model": "m"})
        raise RuntimeError
    assert synced == [1]
    kept = (tmp_path / "out.jsonl.partial").read_text().splitlines()
    assert [json.loads(line)["id"] for line in kept] == ["a"]
    assert Partial(tmp_path / "out.jsonl", "m", {}).done == {("a", "ab")}
