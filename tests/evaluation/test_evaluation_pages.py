"""Pages of evaluations: fed by files that the other verbs write, the paper's numbers beside."""

import json
from html import unescape
from pathlib import Path
from typing import Any

import pytest

from critic_jax.cli import main
from critic_jax.evaluation.pages import published
from critic_jax.files import write_json, write_json_lines

DOCS = Path(__file__).parents[2] / "docs"


def estimate(value: float | None) -> dict[str, Any]:
    return {"value": value, "interval": None if value is None else [value - 1, value + 1]}


def printed(capsys: pytest.CaptureFixture[str], path: Path, *words: str) -> Path:
    assert main(["evaluate", *words, "--json", "--resamples", "20"]) == 0
    path.write_text(capsys.readouterr().out)
    return path


def agreement_file(capsys: pytest.CaptureFixture[str], folder: Path, judge: str, off: int) -> Path:
    """A judge that is off by one on every `off`th score, and right about every pair but one."""
    labels: list[dict[str, Any]] = []
    results: list[dict[str, Any]] = []
    for n in range(12):
        label = {"id": f"s{n}", "score": n % 5, "model": f"m{n % 3}", "group": f"bench{n % 2}"}
        labels.append(label)
        results.append({"id": f"s{n}", "score": n % 5 + (n % off == 0), "model": judge})
        labels.append({"id": f"p{n}", "verdict": "AB"[n % 2], "model_a": "x", "model_b": "y"})
        results.append({"id": f"p{n}", "verdict": "AB"[n % 2] if n else "tie", "model": judge})
    files = [
        write_json_lines(folder / judge / f"{n}.jsonl", x)
        for n, x in (("r", results), ("l", labels))
    ]
    words = ["agreement", "--results", str(files[0]), "--labels", str(files[1])]
    return printed(capsys, folder / judge / "agreement.json", *words)


def test_a_page_of_everything(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = [agreement_file(capsys, tmp_path, f"judge<{n}>", n) for n in (2, 3)]
    battles = [
        {"question_id": n, "model_a": "anchor", "model_b": "it", "verdict": v}
        for n, v in enumerate(["B>A", "B>A", "A>B"])
    ]
    battle_file = write_json_lines(tmp_path / "battles.jsonl", battles)
    words = ["leaderboard", "--battles", str(battle_file), "--anchor", "anchor"]
    files.append(printed(capsys, tmp_path / "leaderboard.json", *words))
    for policy, value in (("base", 90.5), ("base + critic", 100.25)):
        score = {"unparsed_wrong": estimate(value), "unparsed_left_out": estimate(value + 1)}
        document = {"benchmark": "llava-in-the-wild", "model": policy, "score": score}
        files.append(write_json(tmp_path / policy / "score.json", document))
    form = {"asked": 3, "unparsed_rate": estimate(0.0), "pairs": {"moved": estimate(0.125)}}
    probes = {"model": "it", **dict.fromkeys(("plain", "swapped", "padded", "blank"), form)}
    files.append(write_json(tmp_path / "probes.json", probes))
    output = tmp_path / "page.html"
    assert main(["evaluate", "page", *map(str, files), "--output", str(output)]) == 0
    assert capsys.readouterr().out.strip() == str(output)
    text = output.read_text()
    assert "judge<2>" not in text and "judge&lt;2&gt;" in text  # names stay text
    text = unescape(text)
    for piece in (
        *("Judges and labels", "Pearson's r by benchmark", "bench0", "bench1"),
        *("judge<2>: scores", "judge<3>: winners", "judge<2>: models, best by the labels first"),
        *("Judges beside each other", "Policies", "base + critic", "100.25", "90.5"),
        *("Leaderboards", "Probability of winning against anchor, in percent", "66.67"),
        *("Probes", "0.125", "mean of groups"),
    ):
        assert piece in text, piece
    assert "The paper's numbers" not in text


def test_the_papers_numbers_on_a_page_and_in_the_docs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "paper.html"
    assert main(["evaluate", "page", "--paper", "--output", str(output)]) == 0
    text = unescape(output.read_text())
    tables = published()
    docs = (DOCS / "reproduce.md").read_text()
    for name in ("pointwise", "pairwise", "mllm-judge", "policies"):
        assert tables[name]["caption"] in text
        for row, values in tables[name]["rows"].items():
            assert len(values) == len(tables[name]["columns"])
            shown = [f" {value:g} " if value is not None else " – " for value in values]
            assert f"| {row} |{'|'.join(shown)}|" in docs, row
    assert tables["about"] in text and "Scaling: more data, a larger model" in text


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("{", "not JSON"),
        ("[1]", "is none of what critic-jax evaluate writes"),
        ('{"a": 1}', "is none of what critic-jax evaluate writes"),
    ],
)
def test_wrong_files_are_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: str, words: str
) -> None:
    path = tmp_path / "x.json"
    path.write_text(content)
    assert main(["evaluate", "page", str(path), "--output", str(tmp_path / "p.html")]) == 2
    err = capsys.readouterr().err
    assert words in err and str(path) in err and err.count("\n") == 1


def test_wrong_use_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", "page"]) == 2
    assert "no files named" in capsys.readouterr().err
    path = write_json(tmp_path / "x.json", {})
    assert main(["evaluate", "page", str(path), "--output", str(path)]) == 2
    assert "name another page to write" in capsys.readouterr().err
    assert json.loads(path.read_text()) == {}
