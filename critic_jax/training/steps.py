"""The steps of one start of a run: taken, looked at, saved, written down."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import jax
import numpy as np
from jax.sharding import Mesh
from rich.progress import Progress

from critic_jax.data.rows import PlannedRows
from critic_jax.errors import Stopped, WorkError
from critic_jax.hosts import all_agree
from critic_jax.training.config import TrainConfig
from critic_jax.training.inputs import on_device
from critic_jax.training.metrics import Line, Metrics
from critic_jax.training.optimizer import schedule
from critic_jax.training.profile import Profile
from critic_jax.training.run_folder import RunFolder
from critic_jax.training.sft import TrainState
from critic_jax.training.signals import StopSignal
from critic_jax.training.speed import Meter, attended
from critic_jax.training.state import saved
from critic_jax.training.states import States, finite
from critic_jax.training.validation import Validate


@dataclass
class _Taken:
    """A step that was handed to the device; its results may not be there yet."""

    number: int
    results: dict[str, jax.Array]
    attended: jax.Array


@dataclass
class Run:
    """The steps of one start of a run.

    One step is under way while the results of the one before are looked at, so the device never
    waits for the host; but nothing is saved of a step before its own results are known to be
    finite. Steps are counted from 1, by how many are done when they are.

    A state is saved before it is validated, so that being stopped meanwhile costs nothing. Its line
    waits for the validation; the state has it too, for a start that finds the line missing.

    frozen: sums of the bits of what is frozen, noted with every state.
    """

    config: TrainConfig
    rows: PlannedRows
    step: Callable[..., tuple[TrainState, dict[str, jax.Array]]]
    states: States
    metrics: Metrics
    meter: Meter
    validate: Validate | None
    profile: Profile
    stop: StopSignal
    frozen: list[int]
    folder: RunFolder
    under_way: _Taken | None = None
    began: float = field(default_factory=time.perf_counter)
    rates: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        # All at once: asked for one by one, each would wait for the step that is under way.
        steps = np.arange(len(self.rows))
        self.rates = np.asarray(schedule(self.config, len(steps))(steps))

    def take_steps(
        self, state: TrainState, line: Line | None, mesh: Mesh, bar: Progress
    ) -> TrainState:
        """Those that `state` has not seen yet. Raises WorkError and Stopped as `train` does.

        line: that was saved with the state.
        """
        first, last = int(state["step"]), len(self.rows)
        task = bar.add_task("training", total=last, completed=first)

        def settle() -> Line:
            line = self._settled()
            said = f"training, loss {line['loss']:.3f}"
            bar.update(task, completed=line["step"], description=said)
            return line

        if line is not None and not all_agree(self.metrics.last >= first):
            self._finish(line, state)
        batches = on_device(self.rows, first, mesh, self.config.loader_workers)
        for number in range(first + 1, last + 1):
            if self.stop.asked():
                if self.under_way is not None:
                    line = settle()
                    self._save(line, state)
                    self.metrics.write(line)
                raise self._stopped(number - 1)
            batch = next(batches)
            turns = self.profile.turns(number)
            if self.under_way is not None and turns:
                self.metrics.write(settle())
            if turns:
                self.profile.turn()
            state, results = self.step(state, batch)
            counted = attended(batch["visible_until"], batch["weights"])
            if self.under_way is not None:
                self.metrics.write(settle())
            self.under_way = _Taken(number, results, counted)
            if self._saves(number):
                line = settle()
                self._save(line, state)
                self._finish(line, state)
                self.meter.pause()
        return state

    def _saves(self, number: int) -> bool:
        return number % self.config.save_every == 0 or number == len(self.rows)

    def _settled(self) -> Line:
        """The line of the step under way, when its results are there and sound."""
        assert self.under_way is not None
        taken, self.under_way = self.under_way, None
        loss, norm = (float(taken.results[name]) for name in ("loss", "grad_norm"))
        if not (math.isfinite(loss) and math.isfinite(norm)):
            raise self._not_finite(taken.number, f"loss {loss}, gradient norm {norm}")
        holding = self.rows.holding(taken.number - 1)
        rates = self.meter.step(holding, *np.asarray(taken.attended).tolist())
        return {
            "step": taken.number,
            "loss": loss,
            "grad_norm": norm,
            **{n: float(v) for n, v in taken.results.items() if n not in ("loss", "grad_norm")},
            "learning_rate": float(self.rates[taken.number - 1]),
            "records": holding.records,
            "tokens": holding.tokens,
            "useful_tokens": holding.useful_tokens,
            **rates,
            "seconds": round(time.perf_counter() - self.began, 3),
        }

    def _save(self, line: Line, state: TrainState) -> None:
        changing = saved(state)
        if not finite(changing):
            raise self._not_finite(line["step"], "its update is not finite")
        # The seed is all the randomness there is: the order of records follows from it.
        notes = {
            "seed": self.config.seed,
            "productive_seconds": self.meter.productive,
            "line": line,
            "frozen": self.frozen,
        }
        self.metrics.flush()
        self.folder.send()
        self.states.save(line["step"], changing, notes)

    def _finish(self, line: Line, state: TrainState) -> None:
        """Write the line of a step that is saved, with what validation says of its state."""
        found: dict[str, float] = {}
        if self.validate is not None and self._saves(line["step"]):
            found = self.validate(state)
            if self.stop.asked():
                raise self._stopped(line["step"])
        self.metrics.write({**line, **found})

    def _not_finite(self, number: int, said: str) -> WorkError:
        newest = self.states.newest
        kept = f"the newest state is that of step {newest}" if newest else "no state was saved yet"
        return WorkError(
            f"{self.config.output}: step {number}: {said}; its records are "
            f"{', '.join(self.rows.names(number - 1))}; it was not saved, {kept}"
        )

    def _stopped(self, number: int) -> Stopped:
        saved = "the state is saved" if self.states.newest == number else "there is no state yet"
        return Stopped(
            f"{self.config.output}: stopped at step {number} of {len(self.rows)}, {saved}; "
            "the same command goes on"
        )
