"""Prompts, read from a file: a text and its pictures a line."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from critic_jax.data import scan_json_lines
from critic_jax.data.records import picture_sources, record_id
from critic_jax.errors import InputError
from critic_jax.judging.partial import Key
from critic_jax.text import leading_markers
from critic_jax.text.turns import MARKER, record_turns


@dataclass(frozen=True)
class Prompt:
    """One line: a text and its pictures."""

    id: str
    line: int
    where: str
    images: tuple[Path | bytes, ...]
    text: str

    @property
    def key(self) -> Key:
        """What its result is known by."""
        return self.id, "ab"


def read_prompts(path: Path, skip_bad: bool = False) -> tuple[list[Prompt], list[dict[str, Any]]]:
    """The prompts of a JSONL or JSON array file, and with `skip_bad` its wrong lines.

    A line holds `id`, `prompt` and optionally `image`; or the `conversations` of a record instead
    of the prompt. Of several turns only the last question is asked, without those before it, as
    LLaVA-Critic's authors did. Raises InputError for the first wrong line, unless wrong lines are
    skipped.
    """
    prompts: list[Prompt] = []
    rejected: list[dict[str, Any]] = []
    seen: dict[str, int] = {}
    for number, found in scan_json_lines(path):
        if isinstance(found, InputError):
            reject(rejected, number, None, str(found), skip_bad)
            continue
        where = f"{path} line {number}"
        try:
            prompt = _prompt(found, where, number, path.parent)
            if prompt.id in seen:
                raise InputError(f"id {prompt.id!r} is taken by line {seen[prompt.id]}")
            seen[prompt.id] = number
            prompts.append(prompt)
        except InputError as e:
            name = found.get("id")
            name = None if name is None else str(name)
            reject(rejected, number, name, f"{where}: {e}", skip_bad)
    return prompts, rejected


def reject(
    rejected: list[dict[str, Any]], line: int, name: str | None, reason: str, skip_bad: bool
) -> None:
    """List a wrong line, or raise InputError if wrong lines are not to be skipped."""
    if not skip_bad:
        raise InputError(reason)
    rejected.append({"line": line, "id": name, "reason": reason})


def _prompt(fields: dict[str, Any], where: str, number: int, folder: Path) -> Prompt:
    if "conversations" in fields and "prompt" not in fields:
        fields = fields | {"prompt": _last_question(fields)}
    name = record_id(fields)
    if not isinstance(fields.get("prompt"), str):
        raise InputError("field 'prompt' is missing or no text; a line holds id and prompt")
    images = picture_sources(fields, folder)
    return Prompt(name, number, where, images, leading_markers(fields["prompt"], len(images)))


def _last_question(fields: Mapping[str, Any]) -> str:
    """Of a conversation the last human turn; markers of pictures lead it, or stand before it."""
    conversation = fields["conversations"]
    pictures = fields.get("image")
    count = 0 if pictures is None else len(pictures) if isinstance(pictures, list) else 1
    record_turns(conversation, count)  # a wrong turn is told
    asked = [turn["value"] for turn in conversation if turn["from"] in ("human", "user")]
    return str(asked[-1]).replace(MARKER, "").strip() if len(asked) > 1 else str(asked[-1])
