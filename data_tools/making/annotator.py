"""The model that annotates: its endpoint, its prices, its budget; and what a verb leaves behind."""

from __future__ import annotations

import filecmp
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from critic_jax.errors import InputError
from critic_jax.files import write_json, write_json_lines
from critic_jax.judging.endpoint import Policy
from critic_jax.judging.remote import RemoteCritic

from .purse import Prices, Purse, estimate, money
from .queue import Queue, Task

RECORDS, REJECTED, SUMMARY = "records.jsonl", "rejected.jsonl", "summary.json"
ANNOTATIONS, LEDGER = "annotations.jsonl", "ledger.jsonl"


@dataclass(frozen=True)
class Annotator:
    """Who is asked, and how; see the options of the verbs."""

    endpoint: str
    model: str
    policy: Policy
    temperature: float = 0.0
    max_new_tokens: int = 1024
    seed: int | None = None
    reasks: int = 2
    price_prompt: float | None = None
    price_answer: float | None = None
    budget: float | None = None
    picture_tokens: int = 1500

    def __post_init__(self) -> None:
        if self.reasks < 0 or self.picture_tokens < 0:
            raise InputError("--reasks and --picture-tokens must be 0 or more")

    def prices(self) -> Prices | None:
        """Raises InputError where only one of two is given, or one is below 0."""
        if self.price_prompt is None and self.price_answer is None:
            return None
        if self.price_prompt is None or self.price_answer is None:
            raise InputError("--price-prompt and --price-answer go together")
        if self.price_prompt < 0 or self.price_answer < 0:
            raise InputError("--price-prompt and --price-answer must be 0 or more")
        return Prices(self.price_prompt, self.price_answer)

    def queue(self, folder: Path) -> Queue:
        """A queue whose ledger stands in `folder`."""
        critic = RemoteCritic(
            self.endpoint,
            self.model,
            self.policy,
            temperature=self.temperature,
            max_new_tokens=self.max_new_tokens,
            seed=self.seed,
        )
        purse = Purse(folder / LEDGER, self.prices(), self.budget)
        return Queue(critic, purse, self.max_new_tokens, self.picture_tokens, self.reasks)


def estimated(queue: Queue, tasks: Sequence[Task], output: Path) -> dict[str, Any]:
    """What is left to do, and what it is expected to cost; nothing is sent."""
    left = queue.waiting(tasks, output)
    loads = [queue.load(task) for task in left]
    found: dict[str, Any] = {"tasks": len(tasks), "done": len(tasks) - len(left)}
    found |= estimate(loads, queue.purse.prices, queue.reasks)
    if queue.purse.spent is not None:
        found["spent"] = queue.purse.spent
    if tasks:
        found["first_prompt"] = tasks[0].prompt
    return found


def annotated(queue: Queue, tasks: Sequence[Task], output: Path) -> dict[str, dict[str, Any]]:
    """The lines of all tasks by id, after a word on stderr of what it is expected to cost."""
    before = estimated(queue, tasks, output)
    if before["requests"]:
        words = f"{before['requests']:,} requests"
        if "cost" in before:
            words += f", expected to cost {money(before['cost'])}"
            words += f" (at most {money(before['cost_at_most'])})"
        print(f"critic-data: {words}", file=sys.stderr)
    return {line["id"]: line for line in queue.run(tasks, output)}


def leave(
    folder: Path,
    records: Sequence[Mapping[str, Any]],
    rejected: Sequence[Mapping[str, Any]],
    counts: Mapping[str, Any],
    queue: Queue,
) -> dict[str, Any]:
    """Write records, rejections and summary into `folder`; the summary."""
    _write_if_new(folder / RECORDS, records)
    write_json_lines(folder / REJECTED, rejected)
    taken, spent = queue.purse.taken, queue.purse.spent
    summary: dict[str, Any] = {
        "annotator": queue.critic.name,
        "records": len(records),
        "rejected": len(rejected),
        **counts,
        "prompt_tokens": taken.prompt,
        "answer_tokens": taken.answer,
    }
    if spent is not None:
        summary["spent"] = spent
    write_json(folder / SUMMARY, summary)
    return summary


def _write_if_new(path: Path, records: Sequence[Mapping[str, Any]]) -> None:
    """A file that is as it was keeps its time, so that an import of it is known again."""
    part = write_json_lines(path.with_name(f"{path.name}.new"), records)
    if path.exists() and filecmp.cmp(part, path, shallow=False):
        part.unlink()
    else:
        part.replace(path)
