"""Answer a file of prompts: JSONL in, n answers a line out."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from critic_jax.data import scan_json_lines
from critic_jax.data.records import picture_sources
from critic_jax.errors import InputError
from critic_jax.files import write_json_lines
from critic_jax.imaging import Visual
from critic_jax.judging.best import Candidates, choose_best
from critic_jax.judging.critic import Critic
from critic_jax.progress import progress
from critic_jax.sampling.choose import Sampling
from critic_jax.sampling.weights import WeightFormat
from critic_jax.text import leading_markers


@dataclass(frozen=True)
class Prompt:
    """One line: a text and its pictures."""

    id: str
    line: int
    where: str
    images: tuple[Path | bytes, ...]
    text: str


def generate_file(
    model: str,
    input: Path,
    output: Path | None = None,
    n: int | None = None,
    best_of: int | None = None,
    judge: str | None = None,
    temperature: float | None = None,
    top_p: float | None = None,
    top_k: int = 0,
    max_new_tokens: int = 256,
    seed: int = 0,
    skip_bad: bool = False,
    repetition_penalty: float | None = None,
    weights: WeightFormat = "full",
) -> dict[str, Any]:
    """Answer each line (`id`, `prompt`, optional `image`) into `output`, or onto stdout.

    A result line holds `id`, `prompt`, `responses` [n] and `model`. With `best_of`, as many answers
    are sampled (as LLaVA-Critic does, at temperature 0.7 and top_p 0.9, unless others are given),
    the model `judge` ranks them, and the line holds the fields of `choose_best` too. A wrong line
    raises InputError, or with `skip_bad` goes to rejected.jsonl beside the output (beside the input
    if there is none).
    """
    count = _count(n, best_of, judge, temperature)
    prompts, rejected = _read(input, skip_bad)
    critic = Critic.load(model, repetition_penalty=repetition_penalty, weights=weights)
    sampling: Sampling = critic.sampling(
        temperature=temperature if temperature is not None else 0.7 if best_of else 0.0,
        top_p=top_p if top_p is not None else 0.9 if best_of else 1.0,
        top_k=top_k,
        max_new_tokens=max_new_tokens,
        seed=seed,
    )
    ready: list[tuple[Prompt, tuple[Visual, ...]]] = []
    for prompt in prompts:
        try:
            ready.append((prompt, critic.visuals(list(prompt.images) or None, "field 'image'")))
        except InputError as e:
            reject(rejected, prompt.line, prompt.id, f"{prompt.where}: {e}", skip_bad)
    with progress() as bar:
        task = bar.add_task("answering", total=len(ready) * count)
        critic.engine.watch = lambda done: bar.advance(task, done)
        answers = critic.answer([(v, p.text) for p, v in ready], sampling, count)
    results: list[dict[str, Any]] = [
        {
            "id": prompt.id,
            "prompt": prompt.text,
            "responses": [critic.text(c) for c in completions],
            "model": critic.name,
            "fingerprint": critic.fingerprint,
        }
        for (prompt, _), completions in zip(ready, answers, strict=True)
    ]
    summary: dict[str, Any] = {"model": critic.name, "answered": len(results)}
    if judge is not None:
        if judge != model or repetition_penalty is not None:
            del critic  # before another takes its place in memory
            critic = Critic.load(judge, weights=weights)
        summary |= _add_best(critic, [prompt for prompt, _ in ready], results)
    if output is None:
        for result in results:
            print(json.dumps(result, ensure_ascii=False))
    else:
        write_json_lines(output, results)
    if rejected:
        write_json_lines((output or input).with_name("rejected.jsonl"), rejected)
    return summary | {"rejected": len(rejected)}


def _count(n: int | None, best_of: int | None, judge: str | None, temperature: float | None) -> int:
    """How many answers a prompt gets. Raises InputError for a wrong or contradictory wish."""
    if (best_of is None) != (judge is None):
        raise InputError("best-of and judge go together: --best-of N --judge M")
    if best_of is None:
        if n is not None and n < 1:
            raise InputError(f"n is {n}; it must be at least 1")
        return n or 1
    if n is not None:
        raise InputError("n and best-of exclude each other; --best-of N samples N answers")
    if best_of < 2:
        raise InputError(f"best-of is {best_of}; it must be at least 2")
    if temperature == 0:
        raise InputError("temperature is 0: all answers would be the same; it must be above 0")
    return best_of


def _add_best(
    critic: Critic, prompts: list[Prompt], results: list[dict[str, Any]]
) -> dict[str, Any]:
    """Add what the judge chose to each result; returns what the summary says of it."""
    chosen = choose_best(
        critic,
        [
            Candidates(prompt.images, prompt.text, tuple(result["responses"]))
            for prompt, result in zip(prompts, results, strict=True)
        ],
    )
    for result, fields in zip(results, chosen, strict=True):
        result |= fields
    judged, unparsed = (sum(one[name] for one in chosen) for name in ("judgments", "unparsed"))
    return {
        "judge": critic.name,
        "without_best": sum(one["state"] == "unparsed" for one in chosen),
        "judgments": judged,
        "unparsed_rate": unparsed / judged if judged else None,
    }


def reject(
    rejected: list[dict[str, Any]], line: int, name: str | None, reason: str, skip_bad: bool
) -> None:
    """List a wrong line, or raise InputError if wrong lines are not to be skipped."""
    if not skip_bad:
        raise InputError(reason)
    rejected.append({"line": line, "id": name, "reason": reason})


def _read(path: Path, skip_bad: bool) -> tuple[list[Prompt], list[dict[str, Any]]]:
    prompts: list[Prompt] = []
    rejected: list[dict[str, Any]] = []
    for number, found in scan_json_lines(path):
        if isinstance(found, InputError):
            reject(rejected, number, None, str(found), skip_bad)
            continue
        where = f"{path} line {number}"
        try:
            prompts.append(_prompt(found, where, number, path.parent))
        except InputError as e:
            name = found.get("id")
            name = None if name is None else str(name)
            reject(rejected, number, name, f"{where}: {e}", skip_bad)
    return prompts, rejected


def _prompt(fields: dict[str, Any], where: str, number: int, folder: Path) -> Prompt:
    for field in ("id", "prompt"):
        if not isinstance(fields.get(field), str):
            raise InputError(f"field '{field}' is missing or no text; a line holds id and prompt")
    images = picture_sources(fields, folder)
    return Prompt(
        fields["id"], number, where, images, leading_markers(fields["prompt"], len(images))
    )
