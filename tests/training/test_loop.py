"""A training run, whole and cut short; and what it says of wrong data."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from run_lines import metrics

from critic_jax.checkpoints import load_checkpoint
from critic_jax.cli import main
from critic_jax.files import alone
from critic_jax.training import objective
from critic_jax.training.config import load_config
from critic_jax.training.optimizer import schedule
from critic_jax.training.sft import make_step

Data = Callable[..., Path]


class Steps:
    """Counts the steps of all runs, and can cut one short before a step is taken.

    All runs are of one config, so they share one compiled step.
    """

    def __init__(self) -> None:
        self.taken = 0
        self.last: int | None = None
        self.step: Any = None

    def make(self, *arguments: Any) -> Any:
        self.step = self.step or make_step(*arguments)
        return self.take

    def take(self, state: Any, batch: Any) -> Any:
        if self.taken == self.last:
            raise KeyboardInterrupt
        self.taken += 1
        return self.step(state, batch)


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> Iterator[Steps]:
    counted = Steps()
    monkeypatch.setattr(objective, "make_step", counted.make)
    yield counted


def test_a_run_that_was_cut_short_ends_like_one_that_was_not(
    steps: Steps, config_file: Path, data: Data, tmp_path: Path
) -> None:
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    words = ["train", str(config_file), "--data", str(data()), "--output"]
    assert main([*words, str(whole)]) == 0
    assert steps.taken == 6

    # Stopped before the sixth, the fifth under way; saved after the third.
    steps.taken, steps.last = 0, 5
    assert main([*words, str(cut)]) == 130
    assert [line["step"] for line in metrics(cut)] == [1, 2, 3, 4]
    assert not (cut / "critic").exists()
    with (cut / "metrics.jsonl").open("a") as file:
        file.write('{"step": 5, "lo')
    steps.taken, steps.last = 0, None
    assert main([*words, str(cut)]) == 0
    assert steps.taken == 3

    assert metrics(cut) == metrics(whole)
    ours, expected = (load_checkpoint(path / "critic") for path in (cut, whole))
    assert ours.meta | {"name": "whole"} == expected.meta
    for a, b in zip(jax.tree.leaves(ours.params), jax.tree.leaves(expected.params), strict=True):
        assert np.asarray(a).tobytes() == np.asarray(b).tobytes()

    # A finished run has nothing left to do.
    assert main([*words, str(cut)]) == 0
    assert steps.taken == 3 and metrics(cut) == metrics(whole)
    check_a_finished_run(whole, config_file)


def check_a_finished_run(output: Path, config_file: Path) -> None:
    config, lines = load_config(str(config_file), []), metrics(output)
    assert [line["step"] for line in lines] == [1, 2, 3, 4, 5, 6]
    assert [line["records"] for line in lines] == [2] * 6
    rate = schedule(config, 6)
    assert [line["learning_rate"] for line in lines] == [float(rate(s)) for s in range(6)]
    assert all(line["grad_norm"] > 0 for line in lines)
    assert lines[-1]["loss"] < 0.9 * lines[0]["loss"]
    start, end = load_checkpoint(config.init), load_checkpoint(output / "critic")
    assert (end.config, end.geometry) == (start.config, start.geometry)
    assert end.meta == {
        "name": output.name,
        "step": 6,
        "from": config.init,
        "base": None,
        "generation": start.meta["generation"],
        "source": {},
    }
    assert not np.array_equal(end.params["newline"], start.params["newline"])
    # The tower's last norm touches nothing: no gradient ever reaches it.
    for name in ("scale", "bias"):
        untouched = (c.params["tower"]["post_norm"][name] for c in (start, end))
        np.testing.assert_array_equal(*untouched)


TWO_MARKERS = [
    {"from": "human", "value": "<image><image>\nWhich digit?"},
    {"from": "gpt", "value": "It is a 7."},
]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {6: {"conversations": TWO_MARKERS}},
            "records.jsonl line 7, record 'r6': 2 <image> markers and 1 picture",
        ),
        ({6: '{"id": "r6", "source": }'}, "records.jsonl line 7: not valid JSON ("),
        ({3: {"id": "r1"}}, "records.jsonl line 4: field 'id': 'r1' is taken by line 2"),
        ({4: {"image": "gone.png"}}, "records.jsonl line 5, record 'r4': "),
        ({4: {"conversations": TWO_MARKERS[:1]}}, "line 5, record 'r4': "),
        (
            {0: {"conversations": [TWO_MARKERS[0], {"from": "gpt", "value": "a 7 " * 200}]}},
            "records.jsonl line 1, record 'r0': ",
        ),
    ],
)
def test_a_wrong_record_is_one_line_and_exit_code_2(
    config_file: Path, data: Data, tmp_path: Path, capsys: Any, changes: Any, said: str
) -> None:
    words = ["--data", str(data(changes)), "--output", str(tmp_path / "out")]
    assert main(["train", str(config_file), *words]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and error.startswith("critic-jax: error: ")
    assert said in error
    assert not (tmp_path / "out" / "critic").exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["no_such"], "no config no_such: neither a file nor one of "),
        (
            ["CONFIG", "--learning_rat", "1"],
            "no field --learning_rat; did you mean --learning_rate?",
        ),
        (["CONFIG", "--data", "gone.jsonl"], "gone.jsonl: no such file"),
        (
            ["CONFIG", "--rows", "3", "--accumulate", "2"],
            "rows 3, accumulate 2: a step's rows must ",
        ),
        (["CONFIG", "--tensor", "7"], "mesh data 1 x fsdp 1 x tensor 7 is 7 devices"),
        (["CONFIG", "--init", "nowhere"], "nowhere: no such checkpoint folder"),
        (["CONFIG", "--output", ""], "output is empty; it should name a folder for the run"),
    ],
)
def test_a_wrong_command_is_one_line_and_exit_code_2(
    config_file: Path, tmp_path: Path, capsys: Any, words: list[str], said: str
) -> None:
    full = [str(config_file) if word == "CONFIG" else word for word in words]
    if full[0] != "no_such" and "--output" not in full:
        full += ["--output", str(tmp_path / "out")]
    assert main(["train", *full]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and said in error


def test_a_second_run_on_one_output_is_told(
    config_file: Path, data: Data, tmp_path: Path, capsys: Any
) -> None:
    output = tmp_path / "out"
    output.mkdir()
    words = ["train", str(config_file), "--data", str(data()), "--output", str(output)]
    with alone(output):
        assert main(words) == 2
    error = capsys.readouterr().err
    assert f"{output}: another run is writing to it; wait" in error and error.count("\n") == 1
    assert not list(output.iterdir())
    assert main(words) == 0


def test_an_output_that_can_be_no_folder_is_one_line(
    config_file: Path, tmp_path: Path, capsys: Any
) -> None:
    taken = tmp_path / "mine.txt"
    taken.write_text("mine")
    for output in (taken, taken / "run"):
        assert main(["train", str(config_file), "--output", str(output)]) == 2
        error = capsys.readouterr().err
        assert f"{output}: cannot be made a folder (" in error and error.count("\n") == 1
    assert taken.read_text() == "mine"
