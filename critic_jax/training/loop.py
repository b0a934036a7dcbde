"""The training loop: batches in, checkpoints and metrics out. Resumes by itself."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import optax

from critic_jax.checkpoints import Checkpoint, load_checkpoint, save_checkpoint
from critic_jax.compiled import keep_compiled
from critic_jax.data.encode import Encoder
from critic_jax.files import write_json
from critic_jax.hosts import is_first
from critic_jax.progress import progress
from critic_jax.sharding import make_mesh
from critic_jax.training.begun import FILE, Begun
from critic_jax.training.config import TrainConfig
from critic_jax.training.inputs import make_rows
from critic_jax.training.metrics import Metrics
from critic_jax.training.optimizer import optimizer
from critic_jax.training.options import step_options
from critic_jax.training.profile import Profile
from critic_jax.training.sft import TrainState, make_step
from critic_jax.training.signals import StopSignal
from critic_jax.training.speed import Meter, costs, peak
from critic_jax.training.state import state_shapes
from critic_jax.training.states import States
from critic_jax.training.steps import Run
from critic_jax.training.validation import MakeJudge, make_validation


def train(config: TrainConfig, judge: MakeJudge | None = None) -> Path:
    """Run (or go on with) a training run; returns the folder of the trained critic.

    `output/metrics.jsonl` has one line a step, `output/state/` the states to resume from. On
    several processes (`critic_jax.hosts.join_hosts`) each calls this, with an `output` they share.
    judge: lets the critic judge what is held out (`critic_jax.evaluation.held_out.held_out_judge`),
    where the config asks for it.

    Raises InputError for wrong data, an unusable start, or a run that was begun otherwise;
    WorkError for a loss that is not finite, or a full disk; Stopped after a SIGTERM, once the state
    of the last step is saved.
    """
    output = Path(config.output)
    profile = Profile(config.profile, output / "profile")
    mesh = make_mesh(config.data_parallel, config.fsdp, config.tensor)
    options = step_options(config, mesh)
    output.mkdir(parents=True, exist_ok=True)
    keep_compiled()
    with StopSignal() as stop, progress() as bar, profile:
        states = States(output / "state", config.keep_states)
        begun = Begun(output, going_on=states.any())
        begun.check(config)
        start = load_checkpoint(config.init, mesh)
        encoder = Encoder(start.tokenizer, start.geometry, config.labels, config.loss_mean)
        rows, held = make_rows(config, encoder)
        begun.keep(config, rows.digest())
        if is_first():
            write_json(output / "plan.json", rows.report())
        tx = optimizer(config, len(rows))
        step = make_step(start.config, jnp.dtype(config.dtype), tx, options)
        validate = make_validation(config, start, held, options, judge, stop.asked)
        shaped = state_shapes(start.config, tx, mesh)
        with states:
            found = states.load(shaped)
            state = found.state if found else _fresh(shaped, start.params, tx)
            notes = found.notes if found else {}
            meter = Meter(
                costs(start.config),
                config.rows * config.row_tokens,
                peak(mesh.devices.flat),
                begun.time,
                notes.get("productive_seconds", 0.0),
            )
            with Metrics(output, int(state["step"])) as metrics:
                run = Run(config, rows, step, states, metrics, meter, validate, profile, stop)
                state = run.take_steps(state, notes.get("line"), mesh, bar)
        result = Checkpoint(
            start.config,
            start.geometry,
            state["params"],
            start.tokenizer,
            {
                "name": output.name,
                "step": len(rows),
                "from": config.init,
                "base": start.meta.get("base") or start.meta.get("from"),
                "generation": start.meta.get("generation", {}),
                "source": start.meta.get("source", {}),
            },
        )
        save_checkpoint(output / "critic", result)
    return output / "critic"


def clear_run(output: Path) -> None:
    """Remove what a run left in its folder, or the next one would go on from it."""
    for folder in ("state", "damaged", "critic", "tensorboard", "profile"):
        shutil.rmtree(output / folder, ignore_errors=True)
    for file in (FILE, "metrics.jsonl", "plan.json"):
        (output / file).unlink(missing_ok=True)


def _fresh(shaped: TrainState, params: Any, tx: optax.GradientTransformation) -> TrainState:
    """The state before the first step."""

    def fresh(params: Any) -> TrainState:
        params = jax.tree.map(lambda p: p.astype(jnp.float32), params)
        return {"params": params, "opt_state": tx.init(params), "step": jnp.int32(0)}

    shardings = jax.tree.map(lambda v: v.sharding, shaped)
    return jax.jit(fresh, out_shardings=shardings)(params)
