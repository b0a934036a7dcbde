"""What a state is worth on the records that were held out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import jax
import jax.numpy as jnp
import numpy as np

from critic_jax.checkpoints import Checkpoint
from critic_jax.data import Record
from critic_jax.data.rows import PlannedRows
from critic_jax.errors import InputError
from critic_jax.models.build import Params
from critic_jax.training.config import TrainConfig
from critic_jax.training.inputs import on_device
from critic_jax.training.sft import StepOptions, TrainState, make_loss
from critic_jax.training.state import whole

Validate = Callable[[TrainState], dict[str, float]]
"""Numbers of a state by their names in the metrics; none where it was asked to stop meanwhile."""

Asked = Callable[[], bool]

Judge = Callable[[Params, Asked], dict[str, float]]
"""The same of parameters that judge; it asks between batches whether to stop."""

Measure = Callable[[Params, Mapping[str, jax.Array]], dict[str, jax.Array]]
"""Means over the records of a batch, by name; the loss is among them."""

MakeJudge = Callable[[TrainConfig, Checkpoint, Iterable[Record]], Judge]
"""A judge of some of the records. Judging is none of this room's business: it is passed in."""


def make_validation(
    config: TrainConfig,
    start: Checkpoint,
    held: PlannedRows | None,
    options: StepOptions,
    make_judge: MakeJudge | None,
    asked: Asked,
    measure: Measure | None = None,
) -> Validate | None:
    """`validation_loss`, and what the judge says; None where no records are held out.

    measure: what is found of a batch; by default its supervised loss. Raises InputError where
    records are to be judged, and there are none or nobody can.
    """
    wanted = config.validation_judged
    if wanted and (held is None or make_judge is None):
        said = "needs records held out (validation)" if held is None else "needs a judge (train)"
        raise InputError(f"validation_judged {wanted}: {said}")
    if held is None:
        return None
    judge = None
    if wanted and make_judge is not None:
        # The same in every run of a seed, whatever is judged first.
        order = np.random.default_rng(config.seed).permutation(held.members()).tolist()
        judge = make_judge(config, start, (held.record(member) for member in order))
    loss = make_loss(start.config, jnp.dtype(config.dtype), options)
    measured = jax.jit(measure or (lambda params, batch: {"loss": loss(params, batch)}))

    def validate(state: TrainState) -> dict[str, float]:
        assert options.mesh is not None
        params, records = whole(state), 0.0
        totals: dict[str, float] = {}
        for batch in on_device(held, 0, options.mesh):
            if asked():
                return {}
            count = float(batch["records"])
            if config.loss_mean == "token":
                count = float(jnp.sum(batch["weights"]))
            for name, value in measured(params, batch).items():
                totals[name] = totals.get(name, 0.0) + float(value) * count
            records += count
        found = {f"validation_{name}": total / records for name, total in totals.items()}
        return found | judge(params, asked) if judge else found

    return validate
