"""The first pass of an import: every record read and checked, every picture decoded once a process.

A unit's result is a file of lines, one a record, in the order of the unit: its existence says that
the unit is done, so an import that was killed goes on behind the units that it has.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from critic_jax.data import BadRecord, Record
from critic_jax.errors import InputError
from critic_jax.files import write_json_lines

from ..check import inspect_picture, text_fault
from ..describe import describe
from .sources import Unit, rows

Line = dict[str, Any]


def scan(unit: Unit, target: Path) -> tuple[int, str | None]:
    """Check a unit and write its lines to `target`; (records, the first reason of a rejection).

    A good record's line has its fields, its place in the unit, and `pictures`, a list of hash,
    width, height and bytes; a bad one's has `line`, `id` and `reason`.
    """
    lines = list(_lines(unit))
    write_json_lines(target, lines)
    return len(lines), next((line["reason"] for line in lines if "reason" in line), None)


def read_scan(path: Path) -> Iterator[tuple[int, Line]]:
    """(byte at which it starts, line) of each line that `scan` wrote."""
    with path.open("rb") as file:
        start = 0
        for raw in file:
            yield start, json.loads(raw)
            start += len(raw)


def _lines(unit: Unit) -> Iterator[Line]:
    for place, record in enumerate(rows(unit)):
        if isinstance(record, Record):
            checked = _checked(record)
            if isinstance(checked, dict):
                yield {"place": place, **checked}
                continue
            record = BadRecord(record.line, record.id, f"{record.place}: {checked}")
        yield {"line": record.line, "id": record.id, "reason": _writable(record.reason)}


def _checked(record: Record) -> Line | str:
    """The line of a good record, or what is wrong with it."""
    if (fault := text_fault(record)) is not None:
        return fault
    try:
        pictures = [inspect_picture(record, number) for number in range(len(record.images))]
    except InputError as error:
        return f"field 'image': {error}"
    return {
        "line": record.line,
        "id": record.id,
        "source": record.source,
        "conversations": [dict(turn) for turn in record.conversations],
        "pictures": [asdict(picture) for picture in pictures],
        "about": asdict(describe(record)),
    }


def content_digest(line: Mapping[str, Any]) -> bytes:
    """16 bytes that are equal for records of equal source, turns and pictures."""
    content = [line["source"], line["conversations"], [p["hash"] for p in line["pictures"]]]
    return hashlib.sha256(json.dumps(content).encode()).digest()[:16]


def _writable(text: str) -> str:
    return text.encode(errors="replace").decode()
