"""The rows of a user's file, whatever its kind: JSONL or a JSON array, CSV, parquet."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from critic_jax.data import scan_json_lines
from critic_jax.errors import InputError

_CODED = ("image", "responses")
"""Fields that a CSV cell may hold as JSON: a list or an object."""


@dataclass(frozen=True)
class Row:
    """One row: its file, the line or row (in parquet) on which it stands, from 1, and its fields,
    or what is wrong with it. Messages of an error name the place already.
    """

    path: Path
    word: Literal["line", "row"]
    number: int
    found: dict[str, Any] | InputError

    @property
    def where(self) -> str:
        """File and place in words."""
        return f"{self.path} {self.word} {self.number}"


def scan_rows(path: Path) -> Iterator[Row]:
    """Each row of a file: parquet and CSV by the end of its name, else JSON. Empty cells are left
    out, as fields that are absent.

    Raises InputError for a file that is missing, unreadable or of another kind than its name says.
    """
    kind = path.suffix.lower()
    if kind == ".parquet":
        yield from _parquet(path)
    elif kind == ".csv":
        yield from _csv(path)
    else:
        for number, found in scan_json_lines(path):
            yield Row(path, "line", number, found)


def _csv(path: Path) -> Iterator[Row]:
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except IsADirectoryError:
        raise InputError(f"{path}: a folder, where a CSV file is wanted") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from None
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: byte {error.start + 1}: not UTF-8; save it as UTF-8") from None
    csv.field_size_limit(2**31 - 1)  # a picture in a cell is longer than what is read otherwise
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    names: list[str] | None = None
    before = 0
    try:
        for cells in reader:
            number, before = before + 1, reader.line_num
            if not any(cells):
                continue
            if names is None:
                names = _header(cells, path)
                continue
            yield Row(path, "line", number, _cells(names, cells, f"{path} line {number}"))
    except csv.Error as error:
        raise InputError(f"{path} line {before + 1}: not valid CSV ({error})") from None


def _header(cells: list[str], path: Path) -> list[str]:
    names = [cell.strip() for cell in cells]
    if "id" not in names:
        raise InputError(f"{path} line 1: no column is called id; the first line names the columns")
    if twice := [name for name in names if name and names.count(name) > 1]:
        raise InputError(f"{path} line 1: two columns are called {twice[0]}; rename one")
    return names


def _cells(names: list[str], cells: list[str], where: str) -> dict[str, Any] | InputError:
    if len(cells) != len(names):
        return InputError(f"{where}: {len(cells)} cells, but the first line names {len(names)}")
    fields: dict[str, Any] = {n: c for n, c in zip(names, cells, strict=True) if n and c}
    for name in _CODED:
        if str(fields.get(name, "")).lstrip()[:1] in ("[", "{"):
            try:
                fields[name] = json.loads(fields[name])
            except ValueError as error:
                return InputError(f"{where}: field '{name}' is not valid JSON ({error})")
    return fields


def _parquet(path: Path) -> Iterator[Row]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    if not path.is_file():
        kind = "a folder, where a parquet file is wanted" if path.is_dir() else "no such file"
        raise InputError(f"{path}: {kind}")
    number = 0
    try:
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(batch_size=64):
                for fields in batch.to_pylist():
                    number += 1
                    yield Row(path, "row", number, _filled(fields))
    except (pa.ArrowException, OSError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"{path}: not a whole parquet file ({reason})") from None


def _filled(fields: dict[str, Any]) -> dict[str, Any]:
    """The cells that hold something; pictures as the hub's data sets store them made plain."""
    filled = {name: value for name, value in fields.items() if value is not None}
    image = filled.get("image")
    if isinstance(image, list):
        filled["image"] = [_picture(one) for one in image]
    elif image is not None:
        filled["image"] = _picture(image)
    return filled


def _picture(cell: Any) -> Any:
    """A picture's bytes, or its path where a cell holds no bytes."""
    if isinstance(cell, bytes):
        return {"bytes": cell}
    if isinstance(cell, dict) and cell.get("bytes") is None and cell.get("path"):
        return cell["path"]
    return cell
