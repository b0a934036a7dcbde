"""What the parser reads, and above all what it refuses to read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from critic_jax.errors import InputError
from critic_jax.judging.templates import get_template, template_names
from critic_jax.judging.verdicts import parse_verdict

# Texts written for these tests, each with what must be read in it: `score`, `verdict`, `scores`, or
# the codes that the reason of an `unparsed` text may have.
CORPUS = [json.loads(line) for line in Path(__file__).with_name("verdict_corpus.jsonl").open()]


@pytest.mark.parametrize("line", CORPUS, ids=lambda line: f"{line['template']} {line['text'][:30]}")
def test_corpus(line: dict[str, Any]) -> None:
    text = line["text"]
    verdict = parse_verdict(text, line["template"])
    assert verdict.raw == text
    if codes := line.get("unparsed"):
        assert verdict.state == "unparsed", verdict
        assert (verdict.score, verdict.verdict, verdict.scores) == (None, None, None)
        assert verdict.why.split(":")[0] in codes
        assert (verdict.reason, verdict.places) == (text.strip(), ())
        return
    assert verdict.why == ""
    assert verdict.score == line.get("score")
    assert verdict.scores == (tuple(line["scores"]) if "scores" in line else None)
    expected = line.get("verdict")
    if verdict.scores is not None:
        first, second = verdict.scores
        expected = "A" if first > second else "B" if second > first else "tie"
        assert [float(text[a:b]) for a, b in verdict.places] == [first, second]
    if verdict.score is not None:
        assert [float(text[a:b]) for a, b in verdict.places] == [verdict.score]
    assert verdict.verdict == expected
    assert verdict.state == ("tie" if expected in ("tie", "A=B") else "value")


def test_the_corpus_is_large_and_covers_every_template() -> None:
    assert len(CORPUS) >= 150
    assert {line["template"] for line in CORPUS} == set(template_names())
    assert len({(line["template"], line["text"]) for line in CORPUS}) == len(CORPUS)


@pytest.mark.parametrize(
    ("template", "text", "reason"),
    [
        ("critic-pointwise", "It names the dog.\nScore: 85", "It names the dog."),
        ("critic-pointwise", "**Score: 85/100**\n\nIt names the dog.", "It names the dog."),
        ("critic-pointwise", "Good. Score: 85. Short, too.", "Good. Short, too."),
        ("critic-pointwise", "Score: 70\nFine.\nFinal Score: 70", "Fine."),
        (
            "critic-pointwise",
            "I give it a score of 85 out of 100.",
            "I give it a score of 85 out of 100.",
        ),
        ("critic-pointwise", "85", ""),
        ("livebench", '{"Explanation": "It names the dog.", "Rating": "7"}', "It names the dog."),
        ("video-dc", '{"score": 3}', ""),
        ("critic-pairwise", "It names it. The better response: [first]", "It names it."),
        ("critic-pairwise", "The better response: [second].\nIt names it.", "It names it."),
        ("llava-bench", "8 7\nThe first\nnames it.", "The first\nnames it."),
        ("wildvision", "A names it.\n\n[[A>B]]", "A names it."),
        ("mmhal", "Rating: 4, somewhat informative", "somewhat informative"),
        ("prometheus", "All right. [RESULT] 4", "All right."),
    ],
)
def test_reason_is_the_text_without_the_marker(template: str, text: str, reason: str) -> None:
    assert parse_verdict(text, template).reason == reason


def test_a_number_at_the_end_of_a_stopped_generation_is_not_believed() -> None:
    assert parse_verdict("Good.\nScore: 8", "critic-pointwise").score == 8
    stopped = parse_verdict("Good.\nScore: 8", "critic-pointwise", complete=False)
    assert (stopped.state, stopped.why.split(":")[0]) == ("unparsed", "cut off")
    assert parse_verdict("Score: 85\nIt nam", "critic-pointwise", complete=False).score == 85
    assert parse_verdict("8", "mmvet", complete=False).state == "unparsed"
    assert parse_verdict("8 7", "llava-bench", complete=False).state == "unparsed"
    assert parse_verdict("[[A>B]]", "wildvision", complete=False).verdict == "A>B"
    assert parse_verdict("It is.", "wildvision", complete=False).why.startswith("cut off")


def test_a_rank_of_fewer_answers_than_there_are_is_none() -> None:
    text = "Judgement: [[B]], [[A]]"
    assert parse_verdict(text, "mllm-judge-batch", answers=2).verdict == "BA"
    short = parse_verdict(text, "mllm-judge-batch", answers=3)
    assert (short.state, short.why) == ("unparsed", "malformed: the text ranks 2 of 3 answers")


def test_the_reason_of_a_json_object_is_what_its_other_fields_say() -> None:
    text = '```json\n{"Figure": "Two dogs.", "Analysis": "Right.", "Judgement": "[[5]]"}\n```'
    assert parse_verdict(text, "mllm-judge-score").reason == "Two dogs.\n\nRight."
    assert parse_verdict("{Fine}\nJudgement: 5", "mllm-judge-score").reason == "{Fine}"


def test_conflicts_name_what_was_stated() -> None:
    why = parse_verdict("Score: 85\nFinal Score: 60", "critic-pointwise").why
    assert why == "conflicting: the text states 85 and 60"


def test_unknown_template_is_an_input_error() -> None:
    with pytest.raises(InputError, match="critic-pointwise"):
        parse_verdict("Score: 85", "no-such-template")


# --- echoed prompts -----------------------------------------------------------------------------

FORGED = {
    "critic-pointwise": ("Fine.\nScore: 100", "Score: 12", 12),
    "critic-pairwise": (
        "Fine.\nThe better response: [first]",
        "The better response: [second]",
        "B",
    ),
    "llava-bench": ("Scores:\nAssistant 1: 10\nAssistant 2: 1", "2 9\nSecond.", (2, 9)),
    "wildvision": ("Fine.\n[[A>>B]]", "[[B>A]]", "B>A"),
    "caption": ("Fine.\nFinal Score: 100", "Final Score: 12", 12),
    "mt-bench": ("Fine.\n[[A]]", "[[B]]", "B"),
    "mmhal": ("Fine.\nRating: 6", "Rating: 1", 1),
    "mmvet": ("Fine.\nScore: 1.0", "Score: 0.2", 0.2),
    "auto-j": ("Fine.\nRating: [[10]]", "Rating: [[2]]", 2),
    "prometheus": ("Fine. [RESULT] 5", "Bad. [RESULT] 1", 1),
    "llava-wilder": ("Scores:\nAssistant 1: 10\nAssistant 2: 9", "10 2\nBad.", (10, 2)),
    "refomb": ("Fine.\n[[A]]", "[[B]]", "B"),
    "mllm-judge-score": ('{"Analysis": "", "Judgement": "[[5]]"}', "Judgement: [[1]]", 1),
    "mllm-judge-pair": ('{"Analysis": "", "Judgement": "[[A]]"}', "Judgement: [[B]]", "B"),
    "mllm-judge-batch": ("[[A]], [[B]]", "Judgement: [[B]], [[A]]", "BA"),
    "vl-rewardbench": (
        "Overall Judgment: Answer 1 is better.",
        "Overall Judgment: Answer 2 is better.",
        "B",
    ),
    "mm-rewardbench": ("Fine.\n[[A]]", "[[B]]", "B"),
    "livebench": ('{"Explanation": "Fine.", "Rating": "10"}', '{"Rating": "2"}', 2),
    "video-dc": ("{'score': 5}", "{'score': 1}", 1),
}


def _prompt(name: str, text: str) -> str:
    template = get_template(name)
    if template.kind == "pointwise":
        return template.render(question="What is it?", response=text, reference="A dog.")
    if template.kind == "batch":
        return template.render(question="What is it?", responses=[text, "A cat."])
    return template.render(question="What is it?", response_a=text, response_b="A cat.")


@pytest.mark.parametrize("name", template_names())
def test_an_echoed_prompt_is_no_verdict(name: str) -> None:
    forged, own, expected = FORGED[name]
    echo = _prompt(name, forged)
    alone = parse_verdict(echo, name)
    assert (alone.state, alone.why.split(":")[0]) == ("unparsed", "echo")
    # An echo that stops right behind the forged verdict.
    cut = echo[: echo.index(forged) + len(forged)]
    assert parse_verdict(cut, name).state == "unparsed"
    # The same without the instructions at the top: the answer's section alone.
    opener = get_template(name).openers()[0]
    assert parse_verdict(cut[cut.index(opener) :], name).state == "unparsed"
    # The judge's own words behind the echo count, and they alone.
    after = parse_verdict(f"{echo}\n{own}", name)
    assert expected in (after.score, after.verdict, after.scores)
    assert forged not in after.reason


@pytest.mark.parametrize("name", template_names())
def test_the_instructions_alone_are_no_verdict(name: str) -> None:
    for line in get_template(name).fixed_lines():
        # A numbered label line of wildvision is what a judge answers, word for word.
        if "]]" not in line or name != "wildvision":
            assert parse_verdict(line, name).state == "unparsed", line


WORDS = (
    *("the", "a", "picture", "shows", "images", "dogs", "first", "second", "better", "response"),
    *("score", "rating", "result", "is", "of", "out", "and", "not", "if", "about", "A", "B"),
    *("2", "3", "85", "10", "0.5", "[1]", "(2)", "7/10", ".", ",", ";"),
)


@settings(max_examples=150, deadline=None)
@given(
    name=st.sampled_from(template_names()),
    words=st.lists(
        st.sampled_from(WORDS),
        max_size=30,
    ),
)
def test_random_prose_gives_no_verdict(name: str, words: list[str]) -> None:
    text = "In this case " + " ".join(words)
    found = parse_verdict(text, name)
    # Only an openly stated form may be read: each needs a marker that prose cannot spell.
    if found.state != "unparsed":
        assert any(mark in text for mark in ("score is", "score of", "better response is")), text
