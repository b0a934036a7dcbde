"""Wrong input on the command line: one clear line and exit code 2, or a line in rejected.jsonl."""

import json
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from critic_jax.cli import main

GOOD = {"question": "Which digit?", "image": "0.png", "response": "It is a 7."}
BAD_LINE = 7


def png_header(width: int, height: int) -> bytes:
    """A PNG that announces a size and holds next to nothing."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        check = zlib.crc32(kind + content)
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", check)

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0"))


@pytest.fixture
def bad_pictures(pictures: Path) -> Path:
    (pictures / "empty.png").touch()
    (pictures / "text.png").write_text("a letter, not a picture\n" * 20)
    (pictures / "huge.png").write_bytes(png_header(60_000, 60_000))
    Image.effect_noise((64, 64), 80).save(pictures / "whole.jpg")
    whole = (pictures / "whole.jpg").read_bytes()
    (pictures / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    return pictures


# What stands on line 7 (fields changed and added, or the raw line), and what is said of it.
CASES: dict[str, tuple[dict[str, Any] | str, str]] = {
    "empty picture": ({"image": "empty.png"}, "empty.png: the file is empty (0 bytes)"),
    "cut picture": ({"image": "cut.jpg"}, "cut.jpg: the picture is damaged or cut off"),
    "huge picture": ({"image": "huge.png"}, "huge.png: is too large"),
    "text as picture": ({"image": "text.png"}, "text.png: is not a picture"),
    "missing picture": ({"image": "gone.png"}, "gone.png: no such file"),
    "empty bytes": ({"image": {"bytes": "aGFt"}}, "field 'image': is not a picture"),
    "two markers": (
        {"question": "<image>\n<image>\nWhich?"},
        "2 <image> markers and 1 picture; there should be one marker for each picture",
    ),
    "marker without picture": (
        {"image": None, "question": "<image>\nWhich?"},
        "1 <image> marker and 0 pictures",
    ),
    "malformed": ('{"id": "bad", "question": "x" "y"}', "not valid JSON (Expecting ',' delimiter"),
    "no object": ("[1, 2]", "a list, where a JSON object {...} is wanted"),
    "no question": ({"question": None}, "field 'question' is missing"),
    "no answer": ({"response": None}, "field 'response' is missing"),
    "one of two": ({"response": None, "response_a": "7"}, "field 'response_b' is missing"),
    "three answers": (
        {"response_a": "7", "response_b": "1"},
        "template critic-pairwise compares two answers: give response_a and response_b, and no",
    ),
    "unknown template": ({"template": "mine"}, "no template is called 'mine'; there are critic-"),
    "other kind": ({"template": "mt-bench"}, "template mt-bench compares two answers"),
    "duplicate": ({"id": "q2"}, "id 'q2' is taken by line 3"),
    "no id": ({"id": None}, "field 'id' is missing or no text"),
    "number as text": ({"response": 7}, "field 'response' is int; it should be a text"),
    "list as text": ({"question": ["a", "b"]}, "field 'question' is list; it should be a text"),
}


def write(folder: Path, bad: dict[str, Any] | str) -> Path:
    """Eight lines, the seventh as given."""
    lines = []
    for number in range(8):
        fields: dict[str, Any] = {"id": f"q{number}", **GOOD}
        if number == BAD_LINE - 1:
            if isinstance(bad, str):
                lines.append(bad)
                continue
            fields |= bad
        lines.append(json.dumps({k: v for k, v in fields.items() if v is not None}))
    path = folder / "in.jsonl"
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.fixture
def judge(critic_folder: Path, script: Any, bad_pictures: Path) -> Callable[..., int]:
    """Run the verb on the written input."""
    script(lambda prompt: "Score: 50")

    def run(*words: str) -> int:
        files = ["--input", bad_pictures / "in.jsonl", "--output", bad_pictures / "out.jsonl"]
        return main(["judge", "--model", str(critic_folder), *map(str, files), *words])

    return run


@pytest.mark.parametrize("case", CASES)
def test_a_wrong_line_is_told_or_skipped(
    judge: Callable[..., int], bad_pictures: Path, capsys: Any, case: str
) -> None:
    bad, said = CASES[case]
    source, output = write(bad_pictures, bad), bad_pictures / "out.jsonl"
    assert judge() == 2
    out, error = capsys.readouterr()
    assert out == "" and error.count("\n") == 1
    assert error.startswith(f"critic-jax: error: {source} line {BAD_LINE}: ")
    assert said in error
    assert not output.exists() and not (bad_pictures / "summary.json").exists()

    assert judge("--skip-bad", "--json") == 0
    out, error = capsys.readouterr()
    summary = json.loads(out)
    assert (summary["judgments"], summary["rejected"], error) == (7, 1, "")
    found = [json.loads(text) for text in output.read_text().splitlines()]
    assert [r["id"] for r in found] == [f"q{n}" for n in range(8) if n != BAD_LINE - 1]
    (rejected,) = (bad_pictures / "rejected.jsonl").read_text().splitlines()
    entry = json.loads(rejected)
    assert entry["line"] == BAD_LINE and said in entry["reason"]
    assert entry["reason"].count("line 7") == 1 and str(source) in entry["reason"]
    expected = None if isinstance(bad, str) else bad.get("id", "q6")
    assert entry["id"] == expected

    # Put right, only that line is judged, and nothing is left to be told.
    write(bad_pictures, {})
    assert judge("--skip-bad") == 0
    assert len(output.read_text().splitlines()) == 8
    assert not (bad_pictures / "rejected.jsonl").exists()


def test_several_wrong_lines_are_listed_in_order(
    judge: Callable[..., int], bad_pictures: Path, capsys: Any
) -> None:
    lines = [
        {"id": "a", **GOOD, "image": "gone.png"},
        {"id": "b", **GOOD, "template": "mine"},
        {"id": "c", **GOOD},
        {"id": "d", **GOOD, "image": "empty.png", "response": None},
        {"id": "e", "question": "?", "image": "gone.png", "response_a": "1", "response_b": "7"},
    ]
    text = "\n".join(json.dumps(fields) for fields in lines)
    (bad_pictures / "in.jsonl").write_text(text)
    assert judge("--skip-bad", "--order", "both") == 0
    rejected = (bad_pictures / "rejected.jsonl").read_text().splitlines()
    assert [json.loads(r)["line"] for r in rejected] == [1, 2, 4, 5]
    assert len((bad_pictures / "out.jsonl").read_text().splitlines()) == 1
    assert "rejected" in capsys.readouterr().out


def test_a_wrong_command_is_told(critic_folder: Path, pictures: Path, capsys: Any) -> None:
    source, output = str(write(pictures, {})), str(pictures / "out.jsonl")
    nowhere = str(pictures / "none")
    for model, input, said in [
        (nowhere, source, f"{nowhere}: no such checkpoint folder"),
        (str(pictures), source, f"{pictures}: holds neither critic.json"),
        (str(critic_folder), nowhere, f"{nowhere}: no such file"),
        (str(critic_folder), str(pictures), f"{pictures}: a folder, where a JSONL or JSON file"),
    ]:
        assert main(["judge", "--model", model, "--input", input, "--output", output]) == 2
        error = capsys.readouterr().err
        assert error.count("\n") == 1 and said in error
    assert not Path(output).exists()
