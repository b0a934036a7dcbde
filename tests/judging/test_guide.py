"""Guides: what they allow is what the parser reads, whatever the vocabulary."""

from __future__ import annotations

import random

import pytest
from tiny_critic import tiny_tokenizer

from critic_jax.errors import InputError
from critic_jax.judging.guide import VerdictGuide
from critic_jax.judging.spelling import numbers, verdict_texts
from critic_jax.judging.templates import get_template, template_names
from critic_jax.judging.verdicts import parse_verdict
from critic_jax.text import ChatTokenizer, train_tokenizer

TOKENIZERS = (train_tokenizer(["x"], 260), tiny_tokenizer())


def wander(guide: VerdictGuide, tokenizer: ChatTokenizer, rng: random.Random) -> str:
    """A text that the guide allows, every token drawn from what it allows."""
    tokens: list[int] = []
    while True:
        ids = guide.allowed(tokens)
        assert ids is not None and len(ids) and len(tokens) < guide.most_tokens
        drawn = rng.choice(ids.tolist())
        if drawn in tokenizer.stop_ids:
            return tokenizer.decode(tokens)
        tokens.append(drawn)


@pytest.mark.parametrize("name", template_names())
def test_whatever_is_allowed_is_a_verdict(name: str) -> None:
    form = get_template(name).format
    texts = verdict_texts(form, 3)
    for tokenizer in TOKENIZERS:
        guide = VerdictGuide(texts, tokenizer)
        rng = random.Random(0)
        drawn = {wander(guide, tokenizer, rng) for _ in range(25)}
        assert len(drawn) > 1 and drawn <= set(texts)
        for text in drawn:
            assert parse_verdict(text, name, answers=3).state != "unparsed", text


@pytest.mark.parametrize("name", template_names())
def test_every_text_may_be_written(name: str) -> None:
    texts = verdict_texts(get_template(name).format, 3)
    for tokenizer in TOKENIZERS:
        guide = VerdictGuide(texts, tokenizer)
        for text in random.Random(1).sample(texts, min(5, len(texts))):
            ids = tokenizer.encode(text)
            for step, id in enumerate([*ids, tokenizer.im_end]):
                allowed = guide.allowed(ids[:step])
                assert allowed is not None and id in allowed, (text, step)


def test_a_whole_text_may_end_or_go_on() -> None:
    tokenizer = TOKENIZERS[0]
    guide = VerdictGuide(["Score: 1", "Score: 10"], tokenizer)
    said = tokenizer.encode("Score: 1")
    allowed = guide.allowed(said)
    assert allowed is not None
    assert set(allowed.tolist()) == {tokenizer.encode("0")[0], *tokenizer.stop_ids}
    last = guide.allowed([*said, *tokenizer.encode("0")])
    assert last is not None and set(last.tolist()) == set(tokenizer.stop_ids)


def test_behind_the_line_the_reason_is_free() -> None:
    tokenizer = TOKENIZERS[0]
    guide = VerdictGuide(verdict_texts(get_template("llava-bench").format), tokenizer, True)
    line = tokenizer.encode("8 7.5")
    allowed = guide.allowed(line)
    assert allowed is not None and allowed.tolist() == tokenizer.encode("\n")
    for more in ("\n", "\nThe first counts 2 dogs.\nSo"):
        assert guide.allowed([*line, *tokenizer.encode(more)]) is None


def test_scales_are_written_as_they_are() -> None:
    assert list(numbers(0, 6, 0)) == ["0", "1", "2", "3", "4", "5", "6"]
    assert list(numbers(0, 1, 1))[:3] == ["0.0", "0.1", "0.2"]
    assert len(numbers(1, 10, 1)) == 91 and numbers(1, 10, 1)["9.5"] == 9.5
    assert list(numbers(0.5, 2, 0)) == ["1", "2"]
    texts = verdict_texts(get_template("mmhal").format)
    assert texts == [f"Rating: {n}" for n in range(7)]


def test_a_rank_of_many_answers_cannot_be_constrained() -> None:
    form = get_template("mllm-judge-batch").format
    assert len(verdict_texts(form, 4)) == 24
    with pytest.raises(InputError, match="a rank of 8 answers cannot be constrained; of 2 to 7"):
        verdict_texts(form, 8)
