"""Check a file of critic records as training would meet it: fields, turns, pictures."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from critic_jax.data import BadRecord, Record, read_records
from critic_jax.errors import InputError
from critic_jax.imaging import PictureError

from .check import inspect_picture, text_fault


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
    opened: dict[tuple[Path, bool], str | None] = {}  # many records share a picture
    for record in read_records(path, images):
        count += 1
        if isinstance(record, BadRecord):
            rejected.append(record)
        elif (reason := text_fault(record) or _picture_fault(record, opened)) is not None:
            rejected.append(BadRecord(record.line, record.id, f"{record.place}: {reason}"))
    if not count:
        raise InputError(f"{os.fspath(path)}: holds no record")
    return Validation(count, tuple(rejected))


def _picture_fault(record: Record, opened: dict[tuple[Path, bool], str | None]) -> str | None:
    """The first thing wrong with a record's pictures; None where all is well."""
    for number, image in enumerate(record.images):
        if isinstance(image, bytes):
            reason = _unreadable(record, number)
        else:
            key = image, len(record.images) > 1
            if key not in opened:
                opened[key] = _unreadable(record, number)
            reason = opened[key]
        if reason is not None:
            return reason
    return None


def _unreadable(record: Record, number: int) -> str | None:
    try:
        inspect_picture(record, number)
    except PictureError as error:
        return str(error)
    return None
