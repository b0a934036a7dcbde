"""The supervised step: masked cross-entropy over packed trees."""

from __future__ import annotations

from collections.abc import Callable, Mapping
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
from critic_jax.models.logprobs import weighted_logprobs
from critic_jax.models.lora import Lora
from critic_jax.sharding import in_mesh, mesh_size, param_shardings, spread
from critic_jax.training.tuning import joined

TrainState = dict[str, Any]  # params, opt_state, step, and where something is frozen, frozen
Batch = Mapping[str, jax.Array]
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
    graph, state = abstract(config, dtype, options.remat, options.lora)

    def total(params: Params, batch: Batch) -> jax.Array:
        filled = jax.tree.map(lambda v: v, state)
        nnx.replace_by_pure_dict(filled, params)
        model = nnx.merge(graph, filled)
        targets, weights = batch["targets"], batch["weights"]
        with in_mesh(options.mesh):
            hidden, _ = model(batch)
            return -weighted_logprobs(hidden, model.decoder.head, targets, weights)

    return total


def _divisor(batch: Batch, options: StepOptions) -> jax.Array:
    return batch["records"] if options.loss_mean == "record" else jnp.sum(batch["weights"])


def make_step(
    config: ModelConfig,
    dtype: jnp.dtype,
    tx: optax.GradientTransformation,
    options: StepOptions = StepOptions(),
) -> Callable[[TrainState, Batch], tuple[TrainState, dict[str, jax.Array]]]:
    """step(state, batch) -> (state, metrics). It reuses the old state's memory: drop that one."""
    gradients = make_gradients(config, dtype, options)

    def step(state: TrainState, batch: Batch) -> tuple[TrainState, dict[str, jax.Array]]:
        value, grads = gradients(state["params"], batch, state.get("frozen"))
        updates, opt_state = tx.update(grads, state["opt_state"], state["params"])
        params = optax.apply_updates(state["params"], updates)
        metrics = {"loss": value, "grad_norm": optax.tree.norm(grads)}
        new = {"params": params, "opt_state": opt_state, "step": state["step"] + 1}
        return {**state, **new}, metrics

    return jax.jit(step, donate_argnums=0)


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
    total = _make_total(config, dtype, options)
    state = abstract(config, lora=options.lora)[1]
    shardings = options.mesh and param_shardings(state, options.mesh)

    def laid_out(grads: Params) -> Params:
        if not shardings:
            return grads
        return jax.lax.with_sharding_constraint(grads, _same_branches(shardings, grads))

    def gradients(
        params: Params, batch: Batch, frozen: Params | None = None
    ) -> tuple[jax.Array, Params]:
        divisor = _divisor(batch, options)

        def loss(params: Params, rows: Batch) -> jax.Array:
            return total(joined(params, frozen or {}), rows) / divisor

        def of_rows(rows: Batch) -> tuple[jax.Array, Params]:
            value, grads = jax.value_and_grad(loss)(params, rows)
            return value, laid_out(grads)

        if options.accumulate == 1:
            return of_rows(batch)
        with in_mesh(options.mesh):
            parts = _parts(batch, options.accumulate)

        def add(so_far: Any, part: Batch) -> tuple[Any, None]:
            return jax.tree.map(jnp.add, so_far, of_rows(part)), None

        start = (jnp.float32(0), laid_out(jax.tree.map(jnp.zeros_like, params)))
        return jax.lax.scan(add, start, parts)[0]

    return gradients


def _same_branches(tree: Params, like: Params) -> Params:
    """A nested dict without the branches that another lacks."""
    return {
        name: _same_branches(tree[name], value) if isinstance(value, dict) else tree[name]
        for name, value in like.items()
    }


def _parts(batch: Batch, parts: int) -> Batch:
    """Arrays [B, ...] as [parts, B / parts, ...]; every device keeps the rows that it holds."""
    devices = mesh_size("data", "fsdp")

    def split(value: jax.Array) -> jax.Array:
        rows = value.reshape(devices, parts, -1, *value.shape[1:]).swapaxes(0, 1)
        rows = rows.reshape(parts, -1, *value.shape[1:])
        return spread(rows, None, "rows", *(None,) * (value.ndim - 1))

    return {name: split(value) for name, value in batch.items() if value.ndim}
