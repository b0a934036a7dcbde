"""Results while they are made: what a kill, an error and a power cut leave of them."""

import json
import os
from pathlib import Path

import pytest

from critic_jax.errors import InputError, WorkError
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


def test_two_runs_do_not_write_at_a_time(tmp_path: Path) -> None:
    output = tmp_path / "out.jsonl"
    late = Partial(output, "m", {})
    with Partial(output, "m", {}) as partial:
        partial.write({"id": "a", "model": "m"})
        for begin in (lambda: Partial(output, "m", {}), late.__enter__):
            with pytest.raises(InputError, match=r"out\.jsonl\.partial: another run is writing"):
                begin()
    with pytest.raises(InputError, match="another run is writing"):  # until its end
        Partial(output, "m", {})
    assert partial.results([("a", "ab")], keep_others=False) == [{"id": "a", "model": "m"}]
    partial.finish()
    assert not list(tmp_path.iterdir())
    with late:
        late.write({"id": "b", "model": "m"})
    late.finish()


def test_what_another_run_took_away_is_not_passed_over(tmp_path: Path) -> None:
    output = tmp_path / "out.jsonl"
    with pytest.raises(RuntimeError), Partial(output, "m", {}) as partial:
        partial.write({"id": "a", "model": "m"})
        raise RuntimeError
    late, later = Partial(output, "m", {}), Partial(output, "m", {})
    partial.finish()  # all was there for another run, which is through
    with pytest.raises(WorkError, match=r"partial: another run has used it; run the same"):
        late.__enter__()
    assert not list(tmp_path.iterdir())
    with pytest.raises(WorkError, match=r"1 results are gone from it, another run may have"):
        later.results([("a", "ab")], keep_others=False)
