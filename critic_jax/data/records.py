"""Critic records: the fields of LLaVA-Critic-113k, from JSONL or a JSON array.

    {"id": "r1", "source": "llava-bench", "image": "pictures/1.png",
     "conversations": [{"from": "human", "value": "<image>\\n..."},
                       {"from": "gpt", "value": "..."}]}

`image` may be a path (relative to the images folder, else to the file's own folder), a list of
paths, {"bytes": BASE64}, or absent: a record of text alone. Pictures are not opened here, and turns
not matched with pictures; `critic_jax.imaging` and `critic_jax.text` do that where they are used.
"""

import base64
import binascii
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from critic_jax.data.json_lines import scan_json_lines
from critic_jax.errors import InputError

TOLD = ("task", "domain", "response_model")
"""Further fields that a file may have; they count in statistics, and training does not see them."""


@dataclass(frozen=True)
class Record:
    """One critic record, well-formed as far as its own fields tell.

    Attributes:
        id: not empty, unique within its file; a number in the file becomes its digits.
        source: where the record is from; "" if the file does not say.
        conversations: turns {"from": ..., "value": ...}, at least one, in order.
        images: a path, or the bytes of a picture file, for each picture.
        line: line of the file on which the record begins.
        place: file and line in words, for messages.
        told: what else the file tells of it, of `TOLD`.
    """

    id: str
    source: str
    conversations: tuple[Mapping[str, str], ...]
    images: tuple[Path | bytes, ...]
    line: int
    place: str
    told: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class BadRecord:
    """A line that holds no usable record.

    Attributes:
        line: line of the file.
        id: the record's id, where that much could be read.
        reason: one line that names the file, the line and the field, and what would be right.
    """

    line: int
    id: str | None
    reason: str


def read_records(
    path: str | os.PathLike[str], images: str | os.PathLike[str] | None = None
) -> Iterator[Record | BadRecord]:
    """Yield each record of a JSONL or JSON array file in order, a BadRecord for each wrong one.

    `images` is the folder that relative picture paths start from; by default the file's own.
    Raises InputError for a file that is missing or unreadable, or an `images` that is no folder.
    """
    folder = Path(path).parent if images is None else Path(images)
    if images is not None and not folder.is_dir():
        raise InputError(f"{folder}: no such folder of pictures")
    first_line: dict[str, int] = {}
    for line, found in scan_json_lines(path):
        if isinstance(found, InputError):
            yield BadRecord(line, None, str(found))
            continue
        where, name = f"{os.fspath(path)} line {line}", None
        try:
            name = record_id(found)
            if name in first_line:
                raise InputError(f"field 'id': {name!r} is taken by line {first_line[name]}")
            first_line[name] = line
            yield make_record(found, folder, line, where)
        except InputError as error:
            yield BadRecord(line, name, f"{where}: {error}")


def make_record(fields: Mapping[str, Any], folder: Path, line: int, where: str) -> Record:
    """The record of some fields, relative picture paths taken from `folder`.

    where: `Record.place`. Raises InputError that names the field, not the place.
    """
    return Record(
        id=record_id(fields),
        source=_source(fields),
        conversations=_conversations(fields),
        images=picture_sources(fields, folder),
        line=line,
        place=where,
        told={name: text for name in TOLD if isinstance(text := fields.get(name), str) and text},
    )


def record_id(fields: Mapping[str, Any]) -> str:
    """The field `id` as text. Raises InputError where it is missing, empty or no name."""
    if "id" not in fields:
        raise InputError("field 'id' is missing; every record needs one of its own")
    value = fields["id"]
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if not isinstance(value, str) or not value:
        raise InputError(f"field 'id' is {shown(value)}; it should be a text that is not empty")
    return value


def _source(fields: Mapping[str, Any]) -> str:
    value = fields.get("source")
    if value is None:
        return ""
    if not isinstance(value, str):
        raise InputError(f"field 'source' is {shown(value)}; it should be a text")
    return value


def _conversations(fields: Mapping[str, Any]) -> tuple[Mapping[str, str], ...]:
    turns = fields.get("conversations")
    if not isinstance(turns, list) or not turns:
        said = shown(turns) if "conversations" in fields else "missing"
        raise InputError(
            f"field 'conversations' is {said}; it should be a list of turns "
            '{"from": ..., "value": ...}'
        )
    for place, turn in enumerate(turns):
        field = f"field 'conversations[{place}]"
        if not isinstance(turn, dict):
            raise InputError(f"{field}' is {shown(turn)}; it should be an object (from, value)")
        for key in ("from", "value"):
            if not isinstance(turn.get(key), str):
                said = shown(turn[key]) if key in turn else "missing"
                raise InputError(f"{field}.{key}' is {said}; it should be a text")
    return tuple({"from": turn["from"], "value": turn["value"]} for turn in turns)


def picture_sources(fields: Mapping[str, Any], folder: Path) -> tuple[Path | bytes, ...]:
    """The pictures that a line's field `image` names, relative paths taken from `folder`.

    Empty for a line without the field. Raises InputError for a value that names no picture.
    """
    value = fields.get("image")
    if value is None:
        return ()
    if isinstance(value, list):
        return tuple(_image(item, folder, f"image[{n}]") for n, item in enumerate(value))
    return (_image(value, folder, "image"),)


def _image(value: Any, folder: Path, field: str) -> Path | bytes:
    if isinstance(value, str) and value:
        return folder / value
    if isinstance(value, dict) and isinstance(value.get("bytes"), bytes):
        return value["bytes"]  # a table's cell; JSON has no bytes
    if isinstance(value, dict) and isinstance(value.get("bytes"), str) and value["bytes"]:
        try:
            return base64.b64decode(value["bytes"], validate=True)
        except (binascii.Error, ValueError) as error:
            raise InputError(f"field '{field}.bytes' is not base64 ({error})") from None
    raise InputError(
        f"field '{field}' is {shown(value)}; "
        'it should be a path, a list of paths, or {"bytes": BASE64}'
    )


def shown(value: Any) -> str:
    """A short look at a wrong value, for a message."""
    text = "null" if value is None else repr(value)
    return text if len(text) <= 40 else text[:37] + "..."
