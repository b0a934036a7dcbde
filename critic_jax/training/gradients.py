"""Gradients of a loss that is a sum over a step's rows, of all together or of parts in turn."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh

from critic_jax.models.build import Params, abstract
from critic_jax.models.config import ModelConfig
from critic_jax.models.lora import Lora
from critic_jax.sharding import in_mesh, mesh_size, param_shardings, spread
from critic_jax.training.tuning import joined

Batch = Mapping[str, jax.Array]
Sums = dict[str, jax.Array]

Total = Callable[[Params, Batch], tuple[jax.Array, Sums]]
"""total(params, rows): the loss, and other numbers by name, all summed over the rows."""

Means = Callable[[Params, Batch, Params | None], tuple[jax.Array, Sums, Params]]
"""means(trained, batch, frozen) -> (loss, other numbers, gradients of what is trained).

What is trained and what is frozen are parts of one nested dict. Each gradient is laid out as its
parameter.
"""


def make_means(
    total: Total,
    divisor: Callable[[Batch], jax.Array],
    config: ModelConfig,
    lora: Lora | None,
    accumulate: int,
    mesh: Mesh | None,
) -> Means:
    """Loss, numbers and gradients of `total`, each divided by what `divisor` makes of the batch.

    accumulate: parts that the rows are worked on in, one after the other.
    """
    shardings = mesh and param_shardings(abstract(config, lora=lora)[1], mesh)

    def laid_out(grads: Params) -> Params:
        if not shardings:
            return grads
        return jax.lax.with_sharding_constraint(grads, _same_branches(shardings, grads))

    def means(
        params: Params, batch: Batch, frozen: Params | None
    ) -> tuple[jax.Array, Sums, Params]:
        by = divisor(batch)

        def loss(params: Params, rows: Batch) -> tuple[jax.Array, Sums]:
            value, sums = total(joined(params, frozen or {}), rows)
            return value / by, {name: each / by for name, each in sums.items()}

        def of_rows(rows: Batch) -> tuple[jax.Array, Sums, Params]:
            (value, sums), grads = jax.value_and_grad(loss, has_aux=True)(params, rows)
            return value, sums, laid_out(grads)

        if accumulate == 1:
            return of_rows(batch)
        parts = split_rows(batch, accumulate, mesh)

        def add(so_far: Any, part: Batch) -> tuple[Any, None]:
            return jax.tree.map(jnp.add, so_far, of_rows(part)), None

        first = {name: value[0] for name, value in parts.items()}
        numbers = jax.eval_shape(lambda: loss(params, first)[1])
        zeros = {name: jnp.zeros(each.shape, each.dtype) for name, each in numbers.items()}
        start = (jnp.float32(0), zeros, laid_out(jax.tree.map(jnp.zeros_like, params)))
        found: tuple[jax.Array, Sums, Params] = jax.lax.scan(add, start, parts)[0]
        return found

    return means


def jitted_step(means: Means, tx: optax.GradientTransformation) -> Callable[..., Any]:
    """step(state, batch) -> (state, metrics). It reuses the old state's memory: drop that one."""

    def step(state: dict[str, Any], batch: Batch) -> tuple[dict[str, Any], dict[str, jax.Array]]:
        value, numbers, grads = means(state["params"], batch, state.get("frozen"))
        updates, opt_state = tx.update(grads, state["opt_state"], state["params"])
        params = optax.apply_updates(state["params"], updates)
        metrics = {"loss": value, "grad_norm": optax.tree.norm(grads), **numbers}
        new = {"params": params, "opt_state": opt_state, "step": state["step"] + 1}
        return {**state, **new}, metrics

    return jax.jit(step, donate_argnums=0)


def _same_branches(tree: Params, like: Params) -> Params:
    """A nested dict without the branches that another lacks."""
    return {
        name: _same_branches(tree[name], value) if isinstance(value, dict) else tree[name]
        for name, value in like.items()
    }


def split_rows(batch: Batch, parts: int, mesh: Mesh | None) -> dict[str, jax.Array]:
    """Arrays [B, ...] as [parts, B / parts, ...]; every device keeps the rows that it holds."""
    with in_mesh(mesh):
        devices = mesh_size("data", "fsdp")

        def split(value: jax.Array) -> jax.Array:
            rows = value.reshape(devices, parts, -1, *value.shape[1:]).swapaxes(0, 1)
            rows = rows.reshape(parts, -1, *value.shape[1:])
            return spread(rows, None, "rows", *(None,) * (value.ndim - 1))

        return {name: split(value) for name, value in batch.items() if value.ndim}


def join_rows(parts: jax.Array, mesh: Mesh | None) -> jax.Array:
    """[parts, B / parts, ...] as [B, ...], in the order that `split_rows` found them."""
    with in_mesh(mesh):
        devices = mesh_size("data", "fsdp")
    count, each = parts.shape[:2]
    rows = parts.reshape(count, devices, each // devices, *parts.shape[2:]).swapaxes(0, 1)
    return rows.reshape(count * each, *parts.shape[2:])
