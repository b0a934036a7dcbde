"""Prompts that share a trunk: the same answers as apart, and the memory of one trunk."""

from itertools import permutations

import numpy as np
import pytest
from PIL import Image
from sampling_helpers import CONFIG, PROMPTS, STOPS, first, text
from scipy.stats import chisquare
from tiny_critic import GEOMETRY, random_params

from critic_jax.errors import InputError
from critic_jax.imaging import picture
from critic_jax.models.build import assemble
from critic_jax.models.llava import Llava
from critic_jax.sampling import run as running
from critic_jax.sampling.choose import Sampling
from critic_jax.sampling.engine import Engine
from critic_jax.sampling.trees import trunks
from critic_jax.tree import Path, build, size, token_keys

NEW = 12


@pytest.fixture(scope="module")
def model() -> Llava:
    return assemble(CONFIG, random_params(CONFIG))


def pairs(before: int = 30, answers: int = 5, tail: int = 15) -> list[Path]:
    """All ordered pairs of answers about one picture."""
    pixels = np.random.default_rng(0).integers(0, 256, (20, 20, 3), dtype=np.uint8)
    visual = picture(Image.fromarray(pixels), GEOMETRY)
    places = np.full(len(visual.tap_index), 499, np.int32)
    start = [text(4, 1).tokens, places, text(before, 2).tokens]
    said = [text(10 + n, 20 + n).tokens for n in range(answers)]
    found = []
    for i, j in permutations(range(answers), 2):
        tokens = np.concatenate([*start, said[i], said[j], text(tail, 3).tokens])
        found.append(Path(tokens, np.zeros(len(tokens), np.float32), (visual,), (4,)))
    return found


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_a_tree_of_pairs_answers_as_each_pair_alone(model: Llava, temperature: float) -> None:
    engine = Engine(model, STOPS, batch=8)
    asked = pairs()
    assert len(asked) == 20 and len(trunks(asked, 16_384)) == 1
    sampling = Sampling(NEW, temperature, seed=3)
    together = first(engine.generate(asked, sampling))
    apart = [first(engine.generate([one], sampling))[0] for one in asked]
    assert [a.tokens for a in together] == [a.tokens for a in apart]
    assert len({a.tokens for a in together}) > 10
    for a, b in zip(together, apart, strict=True):
        assert a.finish == b.finish
        np.testing.assert_allclose(a.logprobs, b.logprobs, atol=1e-5)


def test_neighbours_and_order_change_nothing(model: Llava) -> None:
    """Trunks, text and pictures mixed, more answers than slots: tokens to the bit."""
    engine = Engine(model, STOPS, batch=3)
    sampling = Sampling(NEW, 1.0, top_p=0.95, repetition_penalty=1.2, seed=4)
    asked = [*pairs()[:6], *PROMPTS, text(40, 9)]
    once = first(engine.generate(asked, sampling))
    order = np.random.default_rng(1).permutation(len(asked))
    mixed = first(engine.generate([asked[i] for i in order], sampling))
    for place, i in enumerate(order):
        assert mixed[place].tokens == once[i].tokens
        np.testing.assert_allclose(mixed[place].logprobs, once[i].logprobs, atol=1e-5)
    few = first(engine.generate(asked[3:8], sampling))
    assert [a.tokens for a in few] == [a.tokens for a in once[3:8]]


def test_a_path_that_ends_within_another_and_equal_ones(model: Llava) -> None:
    long = text(60, 5)
    short = Path(long.tokens[:45], long.weights[:45])
    asked = [long, short, long, short]
    assert len(trunks(asked, 16_384)) == 1
    engine = Engine(model, STOPS, batch=4)
    sampling = Sampling(NEW)
    answers = first(engine.generate(asked, sampling))
    for one, prompt in zip(answers, asked, strict=True):
        (alone,) = first(engine.generate([prompt], sampling))
        assert one.tokens == alone.tokens
        np.testing.assert_allclose(one.logprobs, alone.logprobs, atol=1e-5)
    assert answers[0] == answers[2] and answers[1] == answers[3] != answers[0]


def test_a_picture_is_read_once(model: Llava, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = []

    def watched(
        graphs: object, weights: object, pool: object, row: object, *place: object
    ) -> object:
        rows.append(row)
        return prefill(graphs, weights, pool, row, *place)

    prefill = running.prefill
    monkeypatch.setattr(running, "prefill", watched)
    asked = pairs()
    Engine(model, STOPS, batch=8).generate(asked, Sampling(2), n=2)
    (row,) = rows
    assert len(row.tiles) == len(asked[0].visuals[0].tiles)
    assert row.length == size(build(token_keys(asked), range(20))) < 0.4 * sum(map(len, asked))


def test_twenty_branches_take_the_memory_of_one_trunk(model: Llava) -> None:
    asked = pairs(before=2929 - 36)
    least = size(build(token_keys(asked), range(20))) + 20 * NEW
    bytes_each = Engine(model, STOPS).place_bytes()
    decoder = CONFIG.decoder
    assert bytes_each == 2 * 4 * decoder.num_layers * decoder.num_kv_heads * decoder.head_dim
    engine = Engine(model, STOPS, batch=20, memory=int(1.25 * least * bytes_each))
    assert engine.cache_bytes() == 0
    answers = first(engine.generate(asked, Sampling(NEW)))
    assert len(answers) == 20
    held = engine.cache_bytes()
    assert least * bytes_each < held <= 1.25 * least * bytes_each
    assert held < 0.1 * bytes_each * sum(len(p) + NEW for p in asked)


def test_memory_says_what_is_admitted(model: Llava) -> None:
    sampling = Sampling(NEW, 1.0, seed=9)
    asked = [*pairs(), *PROMPTS]
    roomy = first(Engine(model, STOPS, batch=8).generate(asked, sampling))
    each = Engine(model, STOPS).place_bytes()
    tight = Engine(model, STOPS, batch=8, memory=416 * each)
    assert [a.tokens for a in first(tight.generate(asked, sampling))] == [a.tokens for a in roomy]
    assert tight.cache_bytes() <= 416 * each
    with pytest.raises(InputError, match=r"prompt 1 has 500 tokens; a memory of \d+ bytes holds"):
        tight.generate([PROMPTS[0], text(500, 1)], sampling)
    # Whoever heeds the message is served.
    roomier = Engine(model, STOPS, batch=8, memory=(500 + 8 * 32) * each)
    assert len(roomier.generate([text(500, 1)], sampling)) == 1


@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_draws_follow_the_distribution(model: Llava, temperature: float) -> None:
    """20,000 answers of one token to a prompt that is read once."""
    draws = 20_000
    engine = Engine(model, STOPS, batch=1000)
    ids = tuple(range(CONFIG.decoder.vocab_size))
    (whole,) = first(engine.generate(PROMPTS[:1], Sampling(1, alternatives=ids)))
    sampling = Sampling(1, temperature, seed=11, alternatives=(0,))
    (answers,) = engine.generate(PROMPTS[:1], sampling, n=draws)
    logits = np.float64(whole.alternatives[0]) / temperature
    p = np.exp(logits - logits.max())
    p /= p.sum()
    stopped = sum(a.finish == "stop" for a in answers)
    counts = np.bincount([a.tokens[0] for a in answers if a.tokens], minlength=len(p))
    common = np.flatnonzero((p * draws > 20) & ~np.isin(np.arange(len(p)), STOPS))
    assert len(common) > 20
    rest = draws - counts[common].sum() - stopped
    seen = [*counts[common], stopped, rest]
    stops = p[list(STOPS)].sum()
    wanted = np.array([*p[common], stops, 1 - p[common].sum() - stops]) * draws
    assert chisquare(seen, wanted).pvalue > 0.001
    drawn = {a.tokens[0]: a.logprobs[0] for a in answers if a.tokens}
    for token, logprob in drawn.items():
        assert abs(logprob - whole.alternatives[0, token]) < 1e-5
