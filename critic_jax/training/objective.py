"""What one kind of training has of its own: supervised, or on preferences."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import optax

from critic_jax.checkpoints import Checkpoint
from critic_jax.data.encode import Encoder
from critic_jax.data.rows import PlannedRows
from critic_jax.models.config import ModelConfig
from critic_jax.training.config import DpoConfig, TrainConfig
from critic_jax.training.dpo import check_pairs, loss_of, make_dpo_measure, make_dpo_step
from critic_jax.training.inputs import make_pair_rows, make_rows
from critic_jax.training.reference import Load, References
from critic_jax.training.sft import StepOptions, TrainState, make_step
from critic_jax.training.validation import Measure

Step = Callable[..., tuple[TrainState, dict[str, jax.Array]]]


class Objective(Protocol):
    """result: the folder of the trained model within the run's."""

    result: str

    def rows(self, encoder: Encoder) -> tuple[PlannedRows, PlannedRows | None]:
        """(rows to train on, rows held out or None)."""

    def step(
        self, model: ModelConfig, tx: optax.GradientTransformation, options: StepOptions
    ) -> Step:
        """The jitted step."""

    def measure(self, model: ModelConfig, options: StepOptions) -> Measure | None:
        """What is found of a batch that is held out; None: the supervised loss."""

    def prepare(
        self,
        start: Checkpoint,
        rows: PlannedRows,
        held: PlannedRows | None,
        options: StepOptions,
        load: Load,
        asked: Callable[[], bool],
    ) -> None:
        """What is done once before the first step, while the start has its parameters."""


class Supervised:
    """Supervised fine-tuning: nothing to prepare."""

    result = "critic"

    def __init__(self, config: TrainConfig) -> None:
        self.config = config

    def rows(self, encoder: Encoder) -> tuple[PlannedRows, PlannedRows | None]:
        return make_rows(self.config, encoder)

    def step(
        self, model: ModelConfig, tx: optax.GradientTransformation, options: StepOptions
    ) -> Step:
        return make_step(model, jnp.dtype(self.config.dtype), tx, options)

    def measure(self, model: ModelConfig, options: StepOptions) -> None:
        return None

    def prepare(self, *_: object) -> None:
        return None


class Preferences:
    """DPO, as a config asks for it. Raises InputError for values that make no sense."""

    result = "policy"

    def __init__(self, config: DpoConfig) -> None:
        check_pairs(config)
        self.config, self.loss = config, loss_of(config)

    def rows(self, encoder: Encoder) -> tuple[PlannedRows, PlannedRows | None]:
        return make_pair_rows(self.config, encoder)

    def step(
        self, model: ModelConfig, tx: optax.GradientTransformation, options: StepOptions
    ) -> Step:
        return make_dpo_step(model, self._dtype, tx, self.loss, options)

    def measure(self, model: ModelConfig, options: StepOptions) -> Measure | None:
        return make_dpo_measure(model, self._dtype, self.loss, options)

    def prepare(
        self,
        start: Checkpoint,
        rows: PlannedRows,
        held: PlannedRows | None,
        options: StepOptions,
        load: Load,
        asked: Callable[[], bool],
    ) -> None:
        sides: list[Any] = [side for side in (rows, held) if side is not None]
        References(self.config, start, sides, options, load, asked).add()

    @property
    def _dtype(self) -> jnp.dtype:
        return jnp.dtype(self.config.dtype)
