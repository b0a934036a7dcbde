"""Commands that are killed again and again end with what those end with that were left alone."""

import json
from pathlib import Path
from typing import Any

import pytest
from killed import finish, kill_while_it_writes, start

from critic_jax.cli import main
from critic_jax.files import write_json_lines


def line(number: int) -> dict[str, Any]:
    """Scores, pairs and rankings, several about each picture; all texts differ."""
    fields: dict[str, Any] = {"id": f"q{number}", "question": f"Which digit is it, {number}?"}
    if number % 9:
        fields["image"] = f"{number % 8}.png"
    if number % 10 == 3:
        return fields | {"responses": [f"It is a {n}." for n in range(number % 2 + 2)]}
    if number % 3 == 0:
        return fields | {"response_a": "It is a 7.", "response_b": "It is a 1."}
    return fields | {"response": f"It is a {number % 7}."}


def test_a_killed_judge_goes_on(critic_folder: Path, pictures: Path) -> None:
    """A storm of five kills over 2,000 lines is among the tests of the demo's critic."""
    lines = 200
    source = write_json_lines(pictures / "in.jsonl", [line(n) for n in range(lines)])
    whole, output = pictures / "whole" / "r.jsonl", pictures / "killed" / "r.jsonl"
    words = ["judge", "--model", critic_folder, "--input", source, "--order", "both", "--output"]
    finish(start(*words, whole, "--no-cache"))
    kill_while_it_writes([*words, output], [output.with_name("r.jsonl.partial")], 1, lines)
    found = [json.loads(text) for text in output.read_text().splitlines()]
    asked = [(f"q{n}", o) for n in range(lines) for o in _orders(line(n))]
    assert [(r["id"], r.get("order")) for r in found] == asked
    assert output.read_bytes() == whole.read_bytes()
    summaries = [json.loads((p.parent / "summary.json").read_text()) for p in (whole, output)]
    assert summaries[0] == summaries[1] and summaries[0]["rejected"] == 0
    assert sorted(p.name for p in output.parent.iterdir()) == ["r.jsonl", "summary.json"]


def _orders(fields: dict[str, Any]) -> list[str | None]:
    return ["ab", "ba"] if "response_a" in fields else [None]


@pytest.mark.parametrize(
    ("best", "kills"), [(False, 1), pytest.param(True, 4, marks=pytest.mark.slow)]
)
def test_a_killed_generate_goes_on(
    critic_folder: Path, pictures: Path, capsys: Any, best: bool, kills: int
) -> None:
    """Each prompt stands there twice: what is drawn for the second depends on the first."""
    lines: list[dict[str, Any]] = [
        {"id": f"q{number}", "prompt": f"Which digit is it, {number % 50}?"}
        for number in range(100)
    ]
    for fields in lines[::2]:
        fields["image"] = "0.png"
    source = write_json_lines(pictures / "in.jsonl", lines)
    words = ["generate", "--model", critic_folder, "--input", source, "--max-new-tokens", "8"]
    more = ["--best-of", "3", "--judge", critic_folder] if best else ["--n", "3"]
    more += ["--temperature", "1"]
    whole, output = pictures / "whole.jsonl", pictures / "killed" / "a.jsonl"
    assert main([*map(str, [*words, *more]), "--output", str(whole)]) == 0
    partials = [output.with_name(f"a.jsonl{end}.partial") for end in (".answers", "")]
    kill_while_it_writes([*words, *more, "--output", output], partials, kills, 0)
    found = [json.loads(text) for text in output.read_text().splitlines()]
    assert [r["id"] for r in found] == [f"q{number}" for number in range(100)]
    assert output.read_bytes() == whole.read_bytes()
    # Equal prompts got answers of their own.
    assert sum(found[n]["responses"] != found[n + 50]["responses"] for n in range(50)) > 45
    assert [path.name for path in output.parent.iterdir()] == ["a.jsonl"]
