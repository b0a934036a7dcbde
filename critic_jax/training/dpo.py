"""The preference step: direct preference optimisation (DPO) over packed trees.

A pair's two answers are branches of one trunk. The loss is not linear in log-probabilities, so
each answer needs its own sum along its path: targets are added up by node, and each answer adds the
sums of the nodes that it runs through. What both answers begin with counts in both.

Letters: B rows, S tokens, P pairs that a row may hold, K sums that a row may hold.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import jax
import jax.numpy as jnp
import optax
from jax.sharding import NamedSharding, PartitionSpec

from critic_jax.errors import InputError
from critic_jax.models.build import Params
from critic_jax.models.config import ModelConfig
from critic_jax.training.config import DpoConfig
from critic_jax.training.gradients import (
    Batch,
    Sums,
    Total,
    jitted_step,
    join_rows,
    make_means,
    split_rows,
)
from critic_jax.training.sft import StepOptions, TrainState, make_logprobs

LossName = Literal["sigmoid", "ipo"]


@dataclass(frozen=True)
class DpoLoss:
    """What a pair's loss is: alpha * `dpo_loss` + gamma * the chosen answer's mean over tokens of
    the negative log-likelihood.
    """

    loss: LossName = "sigmoid"
    beta: float = 0.1
    label_smoothing: float = 0.0
    alpha: float = 1.0
    gamma: float = 0.0


def loss_of(config: DpoConfig) -> DpoLoss:
    """What a config asks for. Raises InputError for values that make no sense."""
    if not 0 < config.beta < math.inf:
        raise InputError(f"beta {config.beta}: it should be above 0")
    if not 0 <= config.label_smoothing < 0.5:
        raise InputError(f"label_smoothing {config.label_smoothing}: it should be 0 to below 0.5")
    if config.label_smoothing and config.loss != "sigmoid":
        raise InputError(
            f"label_smoothing {config.label_smoothing}: the {config.loss} loss has none"
        )
    for name in ("alpha", "gamma"):
        if not 0 <= getattr(config, name) < math.inf:
            raise InputError(f"{name} {getattr(config, name)}: it should be 0 or above")
    if not (config.alpha or config.gamma):
        raise InputError("alpha and gamma are both 0: nothing to learn from")
    return DpoLoss(config.loss, config.beta, config.label_smoothing, config.alpha, config.gamma)


def check_pairs(config: DpoConfig) -> None:
    """Raises InputError for fields that have no meaning for pairs."""
    if config.parts or not config.data:
        raise InputError("give data, a file of pairs; parts are of imported critic records")
    if config.loss_mean != "record":
        raise InputError(
            f"loss_mean {config.loss_mean!r}: a step's loss is the mean over its pairs; it should "
            "be 'record'"
        )
    if config.validation_judged:
        raise InputError(
            f"validation_judged {config.validation_judged}: pairs are not judged; it should be 0"
        )


def dpo_loss(
    chosen: jax.Array,
    rejected: jax.Array,
    reference_chosen: jax.Array,
    reference_rejected: jax.Array,
    *,
    beta: float = 0.1,
    loss: LossName = "sigmoid",
    label_smoothing: float = 0.0,
    chosen_tokens: jax.Array | None = None,
    rejected_tokens: jax.Array | None = None,
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """(losses, rewards of the chosen answers, rewards of the rejected), each of the shape given.

    The first four are log-probabilities of whole answers, summed over their tokens, by the policy
    and by the reference. A reward is beta * (policy - reference); no gradient flows through it.

    - "sigmoid": -log sigmoid(margin of the rewards), equation 7 of Rafailov et al. 2023 (arXiv
      2305.18290). With a label smoothing e the pair counts as swapped with weight e: conservative
      DPO, of Mitchell's note on noisy preferences (2023).
    - "ipo": (difference of the answers' changes - 1 / (2 beta))^2, equation 17 of Azar et al. 2023
      (arXiv 2310.12036), each change divided by its answer's tokens, which TRL has
      from the authors. It needs `chosen_tokens` and `rejected_tokens`.

    Raises ValueError for IPO without numbers of tokens.
    """
    by_chosen, by_rejected = chosen - reference_chosen, rejected - reference_rejected
    rewards = jax.lax.stop_gradient((beta * by_chosen, beta * by_rejected))
    if loss == "ipo":
        if chosen_tokens is None or rejected_tokens is None:
            raise ValueError("the ipo loss needs chosen_tokens and rejected_tokens")
        difference = by_chosen / chosen_tokens - by_rejected / rejected_tokens
        return (difference - 1 / (2 * beta)) ** 2, *rewards
    margin = beta * (by_chosen - by_rejected)
    right, swapped = jax.nn.log_sigmoid(margin), jax.nn.log_sigmoid(-margin)
    return -(1 - label_smoothing) * right - label_smoothing * swapped, *rewards


def make_answer_logprobs(
    config: ModelConfig, dtype: jnp.dtype, options: StepOptions
) -> Callable[[Params, Batch], tuple[jax.Array, jax.Array]]:
    """answers(params, batch) -> (sums of log-probabilities, supervised tokens), both [B, P, 2].

    The last axis is (chosen, rejected); both are 0 where there is no pair. The batch is one of
    `critic_jax.data.pair_rows`.
    """
    logprobs = make_logprobs(config, dtype, options)

    def answers(params: Params, batch: Batch) -> tuple[jax.Array, jax.Array]:
        segment, member = batch["segment"], batch["member"]

        def by_answer(values: jax.Array) -> jax.Array:
            """[B, S] -> [B, P, 2]. Not by a matrix product: a TPU would round its factors."""
            sums = jax.vmap(lambda s, v: jnp.zeros(member.shape[-1]).at[s].add(v, mode="drop"))
            return jnp.sum(member * sums(segment, values)[:, None, None], axis=-1)

        return by_answer(logprobs(params, batch)), by_answer(jnp.ones(segment.shape))

    return answers


def make_total(config: ModelConfig, dtype: jnp.dtype, loss: DpoLoss, options: StepOptions) -> Total:
    """The loss and the metrics of rows, summed over their pairs. Metrics are named as TRL does."""
    answers = make_answer_logprobs(config, dtype, options)

    def total(params: Params, batch: Batch) -> tuple[jax.Array, Sums]:
        logprobs, tokens = answers(params, batch)
        there = tokens[..., 0] > 0
        tokens = jnp.maximum(tokens, 1)
        losses, *rewards = dpo_loss(
            *_sides(logprobs),
            *_sides(batch["reference"]),
            beta=loss.beta,
            loss=loss.loss,
            label_smoothing=loss.label_smoothing,
            chosen_tokens=tokens[..., 0],
            rejected_tokens=tokens[..., 1],
        )
        supervised = -logprobs[..., 0] / tokens[..., 0]
        numbers = {
            "rewards/chosen": rewards[0],
            "rewards/rejected": rewards[1],
            "rewards/accuracies": (rewards[0] > rewards[1]).astype(jnp.float32),
            "rewards/margins": rewards[0] - rewards[1],
            "logps/chosen": logprobs[..., 0],
            "logps/rejected": logprobs[..., 1],
            "nll_loss": supervised,
        }
        weighed = loss.alpha * losses
        if loss.gamma:
            weighed += loss.gamma * supervised
        sums = {name: jnp.sum(jnp.where(there, each, 0)) for name, each in numbers.items()}
        return jnp.sum(jnp.where(there, weighed, 0)), jax.lax.stop_gradient(sums)

    return total


def _sides(values: jax.Array) -> tuple[jax.Array, jax.Array]:
    return values[..., 0], values[..., 1]


def make_dpo_step(
    config: ModelConfig,
    dtype: jnp.dtype,
    tx: optax.GradientTransformation,
    loss: DpoLoss,
    options: StepOptions,
) -> Callable[[TrainState, Batch], tuple[TrainState, dict[str, jax.Array]]]:
    """step(state, batch) -> (state, metrics), means over the step's pairs.

    It reuses the old state's memory: drop that one.
    """
    total = make_total(config, dtype, loss, options)
    means = make_means(total, _pairs, config, options.lora, options.accumulate, options.mesh)
    return jitted_step(means, tx)


def make_dpo_measure(
    config: ModelConfig, dtype: jnp.dtype, loss: DpoLoss, options: StepOptions
) -> Callable[[Params, Batch], dict[str, jax.Array]]:
    """measure(params, batch): the loss and the metrics, means over the batch's pairs."""
    total = make_total(config, dtype, loss, options)

    def measure(params: Params, batch: Batch) -> dict[str, jax.Array]:
        value, sums = total(params, batch)
        return {name: each / _pairs(batch) for name, each in {"loss": value, **sums}.items()}

    return measure


def _pairs(batch: Batch) -> jax.Array:
    return batch["records"]


def make_reference(
    config: ModelConfig, dtype: jnp.dtype, options: StepOptions
) -> Callable[[Params, Batch], jax.Array]:
    """reference(params, batch): summed log-probabilities of the answers, [B, P, 2], on all devices.

    The forward pass of a model without adapters; rows go by the same parts as in a step.
    """
    forward = StepOptions(mesh=options.mesh)
    answers = make_answer_logprobs(config, dtype, forward)

    def reference(params: Params, batch: Batch) -> jax.Array:
        if options.accumulate == 1:
            return answers(params, batch)[0]
        parts = split_rows(batch, options.accumulate, options.mesh)
        found = jax.lax.map(lambda part: answers(params, part)[0], parts)
        return join_rows(found, options.mesh)

    whole: Any = options.mesh and NamedSharding(options.mesh, PartitionSpec())
    return jax.jit(reference, out_shardings=whole)
