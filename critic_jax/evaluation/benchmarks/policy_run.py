"""A benchmark of a policy by one command: it answers, the judge reads, the number is worked out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from critic_jax.data import read_json_lines
from critic_jax.errors import InputError
from critic_jax.evaluation.benchmarks.judge_run import Judge
from critic_jax.evaluation.benchmarks.policy_sets import (
    POLICY_SETS,
    WILDVISION_ANCHOR,
    Benchmark,
    Task,
)
from critic_jax.evaluation.benchmarks.record import Places, read_records
from critic_jax.evaluation.leaderboard import Battle, leaderboard
from critic_jax.evaluation.measures import LEFT_OUT, WRONG, Measures, measured
from critic_jax.evaluation.statistics import DEFAULT, Bootstrap, Statistic
from critic_jax.evaluation.statistics import Places as Numbers
from critic_jax.files import write_json, write_json_lines
from critic_jax.judging.results import read_results

Answer = Callable[[Path, Path], Any]
"""Answers a file of prompts into a file of answers."""


def read_tasks(
    name: str, data: Path, output: Path, images: Path | None, limit: int | None, frames: int
) -> list[Task]:
    """The prompts of a benchmark's file, or folder of files; see `judge_run.prepare`.

    frames: how many are taken of a video."""
    start = images or (data if data.is_dir() else data.parent)
    tasks: dict[str, Task] = {}
    for record in islice(read_records(data, Places(start, output, frames)), limit):
        task = POLICY_SETS[name].read(record)
        if task.id in tasks:
            raise InputError(f"{record.where}: an earlier record is named {task.id!r} too")
        tasks[task.id] = task
    if not tasks:
        raise InputError(f"{data}: holds no question")
    return list(tasks.values())


def read_answers(path: Path, tasks: Sequence[Task]) -> dict[str, str]:
    """Each task's answer: lines of `id` and `response`, or `responses` as `generate` writes them.

    Raises InputError for a wrong file, and where an answer is missing.
    """
    answers: dict[str, str] = {}
    for number, fields in read_json_lines(path):
        said = fields.get("response", fields.get("responses"))
        text = said[0] if isinstance(said, list) and said else said
        if "id" not in fields or not isinstance(text, str):
            raise InputError(
                f"{path} line {number}: an answer is an id and response, a text, "
                "or responses, a list of texts"
            )
        answers[str(fields["id"])] = text
    missing = [task.id for task in tasks if task.id not in answers]
    if missing:
        raise InputError(f"{path}: answers {len(missing)} questions not, first {missing[0]!r}")
    return answers


def policy_benchmark(
    name: str,
    data: Path,
    output: Path,
    policy: str,
    answer: Answer | Path,
    judge: Judge,
    images: Path | None = None,
    limit: int | None = None,
    bootstrap: Bootstrap = DEFAULT,
    frames: int = 8,
) -> dict[str, Any]:
    """Answer, judge and score; `policy` names whose answers they are.

    answer: what answers a file of prompts, or a file of answers. In `output` there are then
    prompts.jsonl, answers.jsonl, input.jsonl, results.jsonl and score.json, for WildVision-Bench
    battles.jsonl too. Goes on where it was stopped.
    """
    benchmark = POLICY_SETS[name]
    tasks = read_tasks(name, data, output, images, limit, frames)
    prompts = [
        {"id": t.id, "prompt": t.prompt} | ({"image": list(t.images)} if t.images else {})
        for t in tasks
    ]
    asked = write_json_lines(output / "prompts.jsonl", prompts)
    if not isinstance(answer, Path):
        answer(asked, output / "answers.jsonl")
        answer = output / "answers.jsonl"
    answers = read_answers(answer, tasks)
    lines = [{**t.judged, t.answer_in: answers[t.id]} for t in tasks]
    judge(write_json_lines(output / "input.jsonl", lines), output / "results.jsonl")
    by_id = {result["id"]: result for result in read_results(output / "results.jsonl")}
    results = [by_id[task.id] for task in tasks]
    document = {"benchmark": name, "model": policy, "judge": results[0].get("model")}
    if benchmark.scale == "battle":
        battles = [
            Battle(t.id, WILDVISION_ANCHOR, policy, r.get("verdict"))
            for t, r in zip(tasks, results, strict=True)
        ]
        write_json_lines(output / "battles.jsonl", map(vars, battles))
        rows = leaderboard(battles, WILDVISION_ANCHOR, bootstrap)
        row = next(row for row in rows if row["model"] == policy)
        document |= {"score": {LEFT_OUT: {"value": row["score"], "interval": row["interval"]}}}
        unread = sum(result["state"] == "unparsed" for result in results)
        document["unparsed_rate"] = {"value": unread / len(results), "interval": None}
        document |= {name: row[name] for name in ("win_rate", "reward", "votes", "counts")}
    else:
        groups = [task.group for task in tasks]
        document |= measured(measures_of(benchmark, results), groups, bootstrap)
    write_json(output / "score.json", document)
    return document


def measures_of(benchmark: Benchmark, results: Sequence[Mapping[str, Any]]) -> Measures:
    """unparsed_rate, the benchmark's score in both readings, and where ratings tell what is
    hallucinated, the `hallucination_rate`."""
    unread = np.array([result["state"] == "unparsed" for result in results])
    ours, theirs = np.empty(len(results)), np.ones(len(results))
    for n, result in enumerate(results):
        if unread[n]:
            ours[n], theirs[n] = benchmark.lowest, benchmark.highest
        elif benchmark.scale == "ratio":
            theirs[n], ours[n] = result["scores"]
        else:
            ours[n] = result["score"]
    if benchmark.scale == "percent":
        ours = 100.0 * ours / benchmark.highest
    if benchmark.scale != "ratio":
        theirs = np.ones(len(results))
    factor = 100.0 if benchmark.scale == "ratio" else 1.0

    def both(top: Any, bottom: Any) -> dict[str, Statistic]:
        def share(places: Numbers) -> float:
            below = bottom[places].sum()
            return float(top[places].sum() / below) if below else float("nan")

        return {WRONG: share, LEFT_OUT: lambda places: share(places[~unread[places]])}

    measures: Measures = {
        "unparsed_rate": lambda places: float(unread[places].mean()),
        "score": both(factor * ours, theirs),
    }
    if benchmark.hallucinated_below is not None:
        below = ours < benchmark.hallucinated_below
        measures["hallucination_rate"] = both(below.astype(float), theirs)
    return measures
