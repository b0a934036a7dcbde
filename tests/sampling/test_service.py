"""Requests that come at any time: the same answers as alone, and no prompt read twice."""

import gc
import threading
import time
import weakref
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from PIL import Image
from sampling_helpers import CONFIG, PROMPTS, STOPS, text
from tiny_critic import GEOMETRY, random_params

from critic_jax.errors import InputError, WorkError
from critic_jax.imaging import picture
from critic_jax.models.build import assemble
from critic_jax.sampling import run as running
from critic_jax.sampling.choose import Sampling
from critic_jax.sampling.engine import Engine
from critic_jax.sampling.request import Request
from critic_jax.sampling.service import Service
from critic_jax.tree import Path

NEW = 12
DRAWN = Sampling(NEW, 1.0, top_p=0.95, repetition_penalty=1.2, seed=4)


def about_a_picture(question: int, before: int = 60) -> Path:
    """A question about the one picture, behind the same words."""
    pixels = np.random.default_rng(0).integers(0, 256, (20, 20, 3), dtype=np.uint8)
    visual = picture(Image.fromarray(pixels), GEOMETRY)
    places = np.full(len(visual.tap_index), 499, np.int32)
    parts = [text(4, 1).tokens, places, text(before, 2).tokens, text(9, 100 + question).tokens]
    tokens = np.concatenate(parts)
    return Path(tokens, np.zeros(len(tokens), np.float32), (visual,), (4,))


@pytest.fixture(scope="module")
def engine() -> Engine:
    return Engine(assemble(CONFIG, random_params(CONFIG)), STOPS, batch=4)


@pytest.fixture
def service(engine: Engine) -> Iterator[Service]:
    found = Service(engine, prompt_tokens=256, new_tokens=32)
    yield found
    found.close()


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """Of each row that was read: tokens taken over, tokens read."""
    found: list[tuple[int, int]] = []
    real = running.prefill

    def counted(graphs: Any, weights: Any, pool: Any, row: Any, first: int, begun: Any) -> Any:
        found.append((begun.count if begun else 0, row.length))
        return real(graphs, weights, pool, row, first, begun)

    monkeypatch.setattr(running, "prefill", counted)
    return found


def tokens_of(request: Request) -> list[tuple[int, ...]]:
    return [one.tokens for one in request.completions()]


def wait(*requests: Request) -> None:
    until = time.monotonic() + 60
    while not all(request.done for request in requests):
        assert time.monotonic() < until
        time.sleep(0.002)


def test_who_comes_alone_and_who_comes_together_get_the_same(engine: Engine) -> None:
    """Each by settings of its own, from threads of their own."""
    settings = [DRAWN, Sampling(NEW), Sampling(5, 0.7, seed=9, likeliest=3), Sampling(20, 2.0)]
    asked = [
        (p, settings[n % 4]) for n, p in enumerate([*PROMPTS, about_a_picture(1), text(40, 9)])
    ]
    alone = [engine.generate([prompt], sampling, 2)[0] for prompt, sampling in asked]
    service = Service(engine, prompt_tokens=256, new_tokens=32)
    together: dict[int, Any] = {}

    def ask(number: int) -> None:
        prompt, sampling = asked[number]
        (together[number],) = service.generate([prompt], sampling, 2)

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(len(asked))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    service.close()
    for number, (one, two) in enumerate(alone):
        found = together[number]
        assert [found[0].tokens, found[1].tokens] == [one.tokens, two.tokens]
        np.testing.assert_allclose(found[0].logprobs, one.logprobs, atol=1e-5)
        most = asked[number][1].likeliest
        assert {len(step) for step in found[0].likeliest} == {most}
        for token, logprob, step in zip(one.tokens, one.logprobs, found[0].likeliest, strict=False):
            listed = dict(step)
            assert token not in listed or abs(listed[token] - logprob) < 1e-5
    assert len({one.tokens for one, _ in alone}) > 4


def test_a_prompt_goes_on_from_one_that_begins_alike(
    engine: Engine, service: Service, read: list[tuple[int, int]]
) -> None:
    asked = [about_a_picture(n) for n in range(4)]
    shared = len(asked[0]) - 9
    answers = []
    for prompt in asked:
        request = Request(prompt, DRAWN, n=2)
        service.submit(request)
        wait(request)
        answers.append(tokens_of(request))
    assert read[0] == (0, len(asked[0])) and len(read) == 4
    for count, rest in read[1:]:
        assert shared <= count < len(asked[0]) and rest == len(asked[0]) - count
    service.close()
    expected = [engine.generate([prompt], DRAWN, 2)[0] for prompt in asked]
    assert answers == [[one.tokens for one in found] for found in expected]
    assert len({tokens for found in answers for tokens in found}) > 4


def test_a_trunk_that_is_kept_holds_no_picture_and_no_request(
    service: Service, read: list[tuple[int, int]]
) -> None:
    request = Request(about_a_picture(1), Sampling(3))
    held = [weakref.ref(request), weakref.ref(request.prompt.visuals[0])]
    service.submit(request)
    wait(request)
    del request
    until = time.monotonic() + 20
    while any(one() is not None for one in held):
        assert time.monotonic() < until
        gc.collect()
    other = Request(about_a_picture(2), Sampling(3))
    service.submit(other)
    wait(other)
    assert read[1][0] > 0


def test_little_in_common_or_another_picture_is_read_from_the_start(
    service: Service, read: list[tuple[int, int]]
) -> None:
    first = about_a_picture(1)
    other = Path(first.tokens, first.weights, (another_picture(),), first.starts)
    for prompt in (first, other, about_a_picture(2, before=20), text(90, 3)):
        request = Request(prompt, Sampling(3))
        service.submit(request)
        wait(request)
    assert [count for count, _ in read] == [0, 0, 0, 0]


def another_picture() -> Any:
    pixels = np.random.default_rng(1).integers(0, 256, (20, 20, 3), dtype=np.uint8)
    return picture(Image.fromarray(pixels), GEOMETRY)


def test_the_pool_is_used_again_and_again(engine: Engine, read: list[tuple[int, int]]) -> None:
    """Old trunks go for new ones; the answers stay those of each alone."""
    held = engine.memory
    engine.memory = (160 + 4 * 32) * engine.place_bytes()
    try:
        service = Service(engine, prompt_tokens=130, new_tokens=32)
        assert service.shape.places <= 200
        asked = [about_a_picture(n % 5, before=40 + n % 3) for n in range(12)]
        answers = [service.generate([prompt], DRAWN)[0][0].tokens for prompt in asked]
        service.close()
    finally:
        engine.memory = held
    alone = [engine.generate([prompt], DRAWN)[0][0].tokens for prompt in asked]
    assert answers == alone and len(set(answers)) > 4


def test_prompts_that_wait_together_are_read_together(
    service: Service, read: list[tuple[int, int]]
) -> None:
    busy = [Request(text(30, n), Sampling(32), n=4) for n in range(1)]
    alike = [Request(about_a_picture(n), DRAWN) for n in range(3)]
    for request in (*busy, *alike):
        service.submit(request)
    wait(*busy, *alike)
    tree = len(alike[0].prompt) - 9 + 3 * 9
    assert sum(tokens for _, tokens in read) <= 30 + tree + 3


def test_who_leaves_frees_the_slots(service: Service) -> None:
    gone = [Request(text(20, n), Sampling(32, seed=n), n=4) for n in range(6)]
    for request in gone:
        service.submit(request)
    for request in gone:
        request.left = True
    stays = Request(text(12, 1), Sampling(4))
    service.submit(stays)
    wait(stays)
    until = time.monotonic() + 20
    while service.active or service.waiting:
        assert time.monotonic() < until
        time.sleep(0.01)
    assert len(tokens_of(stays)[0]) <= 4
    assert sum(len(a.tokens) for r in gone for a in r.answers.values()) < 6 * 4 * 32


def test_a_watch_sees_answers_grow(service: Service) -> None:
    lengths: list[int] = []
    request = Request(
        text(20, 2), Sampling(32, 1.0), watch=lambda r: lengths.append(len(r.answers[0].tokens))
    )
    service.submit(request)
    wait(request)
    service.close()
    (answer,) = tokens_of(request)
    assert lengths == sorted(lengths) and lengths[-1] == len(answer)
    assert len(lengths) >= len(answer) // 8


def test_what_cannot_be_answered_is_told_at_once(service: Service) -> None:
    with pytest.raises(InputError, match=r"the prompt has 257 tokens; at most 256 are read"):
        service.submit(Request(text(257, 1), Sampling(3)))
    with pytest.raises(InputError, match=r"33 new tokens; an answer has at most 32"):
        service.submit(Request(text(20, 1), Sampling(33)))
    with pytest.raises(InputError, match="the prompt is empty"):
        service.submit(Request(text(0, 1), Sampling(3)))
    with pytest.raises(InputError, match="alternatives"):
        service.generate([text(9, 1)], Sampling(3, alternatives=(10**6,)))
    service.close()
    with pytest.raises(WorkError, match="closed"):
        service.submit(Request(text(20, 1), Sampling(3)))


def test_a_device_that_fails_fails_who_is_there_and_nobody_after(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, calls = running.prefill, []

    def fails_once(*words: Any) -> Any:
        calls.append(words)
        if len(calls) == 1:
            raise RuntimeError("RESOURCE_EXHAUSTED: out of memory")
        return real(*words)

    monkeypatch.setattr(running, "prefill", fails_once)
    with pytest.raises(RuntimeError, match="out of memory"):
        service.generate([text(20, 1)], Sampling(3))
    assert len(service.generate([text(20, 1)], Sampling(3))[0][0].tokens) <= 3
