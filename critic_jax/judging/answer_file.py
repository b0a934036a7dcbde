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
from critic_jax.judging.critic import Critic
from critic_jax.progress import progress
from critic_jax.sampling.choose import Sampling
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
    n: int = 1,
    temperature: float = 0.0,
    top_p: float = 1.0,
    top_k: int = 0,
    max_new_tokens: int = 256,
    seed: int = 0,
    skip_bad: bool = False,
    repetition_penalty: float | None = None,
) -> dict[str, Any]:
    """Answer each line (`id`, `prompt`, optional `image`) into `output`, or onto stdout.

    A result line holds `id`, `prompt`, `responses` [n] and `model`. A wrong line raises InputError,
    or with `skip_bad` goes to rejected.jsonl beside the output (beside the input if there is none).
    """
    if n < 1:
        raise InputError(f"n is {n}; it must be at least 1")
    prompts, rejected = _read(input, skip_bad)
    critic = Critic.load(model, repetition_penalty=repetition_penalty)
    sampling: Sampling = critic.sampling(
        temperature=temperature,
        top_p=top_p,
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
        task = bar.add_task("answering", total=len(ready) * n)
        critic.engine.watch = lambda count: bar.advance(task, count)
        answers = critic.answer([(v, p.text) for p, v in ready], sampling, n)
    results = [
        {
            "id": prompt.id,
            "prompt": prompt.text,
            "responses": [critic.text(c) for c in completions],
            "model": critic.name,
            "fingerprint": critic.fingerprint,
        }
        for (prompt, _), completions in zip(ready, answers, strict=True)
    ]
    if output is None:
        for result in results:
            print(json.dumps(result, ensure_ascii=False))
    else:
        write_json_lines(output, results)
    if rejected:
        write_json_lines((output or input).with_name("rejected.jsonl"), rejected)
    return {"model": critic.name, "answered": len(results), "rejected": len(rejected)}


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
