"""Weights in eight bits: how far products are off, what they save, and the model that they make."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import qwix
from flax import nnx
from sampling_helpers import CONFIG, PROMPTS, STOPS, first
from tiny_critic import random_params, tiny_checkpoint

from critic_jax.judging.critic import Critic
from critic_jax.models.build import Params, abstract, assemble
from critic_jax.models.config import PRESETS
from critic_jax.models.int8 import embed, logits, product, quantize
from critic_jax.models.llava import Llava
from critic_jax.sampling.choose import Sampling
from critic_jax.sampling.engine import Engine
from critic_jax.sampling.weights import Weights, take_apart


def drawn(*shape: int) -> jax.Array:
    return jnp.asarray(np.random.default_rng(shape).normal(size=shape), jnp.float32)


@pytest.mark.parametrize(("inputs", "outputs"), [((48,), (6, 8)), ((6, 8), (40,))])
def test_a_product_is_off_by_half_a_scale_a_weight(
    inputs: tuple[int, ...], outputs: tuple[int, ...]
) -> None:
    x, kernel = drawn(7, *inputs), drawn(*inputs, *outputs) * drawn(*outputs)
    contracted = len(inputs)
    held = quantize(kernel, range(contracted))
    assert held.qvalue.dtype == jnp.int8 and held.scale.size == np.prod(outputs)
    largest = np.abs(kernel).max(axis=tuple(range(contracted)))
    np.testing.assert_allclose(held.scale.reshape(outputs), largest / 127.5, rtol=1e-6)
    exact = np.tensordot(np.float64(x), np.float64(kernel), contracted)
    off = np.abs(np.asarray(product(x, held, contracted)) - exact)
    total = np.abs(x).sum(tuple(range(1, x.ndim))).reshape(-1, *[1] * len(outputs))
    bound = total * largest / 127.5 / 2
    assert np.all(off <= bound + 1e-5)
    assert off.max() > bound.max() / 100  # the bound is not loose for want of rounding


def test_rows_of_a_table_and_logits_are_those_of_the_plain_numbers() -> None:
    table = drawn(50, 24)
    held = quantize(table, (1,))
    plain = qwix.dequantize(held)
    tokens = jnp.asarray([[3, 49], [0, 7]])
    np.testing.assert_allclose(embed(held, tokens, jnp.dtype("float32")), plain[tokens], rtol=1e-6)
    hidden = drawn(5, 24)
    np.testing.assert_allclose(logits(hidden, held), hidden @ plain.T, rtol=1e-4, atol=1e-5)
    assert logits(hidden.astype(jnp.bfloat16), held).dtype == jnp.float32


def in_eight_bits(path: tuple[str, ...]) -> bool:
    return path[-1] in ("kernel", "embedding", "untied_head")


def rounded(params: Params, path: tuple[str, ...] = ()) -> Params:
    """Each weight as eight bits have it, in float32, by axes that are written down here."""
    found: Params = {}
    for name, value in params.items():
        here = (*path, name)
        if isinstance(value, dict):
            found[name] = rounded(value, here)
        elif not in_eight_bits(here):
            found[name] = value
        else:
            # Attention's output takes heads and head dimension in, the other kernels one axis.
            taken = 2 if "o" in here else 1
            stacked = int("layers" in here)
            axes = range(stacked, stacked + taken) if name == "kernel" else (1,)
            found[name] = qwix.dequantize(quantize(jnp.asarray(value), axes))
    return found


@pytest.fixture(scope="module")
def params() -> Params:
    return random_params(CONFIG)


def test_answers_are_those_of_the_rounded_weights(params: Params) -> None:
    sampling = Sampling(max_new_tokens=12)
    ours = first(
        Engine(assemble(CONFIG, params), STOPS, 4, weights="int8").generate(PROMPTS, sampling)
    )
    plain = first(Engine(assemble(CONFIG, rounded(params)), STOPS, 4).generate(PROMPTS, sampling))
    exact = first(Engine(assemble(CONFIG, params), STOPS, 4).generate(PROMPTS, sampling))
    assert sum(len(answer.tokens) for answer in ours) > 20
    for a, b in zip(ours, plain, strict=True):
        assert a.tokens == b.tokens
        np.testing.assert_allclose(a.logprobs, b.logprobs, atol=1e-4)
    assert any(a.logprobs != b.logprobs for a, b in zip(ours, exact, strict=True))


def held_bytes(weights: Weights) -> int:
    return sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(weights))


def test_weights_take_a_quarter_of_the_memory(params: Params) -> None:
    full = held_bytes(take_apart(assemble(CONFIG, params))[1])
    small = held_bytes(take_apart(assemble(CONFIG, params), "int8")[1])
    scales = norms = 0
    for path, value in nnx.to_flat_state(nnx.state(assemble(CONFIG, params), nnx.Param)):
        size = value.get_value().size
        if in_eight_bits(path):
            scales += size // min(64, size)
        else:
            norms += size
    assert full / 4 < small <= full / 4 + 3 * norms + 4 * 2 * scales


def test_7b_takes_a_quarter(params: Params) -> None:
    config = PRESETS["7b"]()
    graph, state = abstract(config)

    def made(state: nnx.State) -> Weights:
        model: Llava = nnx.merge(graph, state)
        return take_apart(model, "int8")[1]

    small = held_bytes(jax.eval_shape(made, state))
    full = sum(x.size * 4 for x in jax.tree.leaves(state))
    assert 0.25 < small / full < 0.2505


def test_a_critic_in_eight_bits_is_another_judge() -> None:
    critic = Critic(tiny_checkpoint(), "t", batch=2, weights="int8")
    assert critic.fingerprint != tiny_checkpoint().fingerprint()
    said = critic.score(None, "Which digit is it?", "It is a 7.")
    assert said.raw and held_bytes(critic.engine.weights) < 0.4 * held_bytes(
        take_apart(assemble(critic.engine.config, tiny_checkpoint().params))[1]
    )
