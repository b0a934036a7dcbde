"""AdamW with warm-up and cosine decay, as LLaVA-OneVision's recipe has it."""

from __future__ import annotations

from typing import Any

import jax
import optax

from critic_jax.training.config import TrainConfig


def schedule(config: TrainConfig, steps: int) -> optax.Schedule:
    """Learning rate by step: linear over `warmup_ratio` of the run, then a cosine to zero."""
    warmup = max(1, round(config.warmup_ratio * steps))
    return optax.warmup_cosine_decay_schedule(
        0.0, config.learning_rate, warmup, max(steps, warmup + 1)
    )


def decayed(params: Any) -> Any:
    """Which parameters weight decay pulls on: all but biases and norms, as upstream groups them."""
    return jax.tree_util.tree_map_with_path(
        lambda path, _: path[-1].key not in ("bias", "scale"), params
    )


def optimizer(config: TrainConfig, steps: int) -> optax.GradientTransformation:
    """Gradient clipping by global norm, then AdamW (decoupled weight decay)."""
    return optax.chain(
        optax.clip_by_global_norm(config.clip_norm),
        optax.adamw(
            schedule(config, steps),
            b1=0.9,
            b2=config.beta2,
            eps=1e-8,
            weight_decay=config.weight_decay,
            mask=decayed,
        ),
    )
