"""Runs that are killed, asked to stop or lose a state end with the bits of one that was left alone.

All through the command, in processes of their own.
"""

import random
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from run_lines import metrics
from train_command import begin, end, newest, same_bits, wait_for_step

STEPS = 60


@pytest.fixture(scope="module")
def records(tmp_path_factory: pytest.TempPathFactory, write_data: Callable[..., Path]) -> Path:
    return write_data(tmp_path_factory.mktemp("going_on"))


@pytest.fixture(scope="module")
def words(records: Path, config_file: Path) -> list[str]:
    more = ["--epochs", "10", "--save-every", "5"]
    return [str(config_file), "--data", str(records), *more, "--output"]


@pytest.fixture(scope="module")
def whole(records: Path, words: list[str]) -> Path:
    """A run of 60 steps that nobody disturbed."""
    output = records.with_name("whole")
    assert end(begin(*words, output)) == (0, "")
    assert [line["step"] for line in metrics(output)] == list(range(1, STEPS + 1))
    return output


def kill_steps(count: int) -> list[int]:
    """Steps to kill at: one in each of `count` stretches of the run.

    At the last of them two states are there: one to damage, and the one before it.
    """
    dice, stretch = random.Random(count), (STEPS - 6) // count
    steps = [n * stretch + dice.randint(1, stretch) for n in range(count)]
    return [*steps[:-1], max(steps[-1], 17)]


@pytest.mark.parametrize("kills", [1, pytest.param(10, marks=pytest.mark.slow)])
def test_a_killed_run_whose_newest_state_is_damaged_ends_with_the_same_bits(
    kills: int, words: list[str], whole: Path, tmp_path: Path
) -> None:
    output, dice = tmp_path / "killed", random.Random(kills)
    for step in kill_steps(kills):
        process = begin(*words, output)
        wait_for_step(output, step, process)
        # Perhaps while a state is written or an old one removed.
        with pytest.raises(Exception, match="timed out"):
            process.wait(dice.uniform(0, 0.05))
        process.send_signal(signal.SIGKILL)
        assert end(process)[0] == -signal.SIGKILL
        assert newest(output) < STEPS
    damaged = newest(output)
    (content,) = (output / "state" / str(damaged) / "state" / "d").iterdir()
    content.write_bytes(content.read_bytes()[:-1000])
    code, said = end(begin(*words, output))
    assert code == 0 and said.count("\n") == 1
    assert said.startswith(f"critic-jax: warning: {output / 'state' / str(damaged)}: damaged (")
    assert (output / "damaged" / f"state-{damaged}").is_dir()
    assert same_bits(output, whole)
    assert metrics(output) == metrics(whole)


def test_a_run_that_is_asked_to_stop_saves_its_last_step_and_goes_on(
    words: list[str], whole: Path, tmp_path: Path
) -> None:
    output = tmp_path / "stopped"
    process = begin(*words, output)
    wait_for_step(output, 13, process)
    process.send_signal(signal.SIGTERM)
    code, said = end(process)
    done = metrics(output)[-1]["step"]
    assert 13 <= done < STEPS and newest(output) == done
    assert (code, said) == (
        0,
        f"critic-jax: {output}: stopped at step {done} of 60, the state is saved; "
        "the same command goes on\n",
    )
    assert not (output / "critic").exists()
    assert end(begin(*words, output)) == (0, "")
    assert same_bits(output, whole)
    assert metrics(output) == metrics(whole)


def test_a_run_that_is_asked_to_stop_before_its_first_step_has_nothing_to_save(
    words: list[str], tmp_path: Path
) -> None:
    output = tmp_path / "early"
    process = begin(*words, output)
    while not (output / "plan.json").exists():  # the first step is still to be compiled
        assert process.poll() is None
    process.send_signal(signal.SIGTERM)
    code, said = end(process)
    assert code == 0 and "stopped at step" in said
    assert newest(output) == len(metrics(output))
