"""`critic-data validate` and `stats` on small files with known contents."""

import base64
import io
import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from critic_data.cli import main

CHAT = [{"from": "human", "value": "<image>\nHow many?"}, {"from": "gpt", "value": "Two."}]


def png(colour: int = 0) -> bytes:
    file = io.BytesIO()
    Image.new("L", (3, 2), colour).save(file, "PNG")
    return file.getvalue()


def judged(verdict: str) -> list[dict[str, str]]:
    return [CHAT[0], {"from": "gpt", "value": f"It shows two birds.\n{verdict}"}]


def write(tmp_path: Path, records: list[dict[str, Any]], name: str = "train.jsonl") -> Path:
    path = tmp_path / name
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


@pytest.fixture
def good(tmp_path: Path) -> list[dict[str, Any]]:
    (tmp_path / "1.png").write_bytes(png())
    text = [{"from": "human", "value": "Hello"}, {"from": "gpt", "value": "Hi."}]
    return [
        {"id": "a", "source": "x", "conversations": CHAT, "image": "1.png"},
        {"id": "b", "source": "x", "conversations": CHAT, "image": ["1.png"]},
        {"id": "c", "source": "y", "conversations": text},
        {
            "id": "d",
            "source": "y",
            "conversations": CHAT,
            "image": {"bytes": base64.b64encode(png(9)).decode()},
        },
    ]


def test_good_records(
    tmp_path: Path, good: list[dict[str, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    path = write(tmp_path, good)
    assert main(["validate", str(path)]) == 0
    assert capsys.readouterr().out == f"{path}: 4 records, all good\n"
    assert main(["validate", str(path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {
        "file": str(path),
        "records": 4,
        "rejected": [],
    }


def test_pictures_in_another_folder(
    tmp_path: Path, good: list[dict[str, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "lists").mkdir()
    path = write(tmp_path / "lists", good)
    assert main(["validate", str(path), "--images", str(tmp_path)]) == 0
    assert main(["validate", str(path)]) == 2
    assert "2 of 4 records are wrong" in capsys.readouterr().err


def test_each_wrong_record_is_named(
    tmp_path: Path, good: list[dict[str, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "empty.png").write_bytes(b"")
    (tmp_path / "text.png").write_text("not a picture")
    (tmp_path / "cut.png").write_bytes(png()[:-30])
    two = [{"from": "human", "value": "<image><image>\nBoth?"}, CHAT[1]]
    wrong = [
        {**good[0], "id": "empty", "image": "empty.png"},
        {**good[0], "id": "text", "image": "text.png"},
        {**good[0], "id": "cut", "image": "cut.png"},
        {**good[0], "id": "missing", "image": "no.png"},
        {**good[0], "id": "two", "conversations": two},
        {**good[0], "id": "turns", "conversations": []},
        {**good[0], "id": "question", "conversations": CHAT[:1]},
        {**good[0], "id": "a"},
        {**good[0], "id": "bytes", "image": {"bytes": base64.b64encode(b"GIF").decode()}},
    ]
    path = write(tmp_path, [good[0], *wrong, good[2]])
    with path.open("a") as file:
        file.write("{\n")
    assert main(["validate", str(path)]) == 2
    out, err = capsys.readouterr()
    lines = out.splitlines()
    assert [line.split(": ", 1)[0] for line in lines] == [
        f"{path} line {n}" for n in (2, 3, 4, 5, 6, 7, 8, 9, 10, 12)
    ]
    words = ["empty.png", "text.png", "cut.png", "no.png", "<image>", "conversations"]
    words += ["from gpt", "'a' is taken", "picture 1 of 1", "not valid JSON"]
    for line, word in zip(lines, words, strict=True):
        assert word in line
    assert err == "critic-data: error: 10 of 12 records are wrong\n"
    assert main(["validate", str(path), "--json"]) == 2
    document = json.loads(capsys.readouterr().out)
    assert document["records"] == 12
    assert [(bad["line"], bad["id"]) for bad in document["rejected"]] == [
        (n, bad["id"]) for n, bad in enumerate(wrong, start=2)
    ] + [(12, None)]
    assert [bad["reason"] for bad in document["rejected"]] == lines


@pytest.mark.parametrize("verb", ["validate", "stats"])
def test_no_record_is_a_wrong_input(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], verb: str
) -> None:
    path = write(tmp_path, [])
    assert main([verb, str(path)]) == 2
    assert f"{path}: holds no" in capsys.readouterr().err
    assert main([verb, str(tmp_path / "no.jsonl")]) == 2
    assert "no.jsonl: no such file" in capsys.readouterr().err


def test_stats_count_what_is_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    verdicts = [
        "The better response: [second]",
        "The two responses are equally good.",
        "[[A>>B]]",
        "[[C]]",
        "Final Score: 80",
        "Score: 80",
        "Rating: 4",
    ]
    records = [
        {"id": str(n), "source": f"s{n % 2}", "conversations": judged(v), "image": "1.png"}
        for n, v in enumerate(verdicts)
    ]
    two_scores = [CHAT[0], {"from": "gpt", "value": "7 9\nThe second counts right."}]
    records.append({"id": "two", "conversations": two_scores, "image": ["1.png", "2.png"]})
    talk = [{"from": "human", "value": "ab"}, {"from": "gpt", "value": "c"}] * 2
    records.append({"id": "talk", "source": "s1", "conversations": talk})
    path = write(tmp_path, [*records, {"id": "bad"}])
    assert main(["stats", str(path), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["records"] == 9 and found["rejected"] == 1
    assert found["sources"] == {"s0": 4, "s1": 4, "(none)": 1}
    assert found["kinds"] == {
        "pair: better response": 2,
        "pair: [[A>>B]] to [[B>>A]]": 1,
        "pair: [[A]] [[B]] [[C]]": 1,
        "pair: two scores": 1,
        "score: Final Score": 1,
        "score: Score": 1,
        "score: Rating": 1,
        "no verdict": 1,
    }
    assert found["turns"] == {"2": 8, "4": 1}
    assert found["pictures"] == {"0": 1, "1": 7, "2": 1}
    prompt = len(CHAT[0]["value"])
    assert found["prompt_characters"]["minimum"] == 4
    assert found["prompt_characters"]["median"] == prompt
    assert found["prompt_characters"]["total"] == 8 * prompt + 4
    lengths = [len("It shows two birds.\n") + len(v) for v in verdicts]
    lengths += [len("7 9\nThe second counts right."), 2]
    assert found["answer_characters"]["maximum"] == max(lengths)
    assert found["answer_characters"]["total"] == sum(lengths)
    assert main(["stats", str(path)]) == 0
    assert "sources.s0" in capsys.readouterr().out
