"""In bfloat16 a request's log-probabilities hardly depend on its neighbours or their order."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sampling_helpers import CONFIG, PROMPTS, STOPS, first, text
from tiny_critic import random_params

from critic_jax.models.build import assemble
from critic_jax.sampling.choose import Sampling
from critic_jax.sampling.completion import Completion
from critic_jax.sampling.engine import Engine
from critic_jax.tree import Path

NEW = 12


@pytest.fixture(scope="module")
def engine() -> Engine:
    dtype = jnp.dtype(jnp.bfloat16)
    params = jax.tree.map(lambda p: jnp.asarray(p, dtype), random_params(CONFIG))
    return Engine(assemble(CONFIG, params, dtype), STOPS[:5], batch=4)


def compared(ones: list[Completion], others: list[Completion]) -> int:
    """How many steps agree within 2e-2: all up to where the likeliest token became another, that
    step included, since both were the likeliest then."""
    steps = 0
    for a, b in zip(ones, others, strict=True):
        pairs = list(zip(a.tokens, b.tokens, strict=False))
        same = next((n + 1 for n, (x, y) in enumerate(pairs) if x != y), len(pairs))
        np.testing.assert_allclose(a.logprobs[:same], b.logprobs[:same], atol=2e-2, rtol=0)
        steps += same
    return steps


def test_neighbours_and_order(engine: Engine) -> None:
    asked = [*PROMPTS, text(27, 9)]
    sampling = Sampling(NEW)
    alone = [first(engine.generate([one], sampling))[0] for one in asked]
    steps = sum(len(answer.tokens) for answer in alone)
    assert steps > 30
    together = first(engine.generate(asked, sampling))
    assert compared(alone, together) >= 0.9 * steps
    order = np.random.default_rng(3).permutation(len(asked))
    mixed = first(engine.generate([asked[i] for i in order], sampling))
    assert compared([alone[i] for i in order], mixed) >= 0.9 * steps


def test_branches_of_a_trunk(engine: Engine) -> None:
    trunk = text(60, 20)
    asked = []
    for n in range(5):
        tokens = np.concatenate([trunk.tokens, text(8 + n, 30 + n).tokens])
        asked.append(Path(tokens, np.zeros(len(tokens), np.float32)))
    sampling = Sampling(NEW)
    alone = [first(engine.generate([one], sampling))[0] for one in asked]
    steps = sum(len(answer.tokens) for answer in alone)
    assert steps > 20
    assert compared(alone, first(engine.generate(asked, sampling))) >= 0.9 * steps
    assert compared(alone[::-1], first(engine.generate(asked[::-1], sampling))) >= 0.9 * steps
