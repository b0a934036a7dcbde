"""The supervised step: masked cross-entropy over packed trees."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import jax
import jax.numpy as jnp
import optax
from flax import nnx
from jax.sharding import Mesh

from critic_jax.models.build import Params, abstract
from critic_jax.models.config import ModelConfig
from critic_jax.models.layers import Remat
from critic_jax.models.logprobs import token_logprobs, weighted_logprobs
from critic_jax.models.lora import Lora
from critic_jax.sharding import in_mesh
from critic_jax.training.gradients import Batch, Means, jitted_step, make_means

TrainState = dict[str, Any]  # params, opt_state, step, and where something is frozen, frozen
LossMean = Literal["record", "token"]


@dataclass(frozen=True)
class StepOptions:
    """How a step is computed; none of it but `loss_mean` changes the result, up to rounding.

    `accumulate`: parts that a step's rows are worked on in, one after the other. `lora`: the
    adapters that the parameters have.
    """

    remat: Remat = "none"
    accumulate: int = 1
    loss_mean: LossMean = "record"
    mesh: Mesh | None = None
    lora: Lora | None = None


def make_loss(
    config: ModelConfig, dtype: jnp.dtype, options: StepOptions = StepOptions()
) -> Callable[[Params, Batch], jax.Array]:
    """loss(params, batch): the weighted negative log-likelihood, divided by the batch's records.

    A token of a shared node carries the sum of its paths' weights, which is exact because the loss
    is linear in log-probabilities. `loss_mean` must be what the batch's encoder weighted for: a
    record's weights sum to 1, or each of its tokens weighs 1 and the loss is divided by their sum.
    """
    total = _make_total(config, dtype, options)
    return lambda params, batch: total(params, batch) / _divisor(batch, options)


def _make_total(
    config: ModelConfig, dtype: jnp.dtype, options: StepOptions
) -> Callable[[Params, Batch], jax.Array]:
    """The loss before it is divided."""

    def loss(hidden: jax.Array, head: jax.Array, batch: Batch) -> jax.Array:
        return -weighted_logprobs(hidden, head, batch["targets"], batch["weights"])

    return _of_states(config, dtype, options, loss)


def make_logprobs(
    config: ModelConfig, dtype: jnp.dtype, options: StepOptions
) -> Callable[[Params, Batch], jax.Array]:
    """logprobs(params, batch): of the targets [B, S] in float32, 0 where none is supervised."""

    def logprobs(hidden: jax.Array, head: jax.Array, batch: Batch) -> jax.Array:
        return token_logprobs(hidden, head, batch["targets"], batch["weights"] != 0)

    return _of_states(config, dtype, options, logprobs)


def _of_states(
    config: ModelConfig,
    dtype: jnp.dtype,
    options: StepOptions,
    read: Callable[[jax.Array, jax.Array, Batch], jax.Array],
) -> Callable[[Params, Batch], jax.Array]:
    """What `read` makes of the decoder's last states [B, S, D], its head [V, D] and a batch."""
    graph, state = abstract(config, dtype, options.remat, options.lora)

    def run(params: Params, batch: Batch) -> jax.Array:
        filled = jax.tree.map(lambda v: v, state)
        nnx.replace_by_pure_dict(filled, params)
        model = nnx.merge(graph, filled)
        with in_mesh(options.mesh):
            return read(model(batch)[0], model.decoder.head, batch)

    return run


def _divisor(batch: Batch, options: StepOptions) -> jax.Array:
    return batch["records"] if options.loss_mean == "record" else jnp.sum(batch["weights"])


def make_step(
    config: ModelConfig,
    dtype: jnp.dtype,
    tx: optax.GradientTransformation,
    options: StepOptions = StepOptions(),
) -> Callable[[TrainState, Batch], tuple[TrainState, dict[str, jax.Array]]]:
    """step(state, batch) -> (state, metrics). It reuses the old state's memory: drop that one."""
    return jitted_step(_make_means(config, dtype, options), tx)


class Gradients(Protocol):
    """(what is trained, batch, what is frozen) -> (loss, gradients of what is trained).

    The two are parts of one nested dict. Each gradient is laid out as its parameter.
    """

    def __call__(
        self, params: Params, batch: Batch, frozen: Params | None = ...
    ) -> tuple[jax.Array, Params]: ...


def make_gradients(
    config: ModelConfig, dtype: jnp.dtype, options: StepOptions = StepOptions()
) -> Gradients:
    """The loss and its gradients, of all rows of a batch together or of parts in turn."""
    means = _make_means(config, dtype, options)

    def gradients(
        params: Params, batch: Batch, frozen: Params | None = None
    ) -> tuple[jax.Array, Params]:
        value, _, grads = means(params, batch, frozen)
        return value, grads

    return gradients


def _make_means(config: ModelConfig, dtype: jnp.dtype, options: StepOptions) -> Means:
    total = _make_total(config, dtype, options)
    return make_means(
        lambda params, batch: (total(params, batch), {}),
        lambda batch: _divisor(batch, options),
        config,
        options.lora,
        options.accumulate,
        options.mesh,
    )
