"""The second step of an import: which records stay, in which order, and which pictures they need.

Only numbers and hashes are kept in memory, a few hundred bytes a record.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from .scan import content_digest, read_scan
from .sources import Unit

RepeatedIds = Literal["reject", "number"]


@dataclass(frozen=True)
class Kept:
    """A record that stays: where its line is, and what it is called."""

    unit: int
    start: int  # byte of the line
    id: str
    pictures: tuple[int, ...]


@dataclass(frozen=True)
class Needed:
    """A picture to store: where it is met first, and what it must be."""

    unit: int
    place: int  # of the record in its unit
    number: int  # of the picture in its record
    hash: str
    bytes: int


@dataclass
class Merged:
    """The records in the order of the data set, those of equal pictures together."""

    groups: list[list[Kept]] = field(default_factory=list)
    pictures: list[Needed] = field(default_factory=list)
    rejected: list[dict[str, Any]] = field(default_factory=list)
    record_bytes: int = 0

    @property
    def records(self) -> int:
        return sum(map(len, self.groups))


def merge(units: Sequence[Unit], scans: Sequence[Path], repeated: RepeatedIds) -> Merged:
    """Go through all scanned lines in order.

    An id may stand once in a config (the published set's parts number for themselves). Of records
    with equal ids the first stays; `repeated` says what becomes of another with other content.
    """
    merged = Merged()
    ids: dict[tuple[str, str], tuple[bytes, str]] = {}
    groups: dict[tuple[bytes, ...] | int, list[Kept]] = {}
    numbers: dict[bytes, int] = {}
    for number, (unit, path) in enumerate(zip(units, scans, strict=True)):
        file, config = str(unit.source.path), unit.source.config
        word = "row" if unit.source.format == "parquet" else "line"
        for start, line in read_scan(path):
            if "reason" in line:
                merged.rejected.append({"file": file, **line})
                continue
            name = line["id"]
            place, digest = f"{file} {word} {line['line']}", content_digest(line)
            if (config, name) in ids:
                other, where = ids[config, name]
                if other == digest or repeated == "reject":
                    said = "the same record again" if other == digest else "other content"
                    reason = f"{place}: field 'id': {name!r} is taken by {where}; this is {said}"
                    merged.rejected.append(
                        {"file": file, "line": line["line"], "id": name, "reason": reason}
                    )
                    continue
                name = _numbered(name, config, ids)
            ids[config, name] = digest, place
            hashes = tuple(bytes.fromhex(p["hash"]) for p in line["pictures"])
            for n, picture in enumerate(line["pictures"]):
                if hashes[n] not in numbers:
                    numbers[hashes[n]] = len(merged.pictures)
                    merged.pictures.append(
                        Needed(number, line["place"], n, picture["hash"], picture["bytes"])
                    )
            kept = Kept(number, start, name, tuple(numbers[h] for h in hashes))
            groups.setdefault(hashes or len(ids), []).append(kept)
            merged.record_bytes += len(str(line["conversations"]))
    merged.groups = list(groups.values())
    return merged


def _numbered(name: str, config: str, ids: dict[tuple[str, str], Any]) -> str:
    """The first of name#2, name#3, ... that is free."""
    number = 2
    while (config, f"{name}#{number}") in ids:
        number += 1
    return f"{name}#{number}"
