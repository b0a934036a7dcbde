"""An imported data set: records and pictures at random access, and the index that plans read.

    corpus.records    tensorflow-datasets folders in ArrayRecord files, written by
    corpus.pictures   `critic-data import`; no TensorFlow is needed to read them

A record names its pictures by their places in `pictures/`, where each stands once.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from critic_jax.data.records import Record
from critic_jax.errors import InputError
from critic_jax.text import ChatTokenizer

FORMAT = 1
IMPORT_FILE = "import.json"
INDEX_FILE = "index.parquet"
REJECTED_FILE = "rejected.jsonl"
RECORDS_NAME = "records"
PICTURES_NAME = "pictures"


def is_import(path: str | os.PathLike[str]) -> bool:
    """Whether the folder is an import, finished or not."""
    folder = Path(path)
    return (folder / IMPORT_FILE).is_file() or (folder / ".work").is_dir()


def lengths_file(tokenizer: ChatTokenizer) -> str:
    """The file beside the index with the lengths (`Lengths`) that a tokenizer gives."""
    return f"tokens-{tokenizer.digest()[:16]}.npz"


class Corpus:
    """One import, opened. Nothing but its summary is read before it is asked for."""

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        """Raises InputError for a folder that holds no import, or one that is not finished."""
        self.folder = Path(folder)
        try:
            self.summary: dict[str, Any] = json.loads((self.folder / IMPORT_FILE).read_text())
        except FileNotFoundError:
            said = "the import is not finished; run `critic-data import` again"
            if not is_import(folder):
                said = "no import; `critic-data import` makes one"
            raise InputError(f"{self.folder}: {said}") from None
        if self.summary.get("format") != FORMAT:
            raise InputError(
                f"{self.folder / IMPORT_FILE}: format {self.summary.get('format')!r}, and this "
                f"version reads {FORMAT}; import again"
            )

    def __len__(self) -> int:
        return int(self.summary["records"])

    @cached_property
    def index(self) -> Any:
        """The index as a pyarrow Table, a row a record."""
        import pyarrow.parquet as pq

        path = self.folder / INDEX_FILE
        try:
            table = pq.read_table(path)
        except (OSError, ValueError) as error:
            raise InputError(f"{path}: cannot be read ({error}); import again") from None
        if table.num_rows != len(self):
            raise InputError(f"{path}: {table.num_rows} rows for {len(self)} records; import again")
        return table

    def example(self, number: int) -> Mapping[str, Any]:
        """Record `number` as it is stored; `pictures` are numbers for `picture`.

        Here and below, IndexError is raised for a number that there is not.
        """
        example: Mapping[str, Any] = _at(self._records, number)
        return example

    def record(self, number: int) -> Record:
        """Record `number` with the bytes of its pictures."""
        return self.record_of(number, self.example(number))

    def record_of(
        self, number: int, stored: Mapping[str, Any], with_pictures: bool = True
    ) -> Record:
        """The record of a stored example; without its pictures where they are at hand already."""
        turns = stored["conversations"]
        pairs = zip(turns["from"], turns["value"], strict=True)
        pictures = stored["pictures"] if with_pictures else ()
        return Record(
            id=stored["id"].decode(),
            source=stored["source"].decode(),
            conversations=tuple({"from": f.decode(), "value": v.decode()} for f, v in pairs),
            images=tuple(self.picture(int(n)) for n in pictures),
            line=number + 1,
            place=f"{self.folder} record {number + 1}",
        )

    def name(self, number: int) -> str:
        """The id of record `number`."""
        return str(self.index["id"][number].as_py())

    def picture(self, number: int) -> bytes:
        """The bytes of picture `number`, a file as it came."""
        content: bytes = self.stored_picture(number)["image"]
        return content

    def stored_picture(self, number: int) -> Mapping[str, bytes]:
        """Picture `number` as it is stored: `hash`, in hexadecimal digits, and `image`."""
        stored: Mapping[str, bytes] = _at(self._pictures, number)
        return stored

    @cached_property
    def _records(self) -> Any:
        return _open(self.folder / RECORDS_NAME)

    @cached_property
    def _pictures(self) -> Any:
        return _open(self.folder / PICTURES_NAME)


def _at(source: Any, number: int) -> Any:
    if not 0 <= number < len(source):
        raise IndexError(f"{number} of {len(source)}")
    return source[number]


def _open(folder: Path) -> Any:
    """A tensorflow-datasets folder as a sequence of examples."""
    import tensorflow_datasets as tfds

    try:
        return tfds.builder_from_directory(folder).as_data_source("train")
    except (OSError, ValueError, AttributeError) as error:
        raise InputError(f"{folder}: cannot be read ({error}); import again") from None
