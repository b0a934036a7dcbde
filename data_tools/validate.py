"""Check a file of critic records as training would meet it: fields, turns, pictures."""

import os
from dataclasses import dataclass
from pathlib import Path

from critic_jax.data import BadRecord, Record, read_records
from critic_jax.errors import InputError
from critic_jax.imaging import PictureError, open_picture
from critic_jax.text import record_turns


@dataclass(frozen=True)
class Validation:
    """What `validate` found.

    Attributes:
        records: records read, good and bad.
        rejected: the bad ones, in the order of the file.
    """

    records: int
    rejected: tuple[BadRecord, ...]


def validate(
    path: str | os.PathLike[str], images: str | os.PathLike[str] | None = None
) -> Validation:
    """Read every record of a JSONL or JSON array file, and open every picture once.

    Raises InputError for a file that is missing, unreadable or holds no record.
    """
    count = 0
    rejected: list[BadRecord] = []
    opened: dict[Path, str | None] = {}  # many records share a picture: path -> what is wrong
    for record in read_records(path, images):
        count += 1
        if isinstance(record, BadRecord):
            rejected.append(record)
        elif (reason := _fault(record, opened)) is not None:
            rejected.append(BadRecord(record.line, record.id, f"{record.place}: {reason}"))
    if not count:
        raise InputError(f"{os.fspath(path)}: holds no record")
    return Validation(count, tuple(rejected))


def _fault(record: Record, opened: dict[Path, str | None]) -> str | None:
    """The first thing wrong with a record's turns or pictures; None where all is well."""
    try:
        turns = record_turns(record.conversations, len(record.images))
    except InputError as error:
        return str(error)
    if all(turn.role != "assistant" for turn in turns):
        return "field 'conversations': no turn is from gpt, so there is nothing to learn from"
    for number, image in enumerate(record.images, start=1):
        if isinstance(image, bytes):
            reason = _unreadable(image, f"picture {number} of {len(record.images)}")
        else:
            if image not in opened:
                opened[image] = _unreadable(image, None)
            reason = opened[image]
        if reason is not None:
            return reason
    return None


def _unreadable(image: Path | bytes, name: str | None) -> str | None:
    try:
        open_picture(image, name)
    except PictureError as error:
        return str(error)
    return None
