"""A published set of judgments, prepared, judged and scored by one command."""

from __future__ import annotations

from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any

from critic_jax.errors import InputError
from critic_jax.evaluation.agreement import measure_agreement
from critic_jax.evaluation.benchmarks.judge_sets import JUDGE_SETS
from critic_jax.evaluation.benchmarks.record import Places, read_records
from critic_jax.evaluation.statistics import DEFAULT, Bootstrap
from critic_jax.files import write_json, write_json_lines
from critic_jax.judging.results import read_results

Judge = Callable[[Path, Path], Any]
"""Judges a file of questions into a file of results."""


def prepare(name: str, data: Path, output: Path, images: Path | None, limit: int | None) -> int:
    """Write a published set as input.jsonl and labels.jsonl into `output`; returns how many lines.

    data: its file, or the folder of its files. images: the folder that the records' paths of
    pictures start from; by default the one that the data lies in. Raises InputError for a wrong
    record.
    """
    start = images or (data if data.is_dir() else data.parent)
    places = Places(start, output)
    asked: list[dict[str, Any]] = []
    labels: list[dict[str, Any]] = []
    first: dict[str, str] = {}
    for record in islice(read_records(data, places), limit):
        for line, label in JUDGE_SETS[name](record):
            if line["id"] in first:
                raise InputError(
                    f"{record.where}: {line['id']!r} is the name of {first[line['id']]} already"
                )
            first[line["id"]] = record.where
            asked.append(line)
            labels.append(label)
    if not asked:
        raise InputError(f"{data}: holds no judgment to compare with")
    write_json_lines(output / "input.jsonl", asked)
    write_json_lines(output / "labels.jsonl", labels)
    return len(asked)


def judge_set(
    name: str,
    data: Path,
    output: Path,
    judge: Judge | None,
    images: Path | None = None,
    limit: int | None = None,
    bootstrap: Bootstrap = DEFAULT,
) -> dict[str, Any]:
    """Prepare a set, judge it and hold the judgments against its labels.

    Beside input.jsonl and labels.jsonl there are then results.jsonl, agreement.json and, where
    labels name the models, battles.jsonl with the judge's verdicts, for a leaderboard. Without a
    judge the first two are all. Goes on where judging was stopped.
    """
    count = prepare(name, data, output, images, limit)
    head = {"benchmark": name, "lines": count, "input": str(output / "input.jsonl")}
    if judge is None:
        return head | {"labels": str(output / "labels.jsonl")}
    results, labels = output / "results.jsonl", output / "labels.jsonl"
    judge(output / "input.jsonl", results)
    found = head | measure_agreement(results, labels, bootstrap=bootstrap)
    _write_battles(results, labels, output / "battles.jsonl")
    write_json(output / "agreement.json", found)
    return found


def _write_battles(results: Path, labels: Path, output: Path) -> None:
    from critic_jax.judging.results import read_labels

    truth = {label["id"]: label for label in read_labels(labels)}
    battles = [
        {
            "question_id": result["id"],
            "model_a": truth[result["id"]]["model_a"],
            "model_b": truth[result["id"]]["model_b"],
            "verdict": result.get("verdict"),
        }
        for result in read_results(results)
        if "model_a" in truth[result["id"]] and "pairs" not in result
    ]
    if battles:
        write_json_lines(output, battles)
