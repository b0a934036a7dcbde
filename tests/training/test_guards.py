"""What stops a run: numbers that are not finite, another config or other records than before."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from run_lines import metrics
from train_command import newest

from critic_jax.cli import main
from critic_jax.errors import InputError
from critic_jax.training.begun import FREE, Begun
from critic_jax.training.config import TrainConfig
from critic_jax.training.states import finite

Data = Callable[..., Path]


def test_a_run_stops_at_the_step_that_is_not_finite_and_names_its_records(
    config_file: Path, data: Data, tmp_path: Path, capsys: Any
) -> None:
    output = tmp_path / "run"
    words = ["train", str(config_file), "--data", str(data()), "--output", str(output)]
    words += ["--save-every", "1", "--warmup-ratio", "0", "--learning-rate", "1e30"]
    # The first step's rate is 0: the second goes too far, which the third is the first to see.
    assert main(words) == 1
    error = capsys.readouterr().err
    start = f"critic-jax: error: {output}: step 3: loss nan, gradient norm nan; its records are "
    end = "; it was not saved, the newest state is that of step 2\n"
    assert error.startswith(start) and error.endswith(end) and error.count("\n") == 1
    named = error.removeprefix(start).removesuffix(end).split(", ")
    assert len(set(named)) == 2 and set(named) <= {f"r{n}" for n in range(12)}
    assert [line["step"] for line in metrics(output)] == [1, 2]
    assert newest(output) == 2 and not (output / "critic").exists()


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_one_number_of_a_state_is_enough(value: float) -> None:
    state = {"params": np.ones((3, 4), np.float32), "step": np.int32(7)}
    assert finite(jax.tree.map(jax.numpy.asarray, state))
    state["params"][2, 1] = value
    assert not finite(jax.tree.map(jax.numpy.asarray, state))


CONFIG = TrainConfig(init="start", data="records.jsonl", output="run", epochs=2)


def begin(folder: Path, config: TrainConfig, records: str = "abc", going_on: bool = True) -> Begun:
    begun = Begun(folder, going_on)
    begun.check(config)
    begun.keep(config, records)
    return begun


def changed(**fields: Any) -> TrainConfig:
    return TrainConfig(**{**vars(CONFIG), **fields})


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"learning_rate": 1e-3}, "begun with learning_rate 2e-06, and now it is 0.001: give the"),
        ({"epochs": 3}, "begun with epochs 2, and now it is 3"),
        ({"rows": 16}, "begun with rows 32, and now it is 16"),
        ({"init": "other"}, "begun with init 'start', and now it is 'other'"),
        ({"loss_mean": "token"}, "begun with loss_mean 'record', and now it is 'token'"),
    ],
)
def test_a_run_goes_on_with_the_config_that_it_was_begun_with(
    fields: dict[str, Any], said: str, tmp_path: Path
) -> None:
    first = begin(tmp_path, CONFIG, going_on=False)
    kept = (tmp_path / "run.json").read_text()
    with pytest.raises(InputError) as caught:
        begin(tmp_path, changed(**fields))
    assert str(caught.value).startswith(f"{tmp_path / 'run.json'}: {said}")
    assert (tmp_path / "run.json").read_text() == kept
    assert Begun(tmp_path, True).time == first.time
    # Without a state there is nothing to spoil.
    begin(tmp_path, changed(**fields), going_on=False)


def test_what_leaves_the_steps_as_they_are_may_change(tmp_path: Path) -> None:
    begin(tmp_path, CONFIG, going_on=False)
    others = {"save_every": 7, "keep_states": 1, "loader_workers": 2, "profile": "3:4"}
    others |= {"validation_judged": 5}
    others |= {"output": "elsewhere", "data": "moved.jsonl", "accumulate": 2, "remat": "none"}
    others |= {"data_parallel": 2, "fsdp": 4, "tensor": 2}
    # A training has no rounds of its own.
    assert set(others) == set(FREE) - {"rounds"}
    begin(tmp_path, changed(**others))


def test_a_run_goes_on_with_the_records_that_it_was_begun_with(tmp_path: Path) -> None:
    begin(tmp_path, CONFIG, going_on=False)
    with pytest.raises(InputError, match=r"the records of records.jsonl are no longer those"):
        begin(tmp_path, CONFIG, "abd")
    begin(tmp_path, CONFIG, "abd", going_on=False)
    begin(tmp_path, CONFIG, "abd")


def test_a_file_in_the_place_of_a_runs_own_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text('{"began": "yesterday"}')
    with pytest.raises(InputError, match=r"run\.json: not a run's own file"):
        Begun(tmp_path, True)


def test_a_run_is_not_written_to_another_store(config_file: Path, data: Data, capsys: Any) -> None:
    words = ["train", str(config_file), "--data", str(data()), "--output", "s3://bucket/run"]
    assert main(words) == 2
    said = "output s3://bucket/run: a run is written to a folder or to gs://BUCKET/FOLDER\n"
    assert capsys.readouterr().err == f"critic-jax: error: {said}"
