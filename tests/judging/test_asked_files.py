"""Ways of asking on the command line: what the results and the summary say of them."""

import json
from pathlib import Path
from typing import Any

import pytest

from critic_jax import Critic
from critic_jax.cli import main
from critic_jax.files import write_json_lines
from critic_jax.judging.results import read_results

LINES: list[dict[str, Any]] = [
    {"id": "s", "question": "Which?", "response": "It is a 7.", "template": "mmhal"},
    {
        "id": "p",
        "question": "Which?",
        "response_a": "A 7.",
        "response_b": "A 1.",
        "template": "mt-bench",
    },
    {"id": "r", "question": "Which?", "responses": ["A 7.", "A 1."]},
]


@pytest.fixture
def words(critic_folder: Path, tmp_path: Path) -> list[str]:
    source = write_json_lines(tmp_path / "in.jsonl", LINES)
    return ["judge", "--model", str(critic_folder), "--input", str(source)]


@pytest.fixture(autouse=True)
def speechless(speaking: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A judge that states a verdict only where it must."""
    critic, _ = speaking("hm", "Rating: 4", "[[C]]", "8 7.5\n")
    monkeypatch.setattr(Critic, "load", lambda path, **settings: critic)


def test_a_judge_is_held_to_verdicts_and_its_free_texts_are_told(
    words: list[str], tmp_path: Path, capsys: Any
) -> None:
    output = tmp_path / "held.jsonl"
    how = ["--constrained", "--probabilities", "--reasks", "1", "--order", "both"]
    assert main([*words, "--output", str(output), *how, "--json"]) == 0
    summary = json.loads(capsys.readouterr().out)
    found = read_results(output)
    assert [(r["id"], r.get("order")) for r in found] == [
        ("s", None),
        ("p", "ab"),
        ("p", "ba"),
        ("r", None),
    ]
    for line in found:
        wishes = {"constrained": True, "probabilities": True, "reasks": 1}
        assert line["asking"] == wishes and line["state"] in ("value", "tie")
    score, ab, ba, ranked = found
    assert (score["asks"], score["constrained"], score["first_why"] != "") == (3, True, True)
    assert 0 <= score["probabilities"]["expected"] <= 6
    for one in (ab, ba):
        read = one["probabilities"]
        assert read["A"] + read["B"] + read["tie"] == pytest.approx(1)
        assert read["preference"] == pytest.approx(read["A"] + read["tie"] / 2)
    assert [0 < pair["probabilities"]["expected_b"] <= 10 for pair in ranked["pairs"]] == [True] * 2
    counts = {"judgments": 5, "unparsed": 0, "free": 5, "first_unparsed": 5, "asks": 15}
    assert {name: summary[name] for name in counts} == counts
    assert (summary["first_unparsed_rate"], summary["constrained"]) == (1, 5)
    assert summary["asking"] == wishes
    # Another way of asking is another output, and finds nothing of this one in the cache.
    assert main([*words, "--output", str(output), "--order", "both"]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and f"{output} line 1: asking is probabilities True, " in error
    assert "not as usual; name another output" in error
    free = tmp_path / "free.jsonl"
    assert main([*words, "--output", str(free), "--order", "both", "--json"]) == 0
    summary = json.loads(capsys.readouterr().out)
    assert (summary["unparsed"], summary["judgments"]) == (5, 5) and "asks" not in summary
    assert [r["raw"] for r in read_results(free)[:3]] != [r["raw"] for r in found[:3]]
    again = tmp_path / "again.jsonl"
    assert main([*words, "--output", str(again), *how]) == 0
    assert again.read_bytes() == output.read_bytes()


def test_a_verdict_alone_gives_no_reason(words: list[str], tmp_path: Path, capsys: Any) -> None:
    output = tmp_path / "brief.jsonl"
    assert main([*words, "--output", str(output), "--verdict-only", "--json"]) == 0
    score, pair, _ = read_results(output)
    assert score["raw"] == f"Rating: {score['score']:g}" and score["reason"] == ""
    assert pair["raw"] in ("[[A]]", "[[B]]", "[[C]]") and "probabilities" not in pair
    summary = json.loads(capsys.readouterr().out)
    # The two scores of a ranking would be free text, of one line.
    assert (summary["judgments"], summary["free"], summary["constrained"]) == (4, 2, 2)
    assert main([*words, "--output", str(output), "--verdict-only", "--reasks", "-1"]) == 2
    assert "reasks is -1; it must be 0 or more" in capsys.readouterr().err
