"""The engine on a tiny model: what it samples, when it stops, and that requests stay apart."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from sampling_helpers import CONFIG, PROMPTS, STOPS, first, text, with_picture
from tiny_critic import random_params

from critic_jax.models.build import abstract, assemble
from critic_jax.models.llava import Llava
from critic_jax.sampling import decode
from critic_jax.sampling.choose import Sampling
from critic_jax.sampling.engine import Engine
from critic_jax.sharding import make_mesh, param_shardings
from critic_jax.tree import Path, pack

SAMPLED = Sampling(max_new_tokens=12, temperature=1.0, top_p=0.95, seed=5)


@pytest.fixture(scope="module")
def model() -> Llava:
    return assemble(CONFIG, random_params(CONFIG))


@pytest.fixture(scope="module")
def engine(model: Llava) -> Engine:
    return Engine(model, STOPS, batch=4)


def test_an_answer_stops_at_a_stop_token_or_at_the_limit(engine: Engine) -> None:
    long = first(engine.generate(PROMPTS, Sampling(max_new_tokens=16)))
    assert {c.finish for c in long} == {"stop", "length"}
    for c in long:
        assert not set(c.tokens) & set(STOPS)
        assert len(c.logprobs) == len(c.tokens)
        assert (len(c.tokens) == 16) == (c.finish == "length")
    limit = 5
    for c, s in zip(long, first(engine.generate(PROMPTS, Sampling(limit))), strict=True):
        assert s.tokens == c.tokens[:limit] and s.logprobs == c.logprobs[:limit]
        assert s.finish == ("stop" if len(c.tokens) < limit else "length")


def test_decoding_compiles_once() -> None:
    """Also where a checkpoint's parameters lie on a mesh of one device, as they are loaded."""
    shardings = param_shardings(abstract(CONFIG)[1], make_mesh(devices=jax.devices()[:1]))
    engine = Engine(assemble(CONFIG, jax.device_put(random_params(CONFIG), shardings)), STOPS, 3)
    compiled = decode.run._cache_size()  # type: ignore[attr-defined]
    for _ in range(2):  # several runs of decoding each, since answers wait for slots
        engine.generate(PROMPTS, Sampling(7))
    assert decode.run._cache_size() == compiled + 1  # type: ignore[attr-defined]


def test_logprobs_equal_a_teacher_forced_forward(engine: Engine, model: Llava) -> None:
    sampling = Sampling(max_new_tokens=12, temperature=1.0, repetition_penalty=1.4, seed=2)
    answers = first(engine.generate(PROMPTS, sampling))
    paths = []
    for p, a in zip(PROMPTS, answers, strict=True):
        whole = np.concatenate([p.tokens, np.asarray(a.tokens, np.int32)])
        paths.append(Path(whole, np.zeros(len(whole), np.float32), p.visuals, p.starts))
    rows = [pack([p], [[0]], 64, 2, (16, 16, 3), 16).arrays() for p in paths]
    batch = {name: jnp.asarray(np.stack([r[name] for r in rows])) for name in rows[0]}
    logits = nnx.jit(lambda m, b: m.logits(m(b)[0]))(model, batch)
    forced = np.asarray(jax.nn.log_softmax(logits))
    assert sum(len(a.tokens) for a in answers) > 20
    for row, (p, a) in enumerate(zip(PROMPTS, answers, strict=True)):
        places = np.arange(len(p) - 1, len(p) - 1 + len(a.tokens))
        np.testing.assert_allclose(a.logprobs, forced[row, places, list(a.tokens)], atol=1e-5)


@pytest.mark.parametrize("sampling", [Sampling(max_new_tokens=12), SAMPLED])
def test_a_request_does_not_depend_on_order_or_neighbours(
    engine: Engine, sampling: Sampling
) -> None:
    answers = first(engine.generate(PROMPTS, sampling))
    tokens = [a.tokens for a in answers]
    assert len(set(tokens)) == len(PROMPTS)
    turned = first(engine.generate(PROMPTS[::-1], sampling))
    assert [a.tokens for a in turned[::-1]] == tokens
    others = [with_picture(11), PROMPTS[0], text(30, 12), PROMPTS[1]]
    mixed = first(engine.generate(others, sampling))
    assert [mixed[1].tokens, mixed[3].tokens] == tokens[:2]
    (alone,) = first(engine.generate(PROMPTS[:1], sampling))
    assert alone.tokens == tokens[0] and alone.finish == answers[0].finish
    np.testing.assert_allclose(alone.logprobs, answers[0].logprobs, atol=1e-5)


def test_samples_differ_and_come_back_by_seed(engine: Engine) -> None:
    def tokens(seed: int) -> list[list[tuple[int, ...]]]:
        sampling = Sampling(max_new_tokens=12, temperature=1.0, seed=seed)
        answers = engine.generate([PROMPTS[1], PROMPTS[1]], sampling, n=2)
        return [[c.tokens for c in each] for each in answers]

    drawn = tokens(1)
    # Equal prompts are two requests: their answers differ too.
    assert len({c for each in drawn for c in each}) == 4
    assert tokens(1) == drawn
    assert not {c for each in tokens(2) for c in each} & {c for each in drawn for c in each}


def test_more_requests_than_slots_are_watched(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    counts: list[int] = []
    monkeypatch.setattr(engine, "watch", counts.append)
    sampling = Sampling(max_new_tokens=6)
    once = first(engine.generate(PROMPTS, sampling))
    assert sum(counts) == 4
    counts.clear()
    many = first(engine.generate([PROMPTS[1], PROMPTS[3]] * 4, sampling))
    assert sum(counts) == 8 and len(counts) > 1
    assert [c.tokens for c in many] == [once[1].tokens, once[3].tokens] * 4
    assert engine.generate([], Sampling()) == []
