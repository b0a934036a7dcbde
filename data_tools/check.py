"""What makes a record useless for training: its texts, its turns, its pictures."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from critic_jax.data import Record
from critic_jax.errors import InputError
from critic_jax.imaging import PictureError, open_picture, read_picture
from critic_jax.imaging.tiles import check_square
from critic_jax.text import record_turns


@dataclass(frozen=True)
class Picture:
    """A picture as its file tells: SHA-256 of its bytes, upright size in pixels, size in bytes."""

    hash: str
    width: int
    height: int
    bytes: int


def text_fault(record: Record) -> str | None:
    """The first thing wrong with a record's texts and turns; None where all is well."""
    for name, text in (("id", record.id), ("source", record.source)):
        if "\0" in text:
            return f"field '{name}' holds a NUL character; it should be plain text"
    for place, turn in enumerate(record.conversations):
        if "\0" in turn["value"]:
            return (
                f"field 'conversations[{place}].value' holds a NUL character; "
                "it should be plain text"
            )
    try:
        turns = record_turns(record.conversations, len(record.images))
    except InputError as error:
        return str(error)
    if all(turn.role != "assistant" for turn in turns):
        return "field 'conversations': no turn is from gpt, so there is nothing to learn from"
    for place, turn in enumerate(record.conversations):
        if turn["from"] in ("gpt", "assistant") and not turn["value"].strip():
            return (
                f"field 'conversations[{place}].value' is an empty answer; "
                "there is nothing to learn from"
            )
    return None


def picture_name(record: Record, number: int) -> str:
    """What messages call picture `number` (from 0) of a record."""
    image = record.images[number]
    if isinstance(image, Path):
        return str(image)
    return f"picture {number + 1} of {len(record.images)}"


_known: dict[tuple[str, bool], Picture | str] = {}
"""What this process found of each picture (by hash, in a set or alone): many records share one."""


def inspect_picture(record: Record, number: int) -> Picture:
    """Read picture `number` of a record, and decode it the first time that this process meets it.

    Raises PictureError that names the picture.
    """
    image, name = record.images[number], picture_name(record, number)
    content = read_picture(image) if isinstance(image, Path) else image
    key = hashlib.sha256(content).hexdigest(), len(record.images) > 1
    if key not in _known:
        try:
            _known[key] = _decoded(content, *key)
        except PictureError as error:
            _known[key] = str(error)
    found = _known[key]
    if isinstance(found, str):
        raise PictureError(f"{name}: {found}")
    return found


def _decoded(content: bytes, name: str, in_set: bool) -> Picture:
    try:
        opened = open_picture(content, name)
        if in_set:  # several pictures are padded to squares
            check_square(*opened.size)
    except PictureError as error:
        raise PictureError(str(error).removeprefix(f"{name}: ")) from None
    return Picture(name, *opened.size, len(content))
