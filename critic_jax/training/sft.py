"""The supervised step: masked cross-entropy over packed trees."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import nnx

from critic_jax.models.build import Params, abstract
from critic_jax.models.config import ModelConfig
from critic_jax.models.logprobs import token_logprobs

TrainState = dict[str, Any]  # params, opt_state, step


def make_loss(
    config: ModelConfig, dtype: jnp.dtype
) -> Callable[[Params, Mapping[str, jax.Array]], jax.Array]:
    """loss(params, batch): the weighted negative log-likelihood, divided by the batch's records.

    A token of a shared node carries the sum of its paths' weights, which is exact because the loss
    is linear in log-probabilities.
    """
    graph, state = abstract(config, dtype)

    def loss(params: Params, batch: Mapping[str, jax.Array]) -> jax.Array:
        filled = jax.tree.map(lambda v: v, state)
        nnx.replace_by_pure_dict(filled, params)
        model = nnx.merge(graph, filled)
        hidden, _ = model(batch)
        logprobs = token_logprobs(hidden, model.decoder.head, batch["targets"])
        return -jnp.sum(batch["weights"] * logprobs) / batch["records"]

    return loss


def make_step(
    config: ModelConfig, dtype: jnp.dtype, tx: optax.GradientTransformation
) -> Callable[[TrainState, Mapping[str, jax.Array]], tuple[TrainState, dict[str, jax.Array]]]:
    """step(state, batch) -> (state, metrics). It reuses the old state's memory: drop that one."""
    loss = make_loss(config, dtype)

    def step(
        state: TrainState, batch: Mapping[str, jax.Array]
    ) -> tuple[TrainState, dict[str, jax.Array]]:
        value, grads = jax.value_and_grad(loss)(state["params"], batch)
        updates, opt_state = tx.update(grads, state["opt_state"], state["params"])
        params = optax.apply_updates(state["params"], updates)
        metrics = {"loss": value, "grad_norm": optax.tree.norm(grads)}
        return {"params": params, "opt_state": opt_state, "step": state["step"] + 1}, metrics

    return jax.jit(step, donate_argnums=0)
