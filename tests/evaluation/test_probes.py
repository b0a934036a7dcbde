"""Probes of judges with known faults: each fault shows where it should, and nowhere else."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from critic_jax.cli import main
from critic_jax.data import read_json_lines
from critic_jax.evaluation.probes import CHANGES, PLAIN
from critic_jax.files import write_json_lines
from critic_jax.judging.ask import Ask
from critic_jax.testing import FakeCritic


class Looking(FakeCritic):
    """A judge that is also told the mean shade of the picture it is asked about."""

    def __init__(self, say: Any) -> None:
        super().__init__(lambda prompt: str(say(prompt, self.shade)))
        self.shade = 0

    def visuals(self, image: Any, name: str = "image") -> Any:
        found = super().visuals(image, name)
        (source,) = image if isinstance(image, list | tuple) else [image]
        with Image.open(source) as picture:
            self.shades[found[0]] = picture.convert("RGB").getpixel((0, 0))[0]
        return found

    shades: dict[Any, int] = {}  # noqa: RUF012

    def judge(self, asks: Any, *more: Any) -> Any:
        found = []
        for ask in asks:
            assert isinstance(ask, Ask)
            self.shade = self.shades[ask.visuals[0]]
            found += super().judge([ask], *more)
        return found


def answers(prompt: str) -> tuple[str, str]:
    first, second = re.findall(r"(?:first|second) response: \[(.*?)\]", prompt, re.DOTALL)[-2:]
    return first, second


def better(word: str) -> str:
    return f"The better response: [{word}]."


def truthful(prompt: str, shade: int) -> str:
    """Prefers the answer that names the picture's shade; else the two are equally good."""
    if "The LMM response" in prompt:
        return "Score: 90" if f"shade {shade}" in prompt else "Score: 10"
    first, second = (f"shade {shade}." in text for text in answers(prompt))
    if first == second:
        return "Both are equally good."
    return better("first" if first else "second")


def longest(prompt: str, shade: int) -> str:
    if "The LMM response" in prompt:
        return f"Score: {min(99, len(prompt) - prompt.index('The LMM response'))}"
    first, second = answers(prompt)
    return better("first" if len(first) >= len(second) else "second")


def always_first(prompt: str, shade: int) -> str:
    return "Score: 50" if "The LMM response" in prompt else better("first")


@pytest.fixture
def lines(tmp_path: Path) -> tuple[Path, Path]:
    """Ten pictures, a pair and a score on each; true is the answer with the picture's shade."""
    asked, labels = [], []
    for n in range(10):
        Image.new("RGB", (20 + n, 16), (100 + n, 0, 0)).save(tmp_path / f"{n}.png")
        true, wrong = f"It is shade {100 + n}.", f"It is shade {50 + n}."
        pair = (true, wrong) if n % 2 else (wrong, true)
        common = {"image": f"{n}.png", "question": "Which shade?"}
        sides = dict(zip(("response_a", "response_b"), pair, strict=True))
        asked.append({"id": f"p{n}", **common, **sides})
        asked.append({"id": f"s{n}", **common, "response": f"It is shade {100 + n}!"})
        models = ("me", "you") if n < 6 else ("you", "me")
        label = {"id": f"p{n}", "verdict": "A" if n % 2 else "B"}
        labels.append(label | {"model_a": models[0], "model_b": models[1]})
    files = tmp_path / "lines.jsonl", tmp_path / "labels.jsonl"
    for path, found in zip(files, (asked, labels), strict=True):
        write_json_lines(path, found)
    return files


def probed(
    lines: tuple[Path, Path],
    say: Any,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    *more: str,
) -> dict[str, Any]:
    folder = lines[0].parent
    monkeypatch.setenv("CRITIC_JAX_CACHE", str(folder / "cache"))
    monkeypatch.setattr("critic_jax.judging.batch._load", lambda *a, **k: Looking(say))
    words = ["evaluate", "probe", "--model", "x", "--input", str(lines[0])]
    words += ["--output", str(folder / "out"), "--labels", str(lines[1]), "--resamples", "20"]
    assert main([*words, *more, "--json"]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert json.loads((folder / "out/probes.json").read_text()) == found
    return found


def value(found: dict[str, Any], *names: str) -> Any:
    for name in names:
        found = found[name]
    return found["value"]


def test_a_judge_that_looks_moves_with_the_picture_alone(
    lines: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    found = probed(lines, truthful, monkeypatch, capsys)
    for change in (PLAIN, "swapped", "padded"):
        assert value(found, change, "pairs", "accuracy") == 1.0
        assert value(found, change, "pairs", "moved") == 0.0
        assert value(found, change, "pairs", "towards_b") == 0.0
    for change in ("blank", "exchanged"):
        assert value(found, change, "pairs", "accuracy") == 0.0  # all ties now
        assert value(found, change, "pairs", "moved") == 1.0
        assert value(found, change, "scores", "change") == -80.0
        assert value(found, change, "scores", "moved") == 80.0
    assert value(found, "padded", "scores", "moved") == 0.0
    assert found["swapped"]["asked"] == 10 and found["blank"]["asked"] == 20
    asked = [line for _, line in read_json_lines(lines[0].parent / "out/input.jsonl")]
    assert {line["id"].split("|")[1] for line in asked} == {PLAIN, *CHANGES}
    pictures = {line["id"]: line["image"] for line in asked}
    for name, image in pictures.items():
        if name.endswith("|exchanged"):
            assert image != [pictures[name.replace("exchanged", PLAIN)]]


def test_a_judge_of_length_moves_with_padding_alone(
    lines: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    found = probed(lines, longest, monkeypatch, capsys)
    plain = value(found, PLAIN, "pairs", "accuracy")
    # B is longer now wherever A was ahead: it gains what it had not.
    assert value(found, "padded", "pairs", "towards_b") == value(found, "padded", "pairs", "moved")
    assert value(found, "padded", "pairs", "towards_b") > 0
    assert value(found, "padded", "scores", "change") > 10
    for change in ("blank", "exchanged"):
        assert value(found, change, "pairs", "moved") == 0.0
        assert value(found, change, "pairs", "accuracy") == plain


def test_a_judge_of_places_moves_with_swapping_alone(
    lines: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    found = probed(lines, always_first, monkeypatch, capsys, "--own", "me")
    assert value(found, "swapped", "pairs", "moved") == 1.0
    assert value(found, "swapped", "pairs", "towards_b") == 1.0
    for change in ("padded", "blank", "exchanged"):
        assert value(found, change, "pairs", "moved") == 0.0
    # In both places it is for its own as often as for others.
    assert value(found, "self_preference", "judged") == 0.5
    # By the labels: p1, p3, p5 of the first six (as A), p6, p8 of the others (as B).
    assert value(found, "self_preference", "labelled") == 0.5
    assert found["self_preference"]["pairs"] == 10


def test_a_judge_that_knows_its_own(
    lines: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = [line for _, line in read_json_lines(lines[0])]
    labels = {label["id"]: label for _, label in read_json_lines(lines[1])}
    for line in asked:
        if line["id"] in labels:
            side = "response_a" if labels[line["id"]]["model_a"] == "me" else "response_b"
            line[side] += " I say."
    write_json_lines(lines[0], asked)

    def vain(prompt: str, shade: int) -> str:
        if "The LMM response" in prompt:
            return "Score: 50"
        return better("first" if "I say" in answers(prompt)[0] else "second")

    found = probed(lines, vain, monkeypatch, capsys, "--own", "me")
    assert value(found, "self_preference", "judged") == 1.0
    assert value(found, "self_preference", "more") == 0.5


def test_wrong_use_is_one_line(
    lines: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["evaluate", "probe", "--model", "x", "--input", str(lines[0]), "--output"]
    assert main([*words, str(tmp_path / "o"), "--own", "me"]) == 2
    assert "name them with --labels" in capsys.readouterr().err
    empty = write_json_lines(tmp_path / "rank.jsonl", [])
    assert main([*words[:5], str(empty), "--output", str(tmp_path / "o")]) == 2
    assert "holds no line with a response" in capsys.readouterr().err
