"""AdamW with warm-up and cosine decay, as LLaVA-OneVision's recipe has it."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import optax

from critic_jax.training.config import TrainConfig
from critic_jax.training.tuning import Tuning, tuning_of


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
    """Gradient clipping by global norm, then AdamW (decoupled weight decay), each part at its rate.

    It is for the tree of what is trained: what is frozen has no moments.
    """
    adam = optax.scale_by_adam(b1=0.9, b2=config.beta2, eps=1e-8)
    return optax.chain(
        optax.clip_by_global_norm(config.clip_norm),
        adam if config.moments == "float32" else in_bfloat16(adam),
        optax.add_decayed_weights(config.weight_decay, decayed),
        optax.scale_by_learning_rate(schedule(config, steps)),
        _by_part(tuning_of(config)),
    )


def _by_part(tuning: Tuning) -> optax.GradientTransformation:
    """Multiplies every update by its part's rate: its learning rate, and with it its decay."""

    def scaled(updates: Any, _: Any) -> Any:
        def of(path: tuple[Any, ...], update: jax.Array) -> jax.Array:
            rate = tuning.rate(tuple(key.key for key in path))
            return update if rate == 1 else rate * update

        return jax.tree_util.tree_map_with_path(of, updates)

    return optax.stateless(scaled)


def in_bfloat16(adam: optax.GradientTransformation) -> optax.GradientTransformation:
    """Adam that holds its moments in bfloat16, and works them out in float32.

    The second moment changes by a thousandth a step, of which rounding to the nearest of 8 bits
    would leave nothing: it is rounded up or down by chance, so that it is right on average. Chance
    is a pure function of the step and the place.
    """

    def init(params: Any) -> optax.ScaleByAdamState:
        state = adam.init(params)
        return state._replace(mu=_cast(state.mu, jnp.bfloat16), nu=_cast(state.nu, jnp.bfloat16))

    def update(
        grads: Any, state: optax.ScaleByAdamState, params: Any = None
    ) -> tuple[Any, optax.ScaleByAdamState]:
        wide = state._replace(mu=_cast(state.mu, jnp.float32), nu=_cast(state.nu, jnp.float32))
        updates, new = adam.update(grads, wide, params)
        leaves, structure = jax.tree.flatten(new.nu)
        nu = [by_chance(leaf, _mixed(new.count, n)) for n, leaf in enumerate(leaves)]
        mu = _cast(new.mu, jnp.bfloat16)
        return updates, new._replace(mu=mu, nu=jax.tree.unflatten(structure, nu))

    return optax.GradientTransformation(init, update)


def _cast(tree: Any, dtype: Any) -> Any:
    return jax.tree.map(lambda v: v.astype(dtype), tree)


def by_chance(values: jax.Array, seed: jax.Array) -> jax.Array:
    """float32 as one of its two neighbours in bfloat16, the nearer one the likelier: unbiased.

    Drawn by a hash of place and seed, uint32. jax.random's generator, with its twenty rounds for
    every parameter, makes a step compile several times as long.
    """
    place = jnp.zeros(values.shape, jnp.uint32)
    for axis, size in enumerate(values.shape):
        place = place * jnp.uint32(size) + jax.lax.broadcasted_iota(jnp.uint32, values.shape, axis)
    bits = jax.lax.bitcast_convert_type(values, jnp.uint32) + (_mixed(place, seed) >> 16)
    return jax.lax.bitcast_convert_type((bits >> 16).astype(jnp.uint16), jnp.bfloat16)


def _mixed(number: jax.Array, seed: jax.Array | int) -> jax.Array:
    """uint32 of two numbers, all bits of it moved by any bit of theirs (murmur3's finish)."""
    h = jnp.asarray(number, jnp.uint32) + jnp.asarray(seed, jnp.uint32) * jnp.uint32(0x9E3779B9)
    for shift, factor in ((16, 0x85EBCA6B), (13, 0xC2B2AE35)):
        h = (h ^ (h >> shift)) * jnp.uint32(factor)
    return h ^ (h >> 16)
