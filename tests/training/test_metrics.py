"""What a run writes of its steps: lines, TensorBoard's curves, and a trace of some of them."""

import json
import struct
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import pytest
from tensorboardX.proto.event_pb2 import Event

from critic_jax.errors import InputError
from critic_jax.training.metrics import Metrics
from critic_jax.training.profile import Profile


def curves(folder: Path) -> dict[str, dict[int, float]]:
    """The points of each curve, as TensorBoard shows them: a restart takes back what follows it."""
    shown: dict[str, dict[int, float]] = {}
    for file in sorted((folder / "tensorboard").iterdir()):
        content, at = file.read_bytes(), 0
        while at < len(content):
            # A length, its checksum, the event, its checksum.
            (length,) = struct.unpack_from("<Q", content, at)
            event = Event.FromString(content[at + 12 : at + 12 + length])
            at += 16 + length
            if event.session_log.status == event.session_log.START:
                for points in shown.values():
                    for step in [s for s in points if s >= event.step]:
                        del points[step]
            for value in event.summary.value:
                shown.setdefault(value.tag, {})[event.step] = value.simple_value
    return shown


def write(folder: Path, done: int, steps: range, factor: float) -> None:
    with Metrics(folder, done) as metrics:
        assert metrics.last == done
        for step in steps:
            metrics.write({"step": step, "loss": factor * step, "records": 2})


def test_lines_and_curves_hold_each_step_once_though_a_start_was_cut_short(tmp_path: Path) -> None:
    write(tmp_path, 0, range(1, 6), 1.0)
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 6, "lo')
    write(tmp_path, 3, range(4, 8), 0.5)
    expected = {1: 1.0, 2: 2.0, 3: 3.0, 4: 2.0, 5: 2.5, 6: 3.0, 7: 3.5}
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert lines == [{"step": s, "loss": v, "records": 2} for s, v in expected.items()]
    assert curves(tmp_path) == {"loss": expected, "records": dict.fromkeys(expected, 2.0)}


@pytest.mark.parametrize("window", ["10", "3:3", "0:2", "4:3", "a:b", "1:2:3", ":5", "-1:4"])
def test_a_window_of_another_form_is_an_error(window: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="it should be like 10:13 for steps 10, 11 and 12"):
        Profile(window, tmp_path)


def traced(window: str, steps: range, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The steps that a trace runs in."""
    running: list[bool] = []
    done: list[int] = []
    monkeypatch.setattr("jax.profiler.start_trace", lambda folder: running.append(True))
    monkeypatch.setattr("jax.profiler.stop_trace", lambda: running.pop())
    with Profile(window, Path("nowhere")) as profile:
        for step in steps:
            if profile.turns(step):
                profile.turn()
            done += [step] * len(running)
    assert not running
    return done


@pytest.mark.parametrize(
    ("window", "steps", "expected"),
    [
        ("3:5", range(1, 9), [3, 4]),
        ("3:50", range(1, 6), [3, 4, 5]),  # the run ends within
        ("3:6", range(5, 9), [5]),  # it goes on within
        ("3:6", range(7, 9), []),
        ("", range(1, 4), []),
    ],
)
def test_a_trace_runs_in_its_window(
    window: str, steps: range, expected: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert traced(window, steps, monkeypatch) == expected


def test_a_trace_is_there_when_its_window_is_over(tmp_path: Path) -> None:
    found: list[Any] = []
    with Profile("1:2", tmp_path / "profile") as profile:
        for step in (1, 2):
            if profile.turns(step):
                profile.turn()
            jnp.arange(8).sum().block_until_ready()
            found.append(list((tmp_path / "profile").rglob("*.xplane.pb")))
    assert not found[0] and len(found[1]) == 1 and found[1][0].stat().st_size > 0
