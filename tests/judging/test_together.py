"""Several processes and several replicas judge and answer as one of each does."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from together import Ended, run

from critic_jax.cli import main
from critic_jax.files import write_json_lines

PROCESSES = 2


def judge_lines() -> list[dict[str, Any]]:
    """Scores, comparisons and rankings about two pictures and none; answers of many lengths."""
    lines: list[dict[str, Any]] = []
    for n in range(9):
        answers = ["Yes, " * (3 * k + n) + f"{k}." for k in range(3)]
        asked: dict[str, Any] = [
            {"response": answers[1]},
            {"response_a": answers[0], "response_b": answers[2]},
            {"responses": answers},
        ][n % 3]
        image = {} if n == 4 else {"image": f"{n % 2}.png"}
        lines.append({"id": f"q{n}", "question": f"Is it {n}?", **image, **asked})
    return lines


def prompt_lines() -> list[dict[str, Any]]:
    """Prompts about pictures, some of them alike."""
    texts = ["What is it?", "Which colour?", "What is it?", "Say more. " * 5, "Which colour?"]
    return [{"id": f"p{n}", "image": f"{n % 2}.png", "prompt": t} for n, t in enumerate(texts)]


class Case(NamedTuple):
    """What is asked for by words; replicas: how several processes hold the model."""

    name: str
    verb: str
    words: tuple[str, ...]
    replica: tuple[str, ...] = ()
    code: int = 0


JUDGING = ("--order", "both", "--max-new-tokens", "20", "--no-cache")
SAMPLING = ("--n", "3", "--temperature", "1", "--max-new-tokens", "14")
BEST = ("--best-of", "2", "--max-new-tokens", "8", "--judge", "MODEL")
BAD = ("--input", "BAD", "--max-new-tokens", "8", "--no-cache")
ALL = ("--replica-devices", "ALL")
CASES = [
    Case("judged", "judge", JUDGING),
    Case("judged by one", "judge", JUDGING, ALL),
    Case("answered", "generate", SAMPLING),
    Case("a bad picture for one", "judge", BAD, ALL, code=2),
    Case("undivided", "judge", JUDGING, ("--replica-devices", "3"), code=2),
]
MORE = [
    Case("judged by four", "judge", JUDGING),
    Case("answered by one", "generate", SAMPLING, ALL),
    Case("the best", "generate", BEST),
    Case("a bad picture", "judge", BAD, code=2),
    Case("without a bad picture", "judge", (*BAD, "--skip-bad")),
    Case("without a bad picture by one", "judge", (*BAD, "--skip-bad"), ALL),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from PIL import Image

    folder = tmp_path_factory.mktemp("together")
    for number in range(2):
        Image.new("RGB", (16, 16), (200 * number, 90, 60)).save(folder / f"{number}.png")
    (folder / "broken.png").write_bytes(b"no picture")
    write_json_lines(folder / "judge.jsonl", judge_lines())
    write_json_lines(folder / "generate.jsonl", prompt_lines())
    bad = {"id": "bad", "image": "broken.png", "question": "?", "response": "Yes."}
    write_json_lines(folder / "bad.jsonl", [*judge_lines()[:4], bad])
    return folder


def words(case: Case, critic: Path, folder: Path, where: str) -> list[str]:
    """The command of a case, whose output stands in a folder of its own."""
    named = {"MODEL": str(critic), "BAD": str(folder / "bad.jsonl")}
    said = [named.get(word, word) for word in case.words]
    if "--input" not in said:
        said += ["--input", str(folder / f"{case.verb}.jsonl")]
    output = folder / where / case.name / "out.jsonl"
    return [case.verb, "--model", str(critic), *said, "--output", str(output)]


def ended(
    cases: list[Case], devices: int, critic: Path, folder: Path
) -> dict[str, tuple[Ended, ...]]:
    """What each process says of each case, by its name; devices: of each process."""
    everyone = str(PROCESSES * devices)
    commands = [
        [
            *words(case, critic, folder, "together"),
            *(everyone if word == "ALL" else word for word in case.replica),
        ]
        for case in cases
    ]
    each = zip(*run(commands, PROCESSES, devices), strict=True)
    return {case.name: told for case, told in zip(cases, each, strict=True)}


def check(case: Case, told: tuple[Ended, ...], critic: Path, folder: Path, capsys: Any) -> None:
    """Both ended as one process does, which is asked now, and left the same files."""
    (code, out, error), (other_code, other_out, other_error) = told
    assert (code, other_code) == (case.code, case.code), (error, other_error)
    assert not other_out  # told once
    assert main(words(case, critic, folder, "alone")) == case.code
    said = capsys.readouterr()
    alone, shared = (folder / where / case.name for where in ("alone", "together"))
    if case.code:
        assert error == other_error == said.err and error.count("\n") == 1
        assert "broken.png" in error and not (shared / "out.jsonl").exists()
        return
    assert out == said.out
    names = sorted(path.name for path in alone.iterdir())
    assert sorted(path.name for path in shared.iterdir()) == names
    for name in names:
        assert (shared / name).read_text() == (alone / name).read_text(), name
    lines = [json.loads(line) for line in (shared / "out.jsonl").read_text().splitlines()]
    assert len({line["id"] for line in lines}) > 3


def test_what_several_do_is_what_one_does(
    critic_folder: Path, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    together = ended(CASES, 1, critic_folder, folder)
    for case in CASES[:-1]:
        check(case, together[case.name], critic_folder, folder, capsys)
    for code, _, error in together["undivided"]:
        assert code == 2 and error.count("\n") == 1
        assert "replica_devices is 3; with 1 devices here and 2 in all it may be 1, 2" in error


@pytest.mark.slow
def test_what_else_several_do_is_what_one_does(
    critic_folder: Path, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    together = ended(MORE, 2, critic_folder, folder)
    for case in MORE:
        check(case, together[case.name], critic_folder, folder, capsys)
