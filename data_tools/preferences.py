"""Human preferences as LLaVA-RLHF published them, as prompts and as preference pairs.

    [{"id": "000000033471", "image": "000000033471.jpg",
      "conversations": [{"from": "human", "value": "<image>\\nWhat is it?"}, {"from": "gpt", ...}],
      "output_1": {"from": "llava", "value": "A bus."},
      "output_2": {"from": "llava", "value": "A train."},
      "preference": 1}, ...]

The last turn is an answer that both outputs stand for; `preference` is 1 or 2. Of a conversation of
several turns the prompt is the last question alone, as LLaVA-Critic's authors took it.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from critic_jax.data import BadRecord, Record
from critic_jax.data.json_lines import read_json_lines
from critic_jax.data.records import make_record, shown
from critic_jax.errors import InputError
from critic_jax.files import make_folder, told_if_full, write_json_lines
from critic_jax.imaging import PictureError
from critic_jax.progress import progress
from critic_jax.text import IMAGE, record_turns

from .check import inspect_picture, text_fault

PROMPTS, PAIRS, REJECTED = "prompts.jsonl", "pairs.jsonl", "rejected.jsonl"

OUTPUTS = ("output_1", "output_2")


@dataclass(frozen=True)
class Preference:
    """A record: its question, and its answers, the preferred one first."""

    record: Record
    prompt: str
    answers: tuple[str, str]
    turns: int  # questions in the conversation


def write_preferences(
    path: Path, output: Path, images: Path | None = None, strict: bool = False
) -> dict[str, int]:
    """Write `prompts.jsonl` and `pairs.jsonl` into the folder `output`; the counts by name.

    A prompt whose two answers are equal makes no pair. A wrong record is left out and told in
    `rejected.jsonl`; ids that are taken become ID#2, ID#3 and so on: published ids name pictures.

    images: the folder of the pictures, by default the file's own. Raises InputError for a file that
    cannot be read to its end, for one without a usable record, for an output that can be no folder,
    and with `strict` for the first record that is wrong.
    """
    folder = path.parent if images is None else images
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder of pictures")
    lines = list(read_json_lines(path))
    prompts: list[dict[str, Any]] = []
    pairs: list[dict[str, Any]] = []
    rejected: list[BadRecord] = []
    taken: set[str] = set()
    several = 0
    with progress() as bar:
        for line, fields in bar.track(lines, description="preferences"):
            place = f"{path} line {line}"
            try:
                found = preference(fields, folder, line, place)
            except InputError as error:
                if strict:
                    raise InputError(f"{place}: {error}") from None
                name = fields.get("id")
                name = name if isinstance(name, str) else None
                rejected.append(BadRecord(line, name, f"{place}: {error}"))
                continue
            prompt = _prompt_line(found, fields, taken, output)
            prompts.append(prompt)
            several += found.turns > 1
            chosen, other = found.answers
            if chosen != other:
                pairs.append({**prompt, "chosen": chosen, "rejected": other})
    if not prompts:
        reason = f"; {rejected[0].reason}" if rejected else ""
        raise InputError(f"{path}: holds no preference that can be used{reason}")
    make_folder(output)
    with told_if_full(output):
        write_json_lines(output / PROMPTS, prompts)
        write_json_lines(output / PAIRS, pairs)
        write_json_lines(output / REJECTED, map(vars, rejected))
    return {
        "prompts": len(prompts),
        "pairs": len(pairs),
        "equal_answers": len(prompts) - len(pairs),
        "several_turns": several,
        "rejected": len(rejected),
    }


def preference(fields: Mapping[str, Any], folder: Path, line: int, place: str) -> Preference:
    """A published record, checked; relative pictures are taken from `folder`.

    line, place: as in `Record`. Raises InputError that names the field, not the place.
    """
    answers = [_output(fields, name) for name in OUTPUTS]
    preferred = preferred_output(fields)
    conversations = _asked(conversation(fields))
    records = []
    for answer in answers:
        turns = [*conversations, {"from": "gpt", "value": answer}]
        record = make_record({**fields, "conversations": turns}, folder, line, place)
        if (fault := text_fault(record)) is not None:
            raise InputError(fault)
        records.append(record)
    record = records[preferred]
    for number in range(len(record.images)):
        try:
            inspect_picture(record, number)
        except PictureError as error:
            raise InputError(f"field 'image': {error}") from None
    turns = record_turns(record.conversations, len(record.images))
    question = next(turn for turn in reversed(turns) if turn.role == "user")
    prompt = "".join(part for part in question.parts if part is not IMAGE).strip()
    if not prompt:
        raise InputError("field 'conversations': the last question is empty")
    both = answers[preferred], answers[1 - preferred]
    return Preference(record, prompt, both, sum(turn.role == "user" for turn in turns))


def preferred_output(fields: Mapping[str, Any]) -> int:
    """The place in `OUTPUTS` of the better one. Raises InputError where none is told."""
    choice = fields.get("preference")
    if isinstance(choice, bool) or choice not in (1, 2):
        said = shown(choice) if "preference" in fields else "missing"
        raise InputError(f"field 'preference' is {said}; it should be 1 or 2, the better output")
    return int(choice) - 1


def conversation(fields: Mapping[str, Any]) -> Any:
    """The field `conversations`; some files have it in one more list."""
    turns = fields.get("conversations")
    if isinstance(turns, list) and len(turns) == 1 and isinstance(turns[0], list):
        return turns[0]
    return turns


def _output(fields: Mapping[str, Any], name: str) -> str:
    """The text of one of the two answers."""
    value = fields.get(name)
    text = value.get("value") if isinstance(value, dict) else None
    if not isinstance(text, str) or not text.strip():
        said = "missing" if name not in fields else shown(value)
        raise InputError(f'field \'{name}\' is {said}; it should be {{"from": ..., "value": TEXT}}')
    if "\0" in text:
        raise InputError(f"field '{name}' holds a NUL character; it should be plain text")
    return text


def _asked(turns: Any) -> list[Any]:
    """The conversation up to its last question."""
    if not isinstance(turns, list) or not turns:
        raise InputError(f"field 'conversations' is {shown(turns)}; it should be a list of turns")
    last = turns[-1]
    answered = isinstance(last, dict) and last.get("from") in ("gpt", "assistant")
    return turns[:-1] if answered else turns


def _prompt_line(
    found: Preference, fields: Mapping[str, Any], taken: set[str], output: Path
) -> dict[str, Any]:
    """The line of a prompt, its pictures as they are found from `output`."""
    name, number = found.record.id, 1
    while name in taken:
        number += 1
        name = f"{found.record.id}#{number}"
    taken.add(name)
    line: dict[str, Any] = {"id": name}
    if found.record.images:
        given = fields["image"] if isinstance(fields["image"], list) else [fields["image"]]
        images = [
            os.path.relpath(image, output) if isinstance(image, Path) else value
            for image, value in zip(found.record.images, given, strict=True)
        ]
        line["image"] = images[0] if len(images) == 1 else images
    return {**line, "prompt": found.prompt}
