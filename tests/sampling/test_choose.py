"""The choice of a token against the exact distribution, and against transformers' penalty."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from scipy.stats import chisquare
from transformers import RepetitionPenaltyLogitsProcessor

from critic_jax.errors import InputError
from critic_jax.sampling.choose import Sampling, choose, dynamic

DRAWS = 20_000
LOGITS = np.array([2.0, -1.0, 0.5, 3.0, 1.5, -2.0, 0.0, 2.5, -0.5, 1.0], np.float32)
SEEN = np.isin(np.arange(10), [3, 5, 9])
KEYS = jax.random.split(jax.random.key(7), DRAWS)
CHOOSE = jax.jit(choose)


def draw(sampling: Sampling) -> tuple[np.ndarray, np.ndarray]:
    """Tokens and log-probabilities of `DRAWS` rows with the same logits."""
    rows = (np.tile(LOGITS, (DRAWS, 1)), np.tile(SEEN, (DRAWS, 1)))
    found = CHOOSE(*rows, KEYS, dynamic([sampling] * DRAWS))
    return np.asarray(found.token), np.asarray(found.logprob)


def softmax(logits: np.ndarray) -> np.ndarray:
    exps = np.exp(logits.astype(np.float64))
    return exps / exps.sum()


def expected(sampling: Sampling) -> np.ndarray:
    """The distribution worked out token by token from its definition."""
    logits = LOGITS.astype(np.float64)
    for t in np.flatnonzero(SEEN):
        factor = sampling.repetition_penalty
        logits[t] = logits[t] / factor if logits[t] > 0 else logits[t] * factor
    p = softmax(logits / sampling.temperature)
    order = sorted(range(len(p)), key=lambda t: -p[t])
    kept = order[: sampling.top_k] if sampling.top_k else order
    nucleus, mass, total = [], 0.0, sum(p[t] for t in kept)
    for t in kept:
        nucleus.append(t)
        mass += p[t] / total
        if mass >= sampling.top_p:
            break
    cut = np.zeros_like(p)
    cut[nucleus] = p[nucleus]
    return cut / cut.sum()


@pytest.mark.parametrize(
    ("settings", "support"),
    [
        ({"temperature": 1.0}, 10),
        ({"temperature": 0.6}, 10),
        ({"temperature": 2.0, "top_k": 4}, 4),
        ({"temperature": 1.0, "top_p": 0.7}, 3),
        ({"temperature": 1.0, "top_p": 0.01}, 1),
        ({"temperature": 1.3, "top_k": 6, "top_p": 0.8}, 4),
        ({"temperature": 1.0, "repetition_penalty": 1.8}, 10),
        ({"temperature": 0.9, "top_p": 0.9, "repetition_penalty": 1.3}, 5),
    ],
)
def test_frequencies_are_those_of_the_exact_distribution(settings: dict, support: int) -> None:
    sampling = Sampling(**settings)
    p = expected(sampling)
    assert np.count_nonzero(p) == support
    counts = np.bincount(draw(sampling)[0], minlength=len(p))
    assert counts[p == 0].sum() == 0
    inside = p > 0
    if support > 1:
        assert chisquare(counts[inside], p[inside] * DRAWS).pvalue > 0.001


def test_greedy_takes_the_likeliest() -> None:
    assert set(draw(Sampling())[0]) == {3}
    assert set(draw(Sampling(repetition_penalty=2.0))[0]) == {7}  # 3 / 2 is behind 2.5


@pytest.mark.parametrize("settings", [{}, {"temperature": 0.5, "top_k": 3}])
def test_logprobs_are_the_models_own(settings: dict) -> None:
    token, logprob = draw(Sampling(repetition_penalty=1.5, **settings))
    np.testing.assert_allclose(logprob, np.log(softmax(LOGITS))[token], atol=1e-6)


@pytest.mark.parametrize("penalty", [1.05, 1.3, 0.8])
def test_the_penalty_is_that_of_transformers(penalty: float) -> None:
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 1, (DRAWS, 10)).astype(np.float32)
    generated = rng.integers(0, 10, (DRAWS, 4))
    seen = np.zeros((DRAWS, 10), bool)
    np.put_along_axis(seen, generated, True, axis=1)
    sampling = Sampling(repetition_penalty=penalty)
    token = np.asarray(CHOOSE(logits, seen, KEYS, dynamic([sampling] * DRAWS)).token)
    processor = RepetitionPenaltyLogitsProcessor(penalty)
    theirs = processor(torch.from_numpy(generated), torch.from_numpy(logits.copy())).argmax(-1)
    np.testing.assert_array_equal(token, theirs.numpy())
    assert np.count_nonzero(token != logits.argmax(-1)) > 100


def test_a_row_draws_by_its_own_key() -> None:
    settings = dynamic([Sampling(temperature=1.0)] * DRAWS)
    rows = (jnp.tile(LOGITS, (DRAWS, 1)), jnp.zeros((DRAWS, 10), bool))
    forward = np.asarray(CHOOSE(*rows, KEYS, settings).token)
    backward = np.asarray(CHOOSE(*rows, KEYS[::-1], settings).token)
    np.testing.assert_array_equal(forward, backward[::-1])
    assert len(set(forward)) == 10


def test_each_row_is_drawn_by_settings_of_its_own() -> None:
    kinds = [
        Sampling(),
        Sampling(temperature=0.6),
        Sampling(temperature=2.0, top_k=4),
        Sampling(temperature=1.0, top_p=0.7, alternatives=(3, 1, 2)),
        Sampling(temperature=1.0, top_k=6, top_p=0.9, repetition_penalty=1.3, likeliest=2),
        Sampling(repetition_penalty=1.5, alternatives=(4,)),
    ]
    rows = (np.tile(np.repeat(LOGITS, 3), (DRAWS, 1)), np.tile(np.repeat(SEEN, 3), (DRAWS, 1)))
    mixed = CHOOSE(*rows, KEYS, dynamic([kinds[n % len(kinds)] for n in range(DRAWS)]))
    for n, kind in enumerate(kinds):
        alone = CHOOSE(*rows, KEYS, dynamic([kind] * DRAWS))
        np.testing.assert_array_equal(mixed.token[n :: len(kinds)], alone.token[n :: len(kinds)])
        asked = len(kind.alternatives)
        np.testing.assert_array_equal(
            mixed.alternatives[n :: len(kinds), :asked], alone.alternatives[n :: len(kinds), :asked]
        )
    logp = np.log(softmax(np.repeat(LOGITS, 3)))
    np.testing.assert_array_equal(
        mixed.likeliest[:, :6], np.tile([9, 10, 11, 21, 22, 23], (DRAWS, 1))
    )
    np.testing.assert_allclose(mixed.of_likeliest[0], np.sort(logp)[::-1][:20], atol=1e-6)


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("max_new_tokens", 0),
        ("temperature", -0.1),
        ("temperature", float("nan")),
        ("top_p", 0.0),
        ("top_p", 1.01),
        ("top_k", -1),
        ("repetition_penalty", 0.0),
        ("seed", -1),
        ("seed", 2**32),
        ("likeliest", 21),
    ],
)
def test_a_wrong_setting_is_named(setting: str, value: float) -> None:
    with pytest.raises(InputError, match=rf"^{setting} is {value}; it must be "):
        Sampling(**{setting: value})
