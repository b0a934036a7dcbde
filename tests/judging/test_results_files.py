"""Files of judgments and labels, read back; what a results line says about what was judged."""

import json
import re
from base64 import b64encode
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from critic_jax.errors import InputError
from critic_jax.files import write_json_lines
from critic_jax.judging.judgment import swapped, winner
from critic_jax.judging.lines import JudgeLine, read_judge_lines
from critic_jax.judging.results import VERDICTS, pairwise, read_labels, read_results

SCORED: dict[str, Any] = {
    "id": "s",
    "state": "value",
    "score": 70.0,
    "reason": "Fine.",
    "raw": "Fine. Score: 70",
    "template": "critic-pointwise",
    "model": "m",
}
COMPARED: dict[str, Any] = {
    "id": "p",
    "state": "tie",
    "verdict": "tie",
    "scores": [6, 6.0],
    "template": "llava-bench",
    "order": "ba",
    "image": ["a.png", "b.png"],
}


@pytest.mark.parametrize(
    ("verdict", "expected"),
    [("A", "A"), ("A>>B", "A"), ("B>A", "B"), ("A=B", "tie"), ("tie", "tie"), (None, None)],
)
def test_winner_of_a_verdict(verdict: str | None, expected: str | None) -> None:
    assert winner(verdict) == expected


def test_swapping_answers_mirrors_the_verdicts() -> None:
    assert [swapped(v) for v in VERDICTS] == [
        "B>>A",
        "B>A",
        "B",
        "A=B",
        "tie",
        "A",
        "A>B",
        "A>>B",
    ]


def test_results_come_back_as_written(tmp_path: Path) -> None:
    unparsed = {"id": "u", "state": "unparsed", "template": "mt-bench", "why": "empty: ..."}
    lines = [SCORED, COMPARED, unparsed]
    path = write_json_lines(tmp_path / "r.jsonl", lines)
    assert read_results(path) == lines
    assert [pairwise(line) for line in lines] == [False, True, True]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"id": None}, "field 'id' is None; it should be a text"),
        ({"state": "good"}, "field 'state' is 'good'; it should be one of value, tie, unparsed"),
        ({"template": "mine"}, "no template is called 'mine'"),
        ({"score": "70"}, "field 'score' is '70'; it should be a number"),
        ({"score": True}, "field 'score' is True; it should be a number"),
        ({"template": "mt-bench"}, "field 'verdict' is missing beside state 'value'"),
        ({"verdict": "first"}, "field 'verdict' is 'first'; it should be one of A>>B"),
        ({"scores": [1]}, "field 'scores' is [1]; it should be two numbers"),
        ({"order": "first"}, "field 'order' is 'first'; it should be ab or ba"),
        ({"reason": 3}, "field 'reason' is 3; it should be a text"),
        ({"image": [3]}, "field 'image' is [3]; it should be a path or a list of paths"),
    ],
)
def test_a_wrong_result_is_named(tmp_path: Path, change: dict[str, Any], said: str) -> None:
    path = write_json_lines(tmp_path / "r.jsonl", [SCORED, SCORED | change])
    with pytest.raises(InputError, match=f"r.jsonl line 2: {re.escape(said)}.*judge wrote"):
        read_results(path)


def test_an_input_file_is_not_taken_for_results(tmp_path: Path) -> None:
    path = write_json_lines(tmp_path / "in.jsonl", [{"id": "1", "question": "?", "response": "!"}])
    with pytest.raises(InputError, match="line 1: field 'state' is missing; is it a file that"):
        read_results(path)


def test_labels_are_ids_with_a_verdict_or_a_score(tmp_path: Path) -> None:
    lines = [{"id": 1, "verdict": "A"}, {"id": "2", "score": 5, "kind": "parity"}]
    path = write_json_lines(tmp_path / "l.jsonl", lines)
    assert read_labels(path) == [{"id": "1", "verdict": "A"}, lines[1]]


@pytest.mark.parametrize(
    ("label", "said"),
    [
        ({"verdict": "A"}, "field 'id' is missing"),
        ({"id": "2"}, "a label is an id with a verdict or with a score"),
        ({"id": "2", "verdict": "A", "score": 1}, "a label is an id with a verdict or with"),
        ({"id": "2", "verdict": "first"}, "field 'verdict' is 'first'; it should be one of"),
        ({"id": "1", "score": 1}, "field 'id': '1' is taken by an earlier line"),
    ],
)
def test_a_wrong_label_is_named(tmp_path: Path, label: dict[str, Any], said: str) -> None:
    path = write_json_lines(tmp_path / "l.jsonl", [{"id": "1", "verdict": "A"}, label])
    with pytest.raises(InputError, match=f"l.jsonl line 2: {re.escape(said)}"):
        read_labels(path)


@pytest.mark.parametrize("read", [read_results, read_labels])
def test_an_empty_file_is_an_error(tmp_path: Path, read: Any) -> None:
    path = tmp_path / "none.jsonl"
    path.write_text("\n")
    with pytest.raises(InputError, match=r"none.jsonl: holds no"):
        read(path)


def _lines(folder: Path, *fields: dict[str, Any]) -> list[JudgeLine]:
    folder.mkdir(parents=True, exist_ok=True)
    found = list(read_judge_lines(write_json_lines(folder / "in.jsonl", fields)))
    return [line for line in found if isinstance(line, JudgeLine)]


def test_a_result_says_what_was_judged(tmp_path: Path) -> None:
    elsewhere = str(tmp_path / "far" / "c.png")
    Image.new("RGB", (4, 4), (1, 2, 3)).save(tmp_path / "own.png")
    raw = (tmp_path / "own.png").read_bytes()
    lines = _lines(
        tmp_path / "data",
        {"id": 1, "image": "p/a.png", "question": "<image>\nWhich?", "response": "A 7."},
        {
            "id": 2,
            "image": ["a.png", elsewhere],
            "question": "?",
            "response_a": "1",
            "response_b": "",
        },
        {
            "id": 3,
            "image": [{"bytes": b64encode(raw).decode()}, "p/a.png"],
            "question": "?",
            "response": "x",
        },
        {"id": 4, "question": "?", "response": "x", "reference": "y"},
    )
    out = tmp_path / "runs" / "one"
    kept = f"pictures/{sha256(raw).hexdigest()[:24]}.png"
    assert [line.shown(out) for line in lines * 2][4:] == [
        {"image": "../../data/p/a.png", "question": "Which?", "response": "A 7."},
        {
            "image": ["../../data/a.png", "../../far/c.png"],
            "question": "?",
            "response_a": "1",
            "response_b": "",
        },
        {"image": [kept, "../../data/p/a.png"], "question": "?", "response": "x"},
        {"question": "?", "response": "x"},
    ]
    assert [p.name for p in (out / "pictures").iterdir()] == [kept.split("/")[1]]
    assert (out / kept).read_bytes() == raw


def test_a_picture_is_found_from_results_behind_a_link(tmp_path: Path) -> None:
    (line,) = _lines(
        tmp_path / "data", {"id": 1, "image": "a.png", "question": "?", "response": ""}
    )
    (tmp_path / "data" / "a.png").write_bytes(b"here")
    (tmp_path / "disk" / "deep" / "runs").mkdir(parents=True)
    (tmp_path / "runs").symlink_to(tmp_path / "disk" / "deep" / "runs")
    shown = line.shown(tmp_path / "runs")
    assert (tmp_path / "runs" / shown["image"]).read_bytes() == b"here"
    assert json.loads(json.dumps(shown)) == shown
