"""One record of a published file: its fields taken out and checked, its pictures found."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from PIL import UnidentifiedImageError

from critic_jax.data.records import shown
from critic_jax.errors import InputError
from critic_jax.evaluation.benchmarks.frames import frames
from critic_jax.judging.input_rows import scan_rows
from critic_jax.judging.lines import write_picture

Chosen = TypeVar("Chosen")

_KINDS = (".jsonl", ".json", ".parquet", ".csv")
_VIDEOS = (".mp4", ".MP4", ".mkv")


@dataclass(frozen=True)
class Places:
    """Where pictures are looked for that a record names by path, and the folder of the files that
    are made of the records; pictures given as bytes are written there. frames: the pictures that
    are taken of a video."""

    images: Path
    out: Path
    frames: int = 8


@dataclass(frozen=True)
class Record:
    """A record's fields. Every error names the file, the place, the field and what is right."""

    fields: Mapping[str, Any]
    file: Path
    number: int
    where: str
    places: Places

    def has(self, name: str) -> bool:
        """Whether the field is there and not null."""
        return self.fields.get(name) is not None

    def any(self, name: str, right: str) -> Any:
        """The field's value; `right` says what it should be."""
        if not self.has(name):
            there = ", ".join(map(str, self.fields)) or "nothing"
            raise InputError(
                f"{self.where}: field '{name}' is missing; it should be {right}; there are {there}"
            )
        return self.fields[name]

    def text(self, name: str, right: str = "a text") -> str:
        """A text; a number counts as one."""
        value = self.any(name, right)
        if isinstance(value, bool) or not isinstance(value, str | int):
            raise self.wrong(name, value, right)
        return str(value)

    def items(self, name: str, right: str, count: int | None = None) -> list[Any]:
        """A list, of `count` items if that is given."""
        value = self.any(name, right)
        if not isinstance(value, list) or (count is not None and len(value) != count):
            raise self.wrong(name, value, right)
        return value

    def choice(self, name: str, known: Mapping[str, Chosen]) -> Chosen:
        """What `known` has for the field's text."""
        right = f"one of {', '.join(known)}"
        value = self.any(name, right)
        if str(value) not in known:
            raise self.wrong(name, value, right)
        return known[str(value)]

    def wrong(self, name: str, value: Any, right: str) -> InputError:
        """The error of a field that holds something else than it should."""
        return InputError(f"{self.where}: field '{name}' is {shown(value)}; it should be {right}")

    def picture(self, name: str) -> str:
        """The field's picture, a path or a table's {bytes, path}, as a path from the out folder."""
        return self.picture_of(name, self.any(name, "a picture: its path, or its bytes"))

    def picture_of(self, name: str, value: Any) -> str:
        """The same of a value that stands somewhere in the field."""
        if isinstance(value, Mapping) and isinstance(value.get("bytes"), bytes):
            self.places.out.mkdir(parents=True, exist_ok=True)
            try:
                return write_picture(self.places.out, value["bytes"])
            except (UnidentifiedImageError, OSError):
                raise InputError(f"{self.where}: field '{name}' holds no picture") from None
        if isinstance(value, Mapping):
            value = value.get("path")
        if not isinstance(value, str) or not value:
            raise self.wrong(name, value, "a path or a picture's bytes")
        path = self.places.images / value
        if not path.is_file():
            raise InputError(
                f"{self.where}: field '{name}' names {value}, which is not in "
                f"{self.places.images}; name the pictures' folder with --images"
            )
        return os.path.relpath(path.resolve(), self.places.out.resolve())

    def video(self, name: str) -> tuple[str, ...]:
        """Frames of the video that the field names without its ending, as paths from the out
        folder."""
        value = self.text(name, "a video's name")
        paths = [self.places.images / f"{value}{ending}" for ending in _VIDEOS]
        path = next((path for path in paths if path.is_file()), None)
        if path is None:
            raise InputError(
                f"{self.where}: field '{name}' names {value}, and none of {', '.join(_VIDEOS)} of "
                f"that name is in {self.places.images}; name the videos' folder with --images"
            )
        try:
            pictures = frames(path, self.places.frames)
        except InputError as error:
            raise InputError(f"{self.where}: field '{name}': {error}") from None
        self.places.out.mkdir(parents=True, exist_ok=True)
        return tuple(write_picture(self.places.out, picture) for picture in pictures)


def read_records(data: Path, places: Places) -> Iterator[Record]:
    """Each record of a file, or of a folder's JSON, CSV and parquet files in the order of their
    names.

    Raises InputError for a file that is missing or unreadable, a folder without any, or a broken
    row.
    """
    files = [data]
    if data.is_dir():
        files = sorted(path for path in data.iterdir() if path.suffix in _KINDS)
        if not files:
            raise InputError(f"{data}: holds no file that ends in {', '.join(_KINDS)}")
    for file in files:
        for row in scan_rows(file):
            if isinstance(row.found, InputError):
                raise row.found
            yield Record(row.found, file, row.number, row.where, places)
