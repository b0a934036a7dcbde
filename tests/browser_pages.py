"""Pages as the public verbs make them, of scripted judges: for tests that open them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from data_tools_helpers import write_answers
from published_records import records, write_set
from published_set import picture_file

from critic_data.cli import main as critic_data
from critic_jax.cli import main as critic_jax
from critic_jax.files import write_json_lines
from critic_jax.testing import FakeCritic

PAIRS, SINGLES = 12, 6
LONG = "Pneumonoultramicroscopicsilicovolcanoconiosis" * 3

Printed = Callable[[], str]
"""What a verb has printed since the last call."""


def judged(folder: Path, patch: pytest.MonkeyPatch) -> Path:
    """A page of judgments about photographs: pairs in both orders, single answers, labels.

    Of the pairs 0 to 11 by their number: every third names whoever stands first, number 7 cannot
    be read, of the rest A is said to be better, which the labels deny of 2 and 8.
    """
    lines: list[dict[str, Any]] = []
    labels: list[dict[str, Any]] = []
    for n in range(PAIRS + SINGLES):
        (folder / f"{n}.jpg").write_bytes(picture_file(n))
        line: dict[str, Any] = {"id": f"q{n}", "image": f"{n}.jpg"}
        if n < PAIRS:
            asked = f"What is going on in number {n}?" + (f" {LONG}" if n == 1 else "")
            answers = {"response_a": f"True of {n}.", "response_b": f"False of {n}. " + "So. " * n}
            lines.append({**line, "question": asked, **answers, "template": "mt-bench"})
            labels.append({"id": f"q{n}", "verdict": "B" if n in (2, 8) else "A"})
        else:
            if n == PAIRS:
                line["image"] = [f"{k}.jpg" for k in range(4)]
            lines.append({**line, "question": f"Describe {n}.", "response": f"It is {n}. \u05e9"})
            labels.append({"id": f"q{n}", "score": 60 + n})
    source = write_json_lines(folder / "input.jsonl", lines)
    truth = write_json_lines(folder / "labels.jsonl", labels)
    patch.setattr("critic_jax.judging.batch._load", lambda *a, **k: FakeCritic(_says))
    results = folder / "results.jsonl"
    words = ["judge", "--model", "x", "--input", str(source), "--output", str(results)]
    assert critic_jax([*words, "--order", "both"]) == 0
    page = folder / "judged.html"
    words = ["report", str(results), "--output", str(page), "--labels", str(truth)]
    assert critic_jax(words) == 0
    return page


def _says(prompt: str) -> str:
    if "[The Start of Assistant A" not in prompt:
        number = int(prompt.split("The LMM response: [It is ")[1].split(".")[0])
        return f"It tells what there is, {LONG}.\nScore: {60 + number - number % 2}"
    number = int(prompt.split("True of ")[1].split(".")[0])
    first = prompt.index("True of") < prompt.index("False of")
    if number == 7:
        return "I cannot say which of the two is better."
    if number % 3 == 0:
        return "The first one is better.\n[[A]]"
    return f"What is true is better than what is not, as number {number} shows.\n[[{'BA'[first]}]]"


def evaluated(folder: Path, patch: pytest.MonkeyPatch, printed: Printed) -> Path:
    """A page of two judges' agreement, two policies, a leaderboard, probes, the paper's numbers."""
    files: list[Path] = []

    def run(judge: str, say: Any, *words: str) -> None:
        patch.setattr("critic_jax.judging.batch._load", lambda *a, **k: FakeCritic(say, judge))
        assert critic_jax(["evaluate", *words, "--resamples", "20"]) == 0

    def benchmark(name: str, out: str, judge: str, say: Any, *words: str) -> Path:
        data, output = write_set(folder / name, name, records(name)), folder / out
        where = ("--data", str(data), "--output", str(output), "--judge", judge)
        run(judge, say, "benchmark", name, *where, *words)
        return output

    for judge, text in (("critic-7b", "Answer 1"), ("critic-72b", "Answer 2")):
        said = f"Overall Judgment: {text} is better."
        files.append(benchmark("vl-rewardbench", judge, judge, said) / "agreement.json")
    for policy, scores in (("base", "8 6"), ("base + critic", "8 9")):
        answers = [{"id": str(n), "response": f"{policy} says {n}."} for n in range(3)]
        named = write_json_lines(folder / policy / "a.jsonl", answers)
        words = ("--model", policy, "--answers", str(named))
        found = benchmark("llava-in-the-wild", f"wild {policy}", "critic", f"{scores}\n", *words)
        files.append(found / "score.json")
    labels: list[dict[str, Any]] = []
    results: list[dict[str, Any]] = []
    for n in range(24):
        label = {"id": f"s{n}", "score": n % 5, "model": f"m{n % 3}", "group": f"bench{n % 4}"}
        labels.append(label)
        results.append({"id": f"s{n}", "score": n % 5 + (n % 6 == 0), "model": "critic-7b"})
    pair = [write_json_lines(folder / f"{n}.jsonl", x) for n, x in (("r", results), ("l", labels))]
    printed()
    run("", "", "agreement", "--results", str(pair[0]), "--labels", str(pair[1]), "--json")
    files.append(folder / "scores.json")
    files[-1].write_text(printed())
    verdicts = ("A>>B", "A>B", "A=B", "B>A", "B>>A")
    battles = [
        {"question_id": n, "model_a": "anchor", "model_b": f"model-{n % 4}", "verdict": verdict}
        for n in range(40)
        for verdict in [verdicts[min(4, n // 4 % 3 + n % 4)]]
    ]
    file = write_json_lines(folder / "battles.jsonl", battles)
    run("", "", "leaderboard", "--battles", str(file), "--anchor", "anchor", "--json")
    files.append(folder / "leaderboard.json")
    files[-1].write_text(printed())
    (folder / "pictures").mkdir()
    asked = []
    for n in range(4):
        (folder / f"pictures/{n}.jpg").write_bytes(picture_file(n))
        texts = {"question": "What?", "response_a": f"True of {n}.", "response_b": f"False of {n}."}
        asked.append({"id": f"p{n}", "image": f"pictures/{n}.jpg", **texts, "template": "mt-bench"})
    source = write_json_lines(folder / "probed.jsonl", asked)
    probes = folder / "probes"
    where = ("--input", str(source), "--output", str(probes))
    run("critic-7b", _says, "probe", "--model", "critic-7b", *where)
    files.append(probes / "probes.json")
    page = folder / "evaluated.html"
    words = ["evaluate", "page", *map(str, files), "--paper", "--output", str(page)]
    assert critic_jax(words) == 0
    return page


def sampled(folder: Path) -> Path:
    """A page to browse of critic data, records of single answers about photographs."""
    write_answers(folder, 40)
    records_file = folder / "records.jsonl"
    lines = [json.loads(text) for text in (folder / "answers.jsonl").read_text().splitlines()]
    made = [
        {
            "id": line["id"],
            "source": line["source"],
            "image": line["image"],
            "conversations": [
                {"from": "human", "value": f"<image>\nQuestion: [{line['question']}]\n{LONG}"},
                {"from": "gpt", "value": f"{line['response']}\nScore: {n}"},
            ],
        }
        for n, line in enumerate(lines)
    ]
    write_json_lines(records_file, made)
    page = folder / "sample.html"
    assert critic_data(["quality", str(records_file), "--page", str(page)]) == 0
    return page
