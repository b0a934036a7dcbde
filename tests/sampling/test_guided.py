"""What is asked of answers beyond their tokens: alternatives, stop strings, guides."""

from collections.abc import Sequence

import numpy as np
import pytest
from sampling_helpers import CONFIG, PROMPTS, STOPS, first
from tiny_critic import random_params

from critic_jax.errors import InputError
from critic_jax.models.build import assemble
from critic_jax.sampling.choose import Sampling
from critic_jax.sampling.engine import Engine

LONG = Sampling(max_new_tokens=40, temperature=1.0, seed=2)


def words(ids: list[int]) -> str:
    """Three letters a token."""
    return "".join(f"{i:03d}" for i in ids)


@pytest.fixture(scope="module")
def engine() -> Engine:
    return Engine(assemble(CONFIG, random_params(CONFIG)), STOPS, batch=4, decode=words)


def test_alternatives_are_the_models_own(engine: Engine) -> None:
    ids = tuple(range(500))
    sampling = Sampling(16, 1.0, top_k=5, repetition_penalty=1.5, seed=1, alternatives=ids)
    some = Sampling(16, 1.0, top_k=5, repetition_penalty=1.5, seed=1, alternatives=(7, 450, 3))
    for one, few in zip(
        first(engine.generate(PROMPTS, sampling)),
        first(engine.generate(PROMPTS, some)),
        strict=True,
    ):
        steps = len(one.tokens) + (one.finish == "stop")
        assert one.alternatives.shape == (steps, 500) and few.alternatives.shape == (steps, 3)
        np.testing.assert_allclose(np.exp(one.alternatives).sum(-1), 1, atol=1e-4)
        said = one.alternatives[np.arange(len(one.tokens)), list(one.tokens)]
        np.testing.assert_allclose(one.logprobs, said, atol=1e-6)
        np.testing.assert_allclose(few.alternatives, one.alternatives[:, [7, 450, 3]], atol=1e-6)
    with pytest.raises(InputError, match="token ids must be below 500"):
        engine.generate(PROMPTS, Sampling(alternatives=(500,)))


def test_an_answer_ends_where_a_stop_string_begins(engine: Engine) -> None:
    plain = first(engine.generate(PROMPTS, LONG))
    longest = max(plain, key=lambda a: len(a.tokens))
    assert len(longest.tokens) > 3
    # From the middle of the third token to the middle of the fourth.
    stop = words(list(longest.tokens))[7:10]
    sampling = Sampling(40, 1.0, seed=2, stop=("never", stop), alternatives=(1, 2))
    for one, whole in zip(first(engine.generate(PROMPTS, sampling)), plain, strict=True):
        at = words(list(whole.tokens)).find(stop)
        kept = len(whole.tokens) if at < 0 else at // 3
        assert one.tokens == whole.tokens[:kept]
        assert one.logprobs == whole.logprobs[:kept]
        assert one.finish == ("stop" if at >= 0 else whole.finish)
        assert len(one.alternatives) == kept + (one.finish == "stop")
    with pytest.raises(InputError, match=r"^stop: an engine without"):
        Engine(assemble(CONFIG, random_params(CONFIG)), STOPS).generate(PROMPTS, sampling)


class Alternating:
    """Even and odd ids in turn, then a stop id."""

    def __init__(self, length: int) -> None:
        self.length = length
        self.asked: list[tuple[int, ...]] = []

    def allowed(self, tokens: Sequence[int]) -> np.ndarray | None:
        self.asked.append(tuple(tokens))
        if len(tokens) == self.length:
            return np.array([STOPS[3]])
        return np.arange(50 + len(tokens) % 2, 500, 2)


def test_a_guide_says_what_may_come_next(engine: Engine) -> None:
    free = first(engine.generate(PROMPTS, LONG))
    guides = [Alternating(6), None, Alternating(3), None]
    answers = first(engine.generate(PROMPTS, LONG, guides=guides))
    for one, guide, plain in zip(answers, guides, free, strict=True):
        if guide is None:
            assert one.tokens == plain.tokens
            continue
        assert one.finish == "stop" and len(one.tokens) == guide.length
        assert [t % 2 for t in one.tokens] == [n % 2 for n in range(guide.length)]
        assert guide.asked == [one.tokens[:n] for n in range(guide.length + 1)]
    # A guide binds the choice, and leaves the log-probabilities the model's.
    assert all(logprob < 0 for one in answers for logprob in one.logprobs)
