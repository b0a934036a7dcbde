"""Lines with several answers: what is asked, what the rewards are, what the results tell."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from critic_jax.cli import main
from critic_jax.errors import InputError
from critic_jax.files import write_json_lines
from critic_jax.judging.judgment import Judgment, judgment
from critic_jax.judging.lines import JudgeLine, read_judge_lines
from critic_jax.judging.rank import ordered_pairs
from critic_jax.judging.rank_lines import rank_fields
from critic_jax.judging.results import pairwise, read_results
from critic_jax.judging.verdicts import parse_verdict

TWO = re.compile(r"\[Assistant 1\]\n(.*?)\n\[End.*\[Assistant 2\]\n(.*?)\n\[End", re.DOTALL)


def said(text: str, template: str = "llava-bench") -> Judgment:
    return judgment(parse_verdict(text, template), template, "m", "ab")


def by_quality(prompt: str) -> str:
    """Two scores: the number of a's, and a point more for the answer shown first."""
    pair = TWO.search(prompt)
    assert pair is not None
    first, second = (text.count("a") for text in pair.groups())
    return "I cannot." if "?" in "".join(pair.groups()) else f"{first + 2} {second + 1}\nSo it is."


def test_rewards_are_the_papers_and_free_of_position_bias() -> None:
    rng = np.random.default_rng(0)
    scores = rng.integers(1, 10, (5, 5, 2))  # of y_i shown first and y_j shown second
    given = [said(f"{scores[i, j, 0]} {scores[i, j, 1]}") for i, j in ordered_pairs(5)]
    a = np.where(np.eye(5, dtype=bool), 0, scores[..., 1] - scores[..., 0]).astype(float)
    fields = rank_fields(given, 5)
    assert fields["rewards"] == (a.sum(axis=0) - a.sum(axis=1)).tolist()
    assert fields["ranking"] == np.argsort(-np.array(fields["rewards"]), kind="stable").tolist()
    # A judge with qualities and a liking for one place gives rewards of the qualities alone.
    quality = [3, 7, 5, 4, 6]
    for bias in (0, 2):
        given = [said(f"{quality[i] + bias} {quality[j]}") for i, j in ordered_pairs(5)]
        fields = rank_fields(given, 5)
        assert fields["rewards"] == [2 * sum(q - other for other in quality) for q in quality]
        assert (fields["state"], fields["ranking"]) == ("value", [1, 4, 2, 3, 0])


@pytest.mark.parametrize(
    ("template", "words"),
    [
        ("wildvision", ("[[A>>B]]", "[[A=B]]", "[[B>A]]")),
        ("mt-bench", ("[[A]]", "[[C]]", "[[B]]")),
    ],
)
def test_verdicts_count_one_whatever_their_strength(
    template: str, words: tuple[str, str, str]
) -> None:
    first, tie, second = words
    # 0 against 1: the first shown wins both times; 0 and 1 each beat 2, once with a tie.
    texts = {(0, 1): first, (1, 0): first, (0, 2): first, (2, 0): second}
    texts |= {(1, 2): first, (2, 1): tie}
    fields = rank_fields([said(texts[p], template) for p in ordered_pairs(3)], 3)
    assert fields["rewards"] == [2.0, 1.0, -3.0] and fields["ranking"] == [0, 1, 2]


def test_ties_and_gaps_are_told() -> None:
    fields = rank_fields([said("5 5")] * 6, 3)
    assert (fields["state"], fields["rewards"], fields["ranking"]) == ("tie", [0] * 3, [0, 1, 2])
    # One order of (0, 1) is unparsed, so neither counts: its half would favour a place.
    texts = {
        (0, 1): "no",
        (1, 0): "9 1",
        (0, 2): "4 2",
        (2, 0): "2 4",
        (1, 2): "3 2",
        (2, 1): "2 3",
    }
    fields = rank_fields([said(texts[p]) for p in ordered_pairs(3)], 3)
    assert (fields["state"], fields["rewards"]) == ("value", [4.0, 2.0, -6.0])
    assert [p["state"] for p in fields["pairs"]].count("unparsed") == 1
    fields = rank_fields([said("no"), said("2 1")], 2)
    assert fields["state"] == "unparsed" and "rewards" not in fields and fields["why"]


@pytest.fixture
def source(pictures: Path) -> Path:
    lines: list[dict[str, Any]] = [
        {"id": "r", "image": "0.png", "question": "Q?", "responses": ["a", "aaa", "", "aa"]},
        {"id": "p", "image": "0.png", "question": "Q?", "response_a": "aaa", "response_b": "a"},
        {"id": "u", "question": "Q?", "responses": ["??", "a"]},
        {"id": "t", "question": "Q?", "responses": ["a", "A a"]},
    ]
    lines[1]["template"] = "llava-bench"
    return write_json_lines(pictures / "in.jsonl", lines)


def test_a_file_of_rankings(source: Path, critic_folder: Path, script: Any, capsys: Any) -> None:
    engine = script(by_quality)
    output = source.with_name("out.jsonl")
    words = ["judge", "--model", str(critic_folder), "--input", str(source), "--no-cache"]
    assert main([*words, "--output", str(output), "--order", "both", "--json"]) == 0
    found = read_results(output)
    assert [(r["id"], r.get("order"), r["state"]) for r in found] == [
        ("r", None, "value"),
        ("p", "ab", "value"),
        ("p", "ba", "value"),
        ("u", None, "unparsed"),
        ("t", None, "tie"),
    ]
    ranked = found[0]
    assert (ranked["rewards"], ranked["ranking"]) == ([-4.0, 12.0, -12.0, 4.0], [1, 3, 0, 2])
    assert (ranked["responses"], ranked["template"]) == (["a", "aaa", "", "aa"], "llava-bench")
    assert (ranked["question"], ranked["image"]) == ("Q?", "0.png")
    assert [(p["first"], p["second"]) for p in ranked["pairs"]] == ordered_pairs(4)
    assert ranked["pairs"][0] == {
        "first": 0,
        "second": 1,
        "state": "value",
        "verdict": "B",
        "scores": [3.0, 4.0],
        "reason": "So it is.",
        "raw": "3 4\nSo it is.",
    }
    assert [pairwise(r) for r in found] == [False, True, True, False, False]
    assert len(engine.asked) == 12 + 2 + 2 + 2
    summary = json.loads(capsys.readouterr().out)
    assert {n: summary[n] for n in ("judgments", "unparsed", "ranked", "ties")} == {
        "judgments": 18,
        "unparsed": 2,
        "ranked": 3,
        "ties": 1,
    }
    assert (summary["order_consistency"], summary["position_bias"]) == (1.0, 0.0)
    # A line is there whole or not at all, so a run goes on line by line.
    text = output.read_text().splitlines(keepends=True)
    output.unlink()
    output.with_name("out.jsonl.partial").write_text("".join(text[1:3]) + text[0][:200])
    assert main([*words, "--output", str(output), "--order", "both"]) == 0
    assert output.read_text() == "".join(text) and len(engine.asked) == 18 + 16


def test_rewards_of_verdicts_alone(
    source: Path, critic_folder: Path, script: Any, capsys: Any
) -> None:
    """A win counts one, whatever the scores say; a file is made of one kind of rewards."""
    script(by_quality)
    output = source.with_name("out.jsonl")
    words = ["judge", "--model", str(critic_folder), "--input", str(source), "--no-cache"]
    words += ["--output", str(output)]
    assert main([*words, "--relative", "verdict"]) == 0
    found = {r["id"]: r for r in read_results(output)}
    # Shown first, "a" is no worse than "aa" by the point that its place gives: a tie, then a loss.
    assert found["r"]["rewards"] == [-2.0, 5.0, -5.0, 2.0] and found["r"]["ranking"] == [1, 3, 0, 2]
    assert {r["relative"] for r in found.values()} == {"verdict"}
    kept = output.read_bytes()
    assert main([*words, "--relative", "scores"]) == 2
    assert "relative" in capsys.readouterr().err and output.read_bytes() == kept


@pytest.mark.parametrize(
    ("line", "relative", "reason"),
    [
        ({"response": "a"}, "verdict", "relative is for lines with responses to rank; there are"),
        (
            {"responses": ["a", "b"], "template": "wildvision"},
            "scores",
            "in.jsonl line 1: template",
        ),
    ],
)
def test_rewards_of_what_is_not_there_are_told(
    line: dict[str, Any], relative: str, reason: str, tmp_path: Path, capsys: Any
) -> None:
    source = write_json_lines(tmp_path / "in.jsonl", [{"id": "1", "question": "?", **line}])
    words = ["judge", "--model", "none", "--input", str(source), "--output", str(tmp_path / "o")]
    assert main([*words, "--relative", relative]) == 2
    assert reason in capsys.readouterr().err


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"responses": "a"}, "field 'responses' should be a list of texts"),
        ({"responses": ["a", 1]}, "field 'responses' should be a list of texts"),
        ({"responses": ["a"]}, "field 'responses' holds 1; there should be 2 or more to rank"),
        ({"responses": ["a", "b"], "response": "c"}, "field 'response' stands beside 'responses'"),
        (
            {"responses": ["a", "b"], "template": "mmhal"},
            "template mmhal judges one answer; to rank responses give one that compares two, such",
        ),
        (
            {"responses": ["a", "b"], "template": "mllm-judge-batch"},
            "template mllm-judge-batch judges several answers at once; to rank responses give one",
        ),
    ],
)
def test_a_wrong_list_of_answers_is_told(tmp_path: Path, fields: Any, reason: str) -> None:
    line = {"id": "1", "question": "?", **fields}
    (found,) = read_judge_lines(write_json_lines(tmp_path / "in.jsonl", [line]))
    assert not isinstance(found, JudgeLine) and reason in found.reason


@pytest.mark.parametrize(
    ("change", "said_of_it"),
    [
        ({"pairs": []}, "field 'pairs' is []; it should be a list of judgments"),
        ({"rewards": [1]}, r"field 'rewards' is \[1\]; it should be 2 numbers"),
        ({"ranking": [0, 0]}, r"field 'ranking' is \[0, 0\]; it should be the places 0 to 1"),
        ({"responses": [1]}, r"field 'responses' is \[1\]; it should be a list of texts"),
    ],
)
def test_a_wrong_ranking_is_named(tmp_path: Path, change: Any, said_of_it: str) -> None:
    good = {"id": "1", **rank_fields([said("2 1"), said("1 2")], 2), "responses": ["a", "b"]}
    path = write_json_lines(tmp_path / "r.jsonl", [good])
    assert read_results(path) == [good]
    write_json_lines(path, [good | change])
    with pytest.raises(InputError, match=said_of_it.replace("[]", r"\[\]")):
        read_results(path)
