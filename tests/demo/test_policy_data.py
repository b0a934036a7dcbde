"""The demo's policy: lessons that are wrong in a systematic way, and prompts about scans."""

import json
import random
from collections import Counter
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from critic_jax.data import read_records
from critic_jax.data.encode import Encoder
from critic_jax.data.pipeline import Rows
from critic_jax.data.plan import Budget
from critic_jax.demo.answers import LOOKALIKE, QUESTIONS, RESPONSE_MODELS, ask
from critic_jax.demo.digits import Digits, make_digits
from critic_jax.demo.policy import (
    MISTAKEN,
    RIGHT_SHARE,
    answers_right,
    claimed,
    policy_lessons,
    write_prompts,
)
from critic_jax.demo.records import write_records
from critic_jax.demo.run import GEOMETRY
from critic_jax.text import train_tokenizer
from critic_jax.training.config import load_config


@cache
def the_digits() -> Digits:
    return make_digits(0)


@cache
def the_lessons() -> list[dict[str, Any]]:
    return policy_lessons(the_digits(), 0, 1)


def said(lesson: dict[str, Any]) -> int | None:
    return claimed(lesson["conversations"][1]["value"])


def test_lessons_name_the_lookalike_of_some_digits_more_often_than_the_digit() -> None:
    digit_of = {scan.number: scan.digit for scan in the_digits().train}
    assert len({lesson["id"] for lesson in the_lessons()}) == len(the_digits().train)
    counts: dict[int, Counter[int | None]] = {digit: Counter() for digit in range(10)}
    for lesson in the_lessons():
        counts[digit_of[int(lesson["id"].split("-")[1])]][said(lesson)] += 1
    for digit, found in counts.items():
        if digit not in MISTAKEN:
            assert set(found) == {digit}
            continue
        assert set(found) == {digit, LOOKALIKE[digit]}
        # Two and a half deviations of a share of some 150.
        assert found[digit] / found.total() == pytest.approx(RIGHT_SHARE, abs=0.1)
    # A digit that is named wrongly is no other's wrong name: each mistake can be seen as one.
    assert not set(MISTAKEN) & {LOOKALIKE[digit] for digit in MISTAKEN}
    assert len(MISTAKEN) == 5


def test_lessons_are_of_training_scans_and_ask_for_the_digit() -> None:
    train = {scan.number for scan in the_digits().train}
    for lesson in the_lessons():
        assert int(lesson["id"].split("-")[1]) in train
        human, gpt = lesson["conversations"]
        assert human["value"].removeprefix("<image>\n") in QUESTIONS["digit"]
        assert gpt["value"] and lesson["source"] == "digits/policy"
    # Every picture is another, so that no scan is always answered alike.
    assert len({lesson["image"] for lesson in the_lessons()}) == len(the_lessons())
    few = Digits(the_digits().train[:5], ())
    assert policy_lessons(few, 0, 2) == policy_lessons(few, 0, 2) != policy_lessons(few, 1, 2)


def test_prompts_are_of_the_scans_given_with_what_they_show(tmp_path: Path) -> None:
    scans = the_digits().heldout
    paths = write_prompts(scans, 0, tmp_path)
    prompts, shown = (
        [json.loads(line) for line in path.read_text().splitlines()] for path in paths
    )
    assert len(prompts) == 300 and [p["id"] for p in prompts] == [s["id"] for s in shown]
    digit_of = {f"digit-{scan.number:04d}": scan.digit for scan in scans}
    assert {line["id"]: line["digit"] for line in shown} == digit_of
    assert all((tmp_path / p["image"]).is_file() for p in prompts)
    assert {p["prompt"] for p in prompts} == set(QUESTIONS["digit"])
    # The order tells nothing of the digit.
    assert len({line["digit"] for line in shown[:30]}) > 5


@pytest.mark.parametrize(
    ("answer", "digit"),
    [
        ("It is a 7.", 7),
        ("7", 7),
        ("A 7, yes, 7.", 7),
        ("A 7 or a 1.", None),
        ("It is a 77.", None),
        ("A seven.", None),
        ("", None),
    ],
)
def test_an_answer_claims_one_digit_or_none(answer: str, digit: int | None) -> None:
    assert claimed(answer) == digit


def test_every_wording_of_a_simulated_model_is_read() -> None:
    draw = random.Random(0)
    for model in RESPONSE_MODELS * 20:
        answer = model.answer(ask("digit", draw), draw.randrange(10), draw, draw.random() < 0.5)
        assert claimed(answer.text) == int(answer.claim)


def test_the_share_of_right_answers() -> None:
    shown = [{"id": "a", "digit": 7}, {"id": "b", "digit": 1}]
    results = [
        {"id": "b", "responses": ["It is a 1.", "It is a 7."]},
        {"id": "a", "responses": ["A 7!", "nothing"]},
    ]
    assert answers_right(results, shown) == 0.5
    assert answers_right(results[:1], shown) == 0.5
    assert answers_right([{"id": "a", "responses": ["7"]}], shown) == 1.0


def test_the_config_holds_a_step_of_lessons(tmp_path: Path) -> None:
    """And its rows are no larger than that takes, with a tokenizer learned from lessons."""
    config = load_config("digits_policy", [])
    lessons = policy_lessons(Digits(the_digits().train[:120], ()), 0, 1)
    tokenizer = train_tokenizer(
        (turn["value"] for lesson in lessons for turn in lesson["conversations"]), 1024
    )
    path = write_records(lessons, tmp_path)
    budget = Budget(config.global_batch, config.rows, config.row_tokens, config.row_tiles)
    rows = Rows(list(read_records(path)), Encoder(tokenizer, GEOMETRY, "answer"), budget, 1, 0)
    assert len(rows) == 120 // config.global_batch
    used = sum(rows.holding(step).tokens for step in range(len(rows)))
    assert used > 0.85 * len(rows) * config.rows * config.row_tokens
