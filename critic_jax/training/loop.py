"""The training loop: batches in, checkpoints and metrics out. Resumes by itself."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import optax
import orbax.checkpoint.experimental.v1 as ocp
from jax.sharding import Mesh
from rich.progress import Progress

from critic_jax.checkpoints import Checkpoint, load_checkpoint, save_checkpoint
from critic_jax.data.encode import Encoder
from critic_jax.data.rows import PlannedRows
from critic_jax.files import write_json
from critic_jax.progress import progress
from critic_jax.sharding import make_mesh
from critic_jax.training.config import TrainConfig
from critic_jax.training.inputs import make_rows, on_device
from critic_jax.training.optimizer import optimizer, schedule
from critic_jax.training.options import step_options
from critic_jax.training.sft import TrainState, make_loss, make_step
from critic_jax.training.state import state_shapes


def train(config: TrainConfig) -> Path:
    """Run (or go on with) a training run; returns the folder of the trained critic.

    `output/metrics.jsonl` has one line a step, `output/state/` the states to resume from.
    Raises InputError for wrong data or an unusable start.
    """
    output = Path(config.output)
    output.mkdir(parents=True, exist_ok=True)
    mesh = make_mesh(config.data_parallel, config.fsdp, config.tensor)
    options = step_options(config, mesh)
    start = load_checkpoint(config.init, mesh)
    encoder = Encoder(start.tokenizer, start.geometry, config.labels, config.loss_mean)
    with progress() as bar:
        rows, held = make_rows(config, encoder)
        write_json(output / "plan.json", rows.report())
        tx = optimizer(config, len(rows))
        step = make_step(start.config, jnp.dtype(config.dtype), tx, options)
        keep = ocp.training.preservation_policies.LatestN(2)
        with ocp.training.Checkpointer(
            (output / "state").absolute(), preservation_policy=keep, cleanup_tmp_directories=True
        ) as states:
            state = _resume(states, state_shapes(start.config, tx, mesh), start.params, tx, mesh)
            log = _metrics_log(output / "metrics.jsonl", int(state["step"]))
            validate = _validation(config, start, held, mesh)
            state = _run(config, rows, step, state, states, log, mesh, bar, validate)
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


def _resume(
    states: ocp.training.Checkpointer,
    shaped: TrainState,
    params: Any,
    tx: optax.GradientTransformation,
    mesh: Mesh,
) -> TrainState:
    """The newest saved state, or a fresh one."""
    if states.latest is not None:
        return states.load(states.latest.step, shaped)

    def fresh(params: Any) -> TrainState:
        params = jax.tree.map(lambda p: p.astype(jnp.float32), params)
        return {"params": params, "opt_state": tx.init(params), "step": jnp.int32(0)}

    shardings = jax.tree.map(lambda v: v.sharding, shaped)
    return jax.jit(fresh, out_shardings=shardings)(params)


def _run(
    config: TrainConfig,
    rows: PlannedRows,
    step: Any,
    state: TrainState,
    states: ocp.training.Checkpointer,
    log: Any,
    mesh: Mesh,
    bar: Progress,
    validate: Callable[[TrainState], float] | None,
) -> TrainState:
    first = int(state["step"])
    task = bar.add_task("training", total=len(rows), completed=first)
    rate = schedule(config, len(rows))
    began = time.perf_counter()
    for number, batch in enumerate(
        on_device(rows, first, mesh, config.loader_workers), start=first
    ):
        records = int(batch["records"])
        state, metrics = step(state, batch)
        loss = float(metrics["loss"])
        saves = (number + 1) % config.save_every == 0 or number + 1 == len(rows)
        line = {
            "step": number + 1,
            "loss": loss,
            "grad_norm": float(metrics["grad_norm"]),
            "learning_rate": float(rate(number)),
            "records": records,
            "seconds": round(time.perf_counter() - began, 3),
        }
        if saves and validate is not None:
            line["validation_loss"] = validate(state)
        log.write(json.dumps(line) + "\n")
        log.flush()
        bar.update(task, advance=1, description=f"training, loss {loss:.3f}")
        if saves:
            states.save(number + 1, state, overwrite=True)
    log.close()
    return state


def _validation(
    config: TrainConfig, start: Checkpoint, held: PlannedRows | None, mesh: Mesh
) -> Callable[[TrainState], float] | None:
    """state -> mean loss of the records held out; None where there are none."""
    if held is None:
        return None
    options = step_options(config, mesh)
    loss = jax.jit(make_loss(start.config, jnp.dtype(config.dtype), options))

    def validate(state: TrainState) -> float:
        total = records = 0.0
        for batch in on_device(held, 0, mesh):
            count = float(batch["records"])
            if config.loss_mean == "token":
                count = float(jnp.sum(batch["weights"]))
            total += float(loss(state["params"], batch)) * count
            records += count
        return total / records

    return validate


def _metrics_log(path: Path, step: int) -> Any:
    """Open the metrics file at `step`: lines that a resumed run will write again are dropped."""
    kept: list[str] = []
    if path.exists():
        kept = [line for line in path.read_text().splitlines(True) if _step_of(line) <= step]
    file = path.open("w")
    file.writelines(kept)
    return file


def _step_of(line: str) -> float:
    try:
        return json.loads(line)["step"]
    except (json.JSONDecodeError, KeyError):
        return float("inf")  # a line that a kill cut short
