"""The training loop: batches in, checkpoints and metrics out. Resumes by itself."""

from __future__ import annotations

import shutil
from functools import partial
from pathlib import Path

from critic_jax.checkpoints import load_checkpoint
from critic_jax.compiled import keep_compiled
from critic_jax.data.encode import Encoder
from critic_jax.errors import InputError
from critic_jax.files import write_json
from critic_jax.hosts import is_first
from critic_jax.progress import progress
from critic_jax.sharding import make_mesh
from critic_jax.training.begun import FILE, Begun
from critic_jax.training.config import DpoConfig, TrainConfig
from critic_jax.training.metrics import Metrics
from critic_jax.training.objective import Objective, Preferences, Supervised
from critic_jax.training.optimizer import optimizer
from critic_jax.training.options import step_options
from critic_jax.training.profile import Profile
from critic_jax.training.result import write_result
from critic_jax.training.run_folder import RunFolder
from critic_jax.training.signals import StopSignal
from critic_jax.training.speed import Meter, costs, peak
from critic_jax.training.state import fresh_state, hold, saved, state_shapes, with_frozen
from critic_jax.training.states import States, bit_sums
from critic_jax.training.steps import Run
from critic_jax.training.tuning import tuning_of
from critic_jax.training.validation import MakeJudge, make_validation


def train(config: TrainConfig, judge: MakeJudge | None = None) -> Path:
    """Run (or go on with) a training run; returns the folder of the trained model: `output/critic`,
    or of a `DpoConfig`, which trains on preferences, `output/policy`.

    `output/metrics.jsonl` has one line a step, `output/state/` the states to resume from. On
    several processes (`critic_jax.hosts.join_hosts`) each calls this, with an `output` they share:
    a folder, or a URL (`RunFolder`).
    judge: lets the critic judge what is held out (`critic_jax.evaluation.held_out.held_out_judge`),
    where the config asks for it.

    Raises InputError for wrong data, an unusable start, or a run that was begun otherwise or is
    under way; WorkError for a loss that is not finite, or a full disk; Stopped after a SIGTERM,
    once the state of the last step is saved.
    """
    folder = RunFolder.of(config.output)
    profile = Profile(config.profile, folder.here / "profile")
    mesh = make_mesh(config.data_parallel, config.fsdp, config.tensor)
    options, tuning = step_options(config, mesh), tuning_of(config)
    objective: Objective = (
        Preferences(config) if isinstance(config, DpoConfig) else Supervised(config)
    )
    load = partial(load_checkpoint, mesh=mesh, hold=partial(hold, tuning))
    folder.open()
    keep_compiled()
    with folder.alone(), StopSignal() as stop, progress() as bar, profile:
        states = States(folder.place("state"), config.keep_states)
        begun = Begun(folder.here, going_on=states.any())
        begun.check(config)
        start = load(config.init)
        encoder = Encoder(start.tokenizer, start.geometry, config.labels, config.loss_mean)
        rows, held = objective.rows(encoder)
        begun.keep(config, rows.digest())
        if is_first():
            write_json(folder.here / "plan.json", rows.report())
        tx = optimizer(config, len(rows))
        step = objective.step(start.config, tx, options)
        measure = objective.measure(start.config, options)
        validate = make_validation(config, start, held, options, judge, stop.asked, measure)
        objective.prepare(start, rows, held, options, load, stop.asked)
        # The start gives its parameters away: what is frozen of them becomes part of the state.
        params, start.params = start.params, {}
        shaped = state_shapes(start.config, tx, mesh, tuning)
        with states:
            if found := states.load(saved(shaped)):
                state, notes = with_frozen(found.state, params, start.config, tuning), found.notes
            else:
                state = fresh_state(params, start.config, tx, mesh, tuning, config.seed)
                notes = {}
            del params
            frozen = bit_sums(state.get("frozen", {}))
            if notes.get("frozen", frozen) != frozen:
                raise InputError(
                    f"{config.init}: is not the model that {config.output} was begun with; "
                    "bring that back to go on, or give another output"
                )
            meter = Meter(
                costs(start.config),
                config.rows * config.row_tokens,
                # What is frozen takes no gradient: the count of operations would flatter.
                None if "frozen" in state else peak(mesh.devices.flat),
                begun.time,
                notes.get("productive_seconds", 0.0),
            )
            with Metrics(folder.here, int(state["step"])) as metrics:
                run = Run(
                    *(config, rows, step, states, metrics, meter, validate, profile, stop),
                    *(frozen, folder),
                )
                state = run.take_steps(state, notes.get("line"), mesh, bar)
        meta = {
            "name": folder.here.name,
            "step": len(rows),
            "from": config.init,
            "base": start.meta.get("base") or start.meta.get("from"),
            "generation": start.meta.get("generation", {}),
            "source": start.meta.get("source", {}),
        }
        return write_result(folder, config.init, start, state, tuning, mesh, meta, objective.result)


def clear_run(output: Path) -> None:
    """Remove what a run left in its folder, or the next one would go on from it."""
    for folder in ("state", "damaged", "critic", "policy", "adapters", "tensorboard", "profile"):
        shutil.rmtree(output / folder, ignore_errors=True)
    for file in (FILE, "metrics.jsonl", "plan.json", "pairs.jsonl"):
        (output / file).unlink(missing_ok=True)
