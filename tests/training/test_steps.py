"""The steps of a run, with a model of one number: what is saved, written and told, and when."""

from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import pytest
from run_lines import metrics
from train_command import newest

from critic_jax.data.rows import Holding
from critic_jax.errors import Stopped, WorkError
from critic_jax.flops import Costs
from critic_jax.training import steps
from critic_jax.training.config import TrainConfig
from critic_jax.training.metrics import Metrics
from critic_jax.training.profile import Profile
from critic_jax.training.run_folder import RunFolder
from critic_jax.training.signals import StopSignal
from critic_jax.training.speed import Meter
from critic_jax.training.states import States

LAST = 6
BATCH = {"visible_until": jnp.asarray([[3, 3, 3]]), "weights": jnp.asarray([[0.0, 0.5, 0.5]])}
SHAPED = {"params": jnp.float32(0), "step": jnp.int32(0)}

Step = Callable[..., Any]


class FakeRows:
    """Two records a step."""

    def __len__(self) -> int:
        return LAST

    def holding(self, step: int) -> Holding:
        return Holding(2, 3, 4, 0)

    def names(self, step: int) -> list[str]:
        return [f"r{2 * step}", f"r{2 * step + 1}"]


def good_step(state: Any, batch: Any) -> Any:
    number = state["step"] + 1
    results = {"loss": 1 / number, "grad_norm": jnp.float32(2)}
    return {"params": state["params"] + 0.5, "step": number}, results


@pytest.fixture(autouse=True)
def _batches(monkeypatch: pytest.MonkeyPatch) -> None:
    def on_device(rows: Any, first: int, *_: Any) -> Iterator[Any]:
        return iter([BATCH] * (LAST - first))

    monkeypatch.setattr(steps, "on_device", on_device)


def take(
    output: Path, step: Step = good_step, validate: Any = None, stop: Any = None
) -> dict[str, Any]:
    """Start, or go on, as `train` does; the last state."""
    config = TrainConfig(init="", data="", output=str(output), save_every=2)
    bar: Any = SimpleNamespace(add_task=lambda *_, **__: 0, update=lambda *_, **__: None)
    rows: Any = FakeRows()
    with States(output / "state", 3) as states:
        shaped = jax.tree.map(
            lambda v: jax.ShapeDtypeStruct(v.shape, v.dtype, sharding=v.sharding), SHAPED
        )
        found = states.load(shaped)
        state = found.state if found else SHAPED
        meter = Meter(Costs(1, 1, 1), 3, None, 0.0, 0.0)
        with Metrics(output, int(state["step"])) as lines, StopSignal() as signal:
            stop = stop or signal
            profile = Profile("", output)
            run = steps.Run(
                *(config, rows, step, states, lines, meter, validate, profile, stop),
                frozen=[],
                folder=RunFolder.of(output),
            )
            mesh: Any = None
            return run.take_steps(state, found and found.notes["line"], mesh, bar)


@pytest.fixture
def output(tmp_path: Path) -> Path:
    folder = tmp_path / "run"
    folder.mkdir()
    return folder


def saved(output: Path) -> list[int]:
    return sorted(int(path.name) for path in (output / "state").iterdir())


def losses(state: Any) -> dict[str, float]:
    return {"validation_loss": float(state["params"])}


def test_states_are_saved_at_their_steps_and_at_the_last_and_validated(output: Path) -> None:
    assert float(take(output, validate=losses)["params"]) == LAST / 2
    assert saved(output) == [2, 4, 6]
    lines = metrics(output)
    assert [line["step"] for line in lines] == [1, 2, 3, 4, 5, 6]
    assert [line.get("validation_loss") for line in lines] == [None, 1, None, 2, None, 3]
    assert [line["loss"] for line in lines] == pytest.approx([1 / n for n in range(1, 7)])


def broken(at: int, **results: float) -> Step:
    """A step that goes wrong: by its results, or if there are none by its parameters."""

    def step(state: Any, batch: Any) -> Any:
        state, told = good_step(state, batch)
        bad = int(state["step"]) == at
        if bad and not results:
            state["params"] = jnp.float32(jnp.inf)
        return state, {**told, **(jax.tree.map(jnp.float32, results) if bad else {})}

    return step


@pytest.mark.parametrize(
    ("step", "said", "kept"),
    [
        (broken(5, loss=float("inf")), "step 5: loss inf, gradient norm 2.0; ", 4),
        (broken(4, grad_norm=float("nan")), "step 4: loss 0.25, gradient norm nan; ", 2),
        (broken(4), "step 4: its update is not finite; ", 2),
    ],
)
def test_what_is_not_finite_is_never_saved(step: Step, said: str, kept: int, output: Path) -> None:
    number = int(said[5])
    with pytest.raises(WorkError) as caught:
        take(output, step)
    records = f"r{2 * number - 2}, r{2 * number - 1}"
    assert str(caught.value) == (
        f"{output}: {said}its records are {records}; it was not saved, the newest state is that "
        f"of step {kept}"
    )
    assert newest(output) == kept
    assert [line["step"] for line in metrics(output)] == list(range(1, number))
    # Once it is mended the run goes on from there.
    take(output)
    assert [line["step"] for line in metrics(output)] == [1, 2, 3, 4, 5, 6]


def test_before_the_first_state_there_is_none_to_name(output: Path) -> None:
    with pytest.raises(WorkError, match=r"r0, r1; it was not saved, no state was saved yet$"):
        take(output, broken(1, loss=float("nan")))


class AskedAfter:
    """Asked to stop from the `count`-th time on."""

    def __init__(self, count: int) -> None:
        self.left = count

    def asked(self) -> bool:
        self.left -= 1
        return self.left < 0


def test_a_stop_saves_the_last_step_and_validates_nothing(output: Path) -> None:
    with pytest.raises(Stopped, match="stopped at step 3 of 6, the state is saved"):
        take(output, stop=AskedAfter(3))
    assert saved(output) == [2, 3] and [line["step"] for line in metrics(output)] == [1, 2, 3]
    take(output, validate=losses)
    lines = metrics(output)
    assert [line["step"] for line in lines] == [1, 2, 3, 4, 5, 6]
    assert [line.get("validation_loss") for line in lines[2:]] == [None, 2, None, 3]


def test_a_stop_before_the_first_step_saves_nothing(output: Path) -> None:
    with pytest.raises(Stopped, match="stopped at step 0 of 6, there is no state yet"):
        take(output, stop=AskedAfter(0))
    assert not (output / "state").exists() and not metrics(output)


@pytest.mark.parametrize("killed", [False, True])
def test_a_validation_that_was_cut_short_is_made_up_for(killed: bool, output: Path) -> None:
    """Its state is there already, and the next start finds its line missing."""
    asked = AskedAfter(99)

    def cut_short(state: Any) -> dict[str, float]:
        if killed:
            raise KeyboardInterrupt
        asked.left = 0
        return {}

    with pytest.raises(KeyboardInterrupt if killed else Stopped):
        take(output, validate=cut_short, stop=asked)
    assert saved(output) == [2] and [line["step"] for line in metrics(output)] == [1]
    take(output, validate=losses)
    lines = metrics(output)
    assert [line["step"] for line in lines] == [1, 2, 3, 4, 5, 6]
    assert [line.get("validation_loss") for line in lines] == [None, 1, None, 2, None, 3]
