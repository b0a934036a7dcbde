"""Probabilities of verdicts: held against every way of writing one, by brute force."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import pytest

from critic_jax.judging.formats import (
    BetterFormat,
    Format,
    LabelFormat,
    ScoreFormat,
    TwoScoreFormat,
)
from critic_jax.judging.reading import read_probabilities, watched_tokens
from critic_jax.judging.templates import get_template
from critic_jax.judging.verdicts import parse_verdict
from critic_jax.sampling.completion import Completion
from critic_jax.text import ChatTokenizer, train_tokenizer

BYTES = train_tokenizer(["x"], 260)
"""Each byte is a token, so that "10" is two and "[[A]]" five."""

Beliefs = Mapping[str, Mapping[str, float]]
"""Text so far -> the next token's text -> its probability. The rest goes to the stop token."""


def written(text: str, beliefs: Beliefs, forms: list[Format], tokenizer: ChatTokenizer = BYTES):
    """The completion of a model with these beliefs that wrote `text`, and the ids watched."""
    watched = watched_tokens(forms, tokenizer)
    ids = tokenizer.encode(text)
    rows, logprobs = [], []
    for step in range(len(ids) + 1):
        said = tokenizer.decode(ids[:step])
        believed = beliefs.get(said, {})
        p = {id: believed.get(tokenizer.pieces[id], 0.0) for id in watched}
        rows.append([math.log(max(p[id], 1e-30)) for id in watched])
        if step < len(ids):
            logprobs.append(math.log(believed.get(tokenizer.pieces[ids[step]], 1.0)))
    alternatives = np.asarray(rows, np.float32).reshape(len(rows), len(watched))
    return Completion(tuple(ids), tuple(logprobs), "stop", alternatives), watched


def read(text: str, form: Format, beliefs: Beliefs, template: str) -> dict[str, float]:
    completion, watched = written(text, beliefs, [form])
    places = parse_verdict(text, template).places
    found = read_probabilities(completion, places, form, watched, BYTES)
    assert found is not None
    return found


def test_on_a_scale_of_single_digits_the_mean_is_exact() -> None:
    p = {"0": 0.05, "1": 0.1, "2": 0.05, "3": 0.2, "4": 0.3, "5": 0.1, "6": 0.1, "7": 0.08}
    found = read(
        "Rating: 4", get_template("mmhal").format, {"Rating: ": p, "Rating: 4": {}}, "mmhal"
    )
    on_scale = {int(k): v for k, v in p.items() if k != "7"}
    mean = sum(k * v for k, v in on_scale.items()) / sum(on_scale.values())
    assert found["expected"] == pytest.approx(mean, abs=1e-6)
    assert found["valid"] == pytest.approx(0.9, abs=1e-6)
    assert found["known"] == 1


def test_through_a_number_of_two_tokens_the_mean_is_exact() -> None:
    form = get_template("auto-j").format
    assert isinstance(form, ScoreFormat)
    first = {"1": 0.4, "7": 0.2, "8": 0.3, "0": 0.1}
    second = {"0": 0.7, "5": 0.1, ".": 0.05}  # 0.15 end the number, 15 and 1.x are not on the scale
    beliefs = {"Rating: [[": first, "Rating: [[1": second}
    ten, one = 0.4 * 0.7, 0.4 * 0.15
    total = ten + one + 0.2 + 0.3
    mean = (10 * ten + one + 7 * 0.2 + 8 * 0.3) / total
    for text in ("Rating: [[10]]", "Rating: [[1]]"):
        found = read(text, form, beliefs, "auto-j")
        assert found["expected"] == pytest.approx(mean, abs=1e-5)
        assert found["valid"] == pytest.approx(total, abs=1e-6)
        assert found["known"] == 1


def test_what_the_path_does_not_show_is_left_out_or_spread() -> None:
    form = get_template("auto-j").format
    first = {"1": 0.3, "8": 0.5, "9": 0.2}
    found = read("Rating: [[8]]", form, {"Rating: [[": first}, "auto-j")
    # The 1 may be 1 or 10: nothing tells, so it is left out, and the reading says how much that is.
    assert found["expected"] == pytest.approx((8 * 0.5 + 9 * 0.2) / 0.7, abs=1e-6)
    assert found["known"] == pytest.approx(0.7, abs=1e-6)
    assert found["valid"] == pytest.approx(1.0, abs=1e-6)


def test_of_hundred_the_digits_behind_another_first_one_are_spread_evenly() -> None:
    form = get_template("critic-pointwise").format
    beliefs = {"Score: ": {"8": 0.6, "7": 0.4}, "Score: 8": {"5": 0.5, "0": 0.25, "2": 0.25}}
    found = read("Score: 85", form, beliefs, "critic-pointwise")
    eighties = 0.6 * (0.5 * 85 + 0.25 * 80 + 0.25 * 82)
    assert found["expected"] == pytest.approx(eighties + 0.4 * 74.5, abs=1e-4)
    assert found["known"] == pytest.approx(0.6, abs=1e-6)


def test_a_half_point_is_read_among_half_points() -> None:
    form = get_template("auto-j").format
    beliefs = {
        "Rating: [[": {"8": 1.0},
        "Rating: [[8": {".": 0.9},
        "Rating: [[8.": {"5": 0.8, "0": 0.2},
    }
    found = read("Rating: [[8.5]]", form, beliefs, "auto-j")
    assert found["expected"] == pytest.approx(8.4, abs=1e-6)
    assert found["valid"] == pytest.approx(0.9, abs=1e-6)


def test_labels_of_one_letter_are_exact() -> None:
    form = get_template("mt-bench").format
    found = read("[[A]]", form, {"[[": {"A": 0.5, "B": 0.2, "C": 0.1, "D": 0.2}}, "mt-bench")
    assert found["A"] == pytest.approx(0.5 / 0.8, abs=1e-6)
    assert found["tie"] == pytest.approx(0.1 / 0.8, abs=1e-6)
    assert found["preference"] == pytest.approx((0.5 + 0.05) / 0.8, abs=1e-6)
    assert (found["valid"], found["known"]) == (pytest.approx(0.8, abs=1e-6), 1)


def test_labels_with_strength_part_twice() -> None:
    form = get_template("wildvision").format
    beliefs = {
        "[[": {"A": 0.6, "B": 0.4},
        "[[A": {">": 0.7, "=": 0.2},
        "[[A>": {">": 0.5, "B": 0.5},
    }
    found = read("[[A>>B]]", form, beliefs, "wildvision")
    total = 0.6 * 0.9 + 0.4
    assert found["A"] == pytest.approx(0.42 / total, abs=1e-6)
    assert found["B"] == pytest.approx(0.4 / total, abs=1e-6)
    assert found["tie"] == pytest.approx(0.12 / total, abs=1e-6)
    # Of a decoded B, the A beside it may go on as A>B or A=B, which are as long.
    other = read("[[B>A]]", form, beliefs | {"[[B": {">": 1.0}, "[[B>": {"A": 1.0}}, "wildvision")
    assert other["preference"] == pytest.approx(0.6 * 0.75, abs=1e-6)
    assert other["known"] == pytest.approx(0.4, abs=1e-6)


def test_the_named_side_is_read_among_its_like() -> None:
    form = get_template("critic-pairwise").format
    lead = "The better response: ["
    found = read(f"{lead}second]", form, {lead: {"f": 0.3, "s": 0.6, "t": 0.1}}, "critic-pairwise")
    assert found["preference"] == pytest.approx(0.3 + 0.05, abs=1e-6)
    assert found["known"] == 1
    completion, watched = written("Both responses are equally good.", {}, [form])
    assert read_probabilities(completion, (), form, watched, BYTES) is None


def test_two_scores_are_two_numbers() -> None:
    form = get_template("llava-bench").format
    assert isinstance(form, TwoScoreFormat)
    beliefs = {"": {"8": 0.75, "6": 0.25}, "8 ": {"7": 0.5, "9": 0.5}}
    found = read("8 7", form, beliefs, "llava-bench")
    assert found["expected_a"] == pytest.approx(7.5, abs=1e-6)
    assert found["expected_b"] == pytest.approx(8, abs=1e-6)
    assert found["preference"] == pytest.approx(0.75 * 0.5, abs=1e-6)


def test_tokens_of_several_characters_are_understood() -> None:
    tokenizer = train_tokenizer(["[[A]] [[B]] [first] [second] response"] * 9, 290)
    forms: list[Format] = [LabelFormat({"A": "A", "B": "B"}), BetterFormat()]
    watched = watched_tokens(forms, tokenizer)
    pieces = {tokenizer.pieces[id] for id in watched}
    assert {"A", "B", "f", "s", "first", "second"} < pieces
    assert not {"[[", "]]", "response", " "} & pieces
    text = "The better response: [first]"
    ids = tokenizer.encode(text)
    step = next(
        i for i in range(len(ids)) if len(tokenizer.decode(ids[: i + 1])) > text.index("first")
    )
    said, piece = tokenizer.decode(ids[:step]), tokenizer.pieces[ids[step]]
    other = next(
        p for p in pieces if (p.strip(" [").startswith("s") and p[0] == piece[0]) or p == "s"
    )
    completion, watched = written(text, {said: {piece: 0.75, other: 0.25}}, forms, tokenizer)
    places = parse_verdict(text, "critic-pairwise").places
    found = read_probabilities(completion, places, forms[1], watched, tokenizer)
    assert found is not None and found["preference"] == pytest.approx(0.75, abs=1e-6)


def test_a_reading_of_the_wrong_spelling_is_none() -> None:
    form = get_template("critic-pointwise").format
    for text in ("Score: 085", "Score: 8.123"):
        completion, watched = written(text, {}, [form])
        places = parse_verdict(text, "critic-pointwise").places
        assert places
        assert read_probabilities(completion, places, form, watched, BYTES) is None
