"""AdamW step by step, against the formulas in numpy."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from critic_jax.errors import InputError
from critic_jax.training.config import TrainConfig
from critic_jax.training.optimizer import by_chance, optimizer, schedule
from critic_jax.training.tuning import tuning_of

STEPS = 20
SHAPES = {
    ("tower", "patch", "kernel"): (3, 5),
    ("tower", "patch", "bias"): (5,),
    ("newline",): (4,),
    ("decoder", "norm", "scale"): (4,),
    ("decoder", "embedding"): (6, 4),
}
RATES = {"tower": 0.2, "newline": 3.0, "decoder": 1.0}


def make(**fields: object) -> TrainConfig:
    values: dict = {"learning_rate": 1e-2, "weight_decay": 0.1, "clip_norm": 0.7, "beta2": 0.95}
    return TrainConfig(init="", data="", output="", **values | fields)


def nested(flat: dict) -> dict:
    tree: dict = {}
    for (*parents, last), value in flat.items():
        here = tree
        for name in parents:
            here = here.setdefault(name, {})
        here[last] = value
    return tree


def drawn(seed: int) -> dict:
    rng = np.random.default_rng(seed)
    return {path: rng.normal(size=shape).astype(np.float32) for path, shape in SHAPES.items()}


def by_hand(config: TrainConfig, params: dict, steps: int) -> dict:
    """Loshchilov and Hutter 2019 (arXiv 1711.05101), algorithm 2, in float64."""
    params = {path: value.astype(np.float64) for path, value in params.items()}
    m = {path: np.zeros_like(value) for path, value in params.items()}
    v = {path: np.zeros_like(value) for path, value in params.items()}
    for t in range(1, steps + 1):
        grads = {path: value.astype(np.float64) for path, value in drawn(t).items()}
        norm = np.sqrt(sum((g**2).sum() for g in grads.values()))
        rate = float(schedule(config, STEPS)(t - 1))
        for path, grad in grads.items():
            g = grad * min(1, config.clip_norm / norm)
            m[path] = 0.9 * m[path] + 0.1 * g
            v[path] = config.beta2 * v[path] + (1 - config.beta2) * g**2
            step = m[path] / (1 - 0.9**t) / (np.sqrt(v[path] / (1 - config.beta2**t)) + 1e-8)
            if path[-1] not in ("bias", "scale"):
                step += config.weight_decay * params[path]
            params[path] -= rate * RATES[path[0]] * step
    return params


def steps(config: TrainConfig, count: int) -> tuple[dict, optax.OptState]:
    tx = optimizer(config, STEPS)
    params = jax.tree.map(jnp.asarray, nested(drawn(0)))
    state = tx.init(params)
    update = jax.jit(tx.update)
    for t in range(1, count + 1):
        updates, state = update(nested(drawn(t)), state, params)
        params = optax.apply_updates(params, updates)
    return params, state


def test_each_part_moves_as_the_formulas_say() -> None:
    config = make(tower_rate=0.2, projector_rate=3.0)
    found, _ = steps(config, 12)
    expected = by_hand(config, drawn(0), 12)
    start = drawn(0)
    for path, value in expected.items():
        leaf = found
        for name in path:
            leaf = leaf[name]
        moved = np.abs(value - start[path]).max()
        assert moved > 1e-3
        np.testing.assert_allclose(leaf, value, atol=2e-5 * moved, rtol=1e-6)


def test_a_rate_of_one_is_that_of_all() -> None:
    one, _ = steps(make(), 3)
    same, _ = steps(make(tower_rate=1.0, projector_rate=1.0, decoder_rate=1.0), 3)
    assert all(jax.tree.leaves(jax.tree.map(np.array_equal, one, same)))


def test_moments_in_bfloat16_stay_close_to_those_in_float32() -> None:
    exact, _ = steps(make(), 12)
    close, state = steps(make(moments="bfloat16"), 12)
    (adam,) = (s for s in state if isinstance(s, optax.ScaleByAdamState))
    assert {leaf.dtype for leaf in jax.tree.leaves((adam.mu, adam.nu))} == {jnp.dtype("bfloat16")}
    start = nested(drawn(0))
    for a, b, s in zip(*map(jax.tree.leaves, (exact, close, start)), strict=True):
        assert 0 < np.abs(a - b).max() < 0.02 * np.abs(a - s).max()
    again, _ = steps(make(moments="bfloat16"), 12)
    assert all(jax.tree.leaves(jax.tree.map(np.array_equal, close, again)))


def test_rounding_by_chance_is_right_on_average() -> None:
    values = jnp.asarray([1.0, 1.001, 3e-12, 0.0, 7.77], jnp.float32)
    many = jnp.broadcast_to(values, (20_000, 5))
    rounded = by_chance(many, jnp.uint32(7)).astype(jnp.float32)
    for column, value in zip(np.asarray(rounded, np.float64).T, np.asarray(values), strict=True):
        near = {float(np.float32(x)) for x in column}
        assert len(near) <= 2
        spread = max(near) - min(near)
        assert abs(column.mean() - value) <= 0.02 * spread
    # A thousandth less a step: to the nearest of 8 bits, the value would never move.
    value = jnp.ones(4000, jnp.bfloat16)
    for step in range(500):
        value = by_chance(value.astype(jnp.float32) * 0.999, jnp.uint32(step))
    assert float(value.astype(jnp.float32).mean()) == pytest.approx(0.999**500, rel=0.02)


def test_rates_that_make_no_sense_are_named() -> None:
    for fields, said in (
        ({"tower_rate": -1.0}, "tower_rate -1.0: it should be 0"),
        ({n + "_rate": 0.0 for n in ("tower", "projector", "decoder")}, "nothing to train"),
        ({"adapters": "lora", "lora_rank": 0}, "lora_rank 0: it should be 1 or more"),
        ({"adapters": "lora", "lora_alpha": 0.0}, "lora_alpha 0.0: it should be above 0"),
        ({"adapters": "lora", "lora_layers": ("decoder.z",)}, "lora_layers 'decoder.z' fits none"),
        ({"adapters": "lora", "lora_layers": ()}, "lora_layers '' fits none of decoder.q, "),
    ):
        with pytest.raises(InputError, match=said):
            tuning_of(make(**fields))
