"""The files of an import, cut into units of work: row groups of parquet, parts of JSON files."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq

from critic_jax.data import BadRecord, Record
from critic_jax.data.records import TOLD, make_record
from critic_jax.errors import InputError

from . import json_parts

PART_BYTES = 1 << 20
"""JSON is read in parts of about this size: large against a task's cost, small against memory."""

BATCH_ROWS = 32
"""Rows of parquet in memory at a time; one holds the bytes of its picture."""

Format = Literal["parquet", "lines", "array"]


@dataclass(frozen=True)
class Source:
    """A file of records. `config` is the published set's name for its part, or ""."""

    path: Path
    config: str
    format: Format
    images: Path  # where relative picture paths start


@dataclass(frozen=True)
class Unit:
    """A piece of a source that one process reads: rows or objects from `first` (counted from 1) on.

    A unit with a `fault` stands for something that cannot be read at all.
    """

    source: Source
    start: int  # row group, or first byte
    stop: int
    first: int
    fault: str = ""


def find_sources(paths: Sequence[Path], images: Path | None) -> list[Source]:
    """The files that the paths name. A folder is searched for parquet files.

    Parquet in a folder of its own takes that folder's name as its config (pointwise, pairwise).
    Raises InputError for a path that is missing, or holds nothing to import.
    """
    if images is not None and not images.is_dir():
        raise InputError(f"{images}: no such folder of pictures")
    found: list[Source] = []
    for path in paths:
        if path.is_dir():
            inside = sorted(p for p in path.rglob("*.parquet") if p.is_file())
            if not inside:
                raise InputError(f"{path}: holds no .parquet file; name JSON files one by one")
            for file in inside:
                within = file.parent.relative_to(path)
                config = within.name if within.parts else _config(path)
                found.append(Source(file, config, "parquet", images or file.parent))
        elif not path.is_file():
            raise InputError(f"{path}: no such file or folder")
        elif path.suffix == ".parquet":
            found.append(Source(path, _config(path.parent), "parquet", images or path.parent))
        else:
            with path.open("rb") as opened:
                form: Format = "array" if json_parts.is_array(opened) else "lines"
            found.append(Source(path, "", form, images or path.parent))
    if len({s.path.resolve() for s in found}) < len(found):
        raise InputError("a file is named twice; every record would be imported twice")
    return found


def _config(folder: Path) -> str:
    return folder.name if folder.name in ("pointwise", "pairwise") else ""


def units(source: Source) -> Iterator[Unit]:
    """The units of a source, in order."""
    if source.format == "parquet":
        yield from _row_groups(source)
        return
    with source.path.open("rb") as file:
        for part in json_parts.parts(file, source.format == "array", PART_BYTES):
            yield Unit(source, part.start, part.stop, part.line)


def rows(unit: Unit) -> Iterator[Record | BadRecord]:
    """The records of a unit in order, a BadRecord in the place of each that cannot be one."""
    source = unit.source
    if unit.fault:
        yield BadRecord(unit.first, None, unit.fault)
        return
    word = "row" if source.format == "parquet" else "line"
    for place, found in _row_group(unit) if source.format == "parquet" else _objects(unit):
        where = f"{source.path} {word} {place}"
        if isinstance(found, InputError):
            yield BadRecord(place, None, str(found))
            continue
        try:
            yield make_record(found, source.images, place, where)
        except InputError as error:
            named = found.get("id")
            name = named if isinstance(named, str) else None
            yield BadRecord(place, name, f"{where}: {error}")


def _objects(unit: Unit) -> Iterator[tuple[int, dict[str, Any] | InputError]]:
    source = unit.source
    part = json_parts.Span(unit.start, unit.stop, unit.first)
    with source.path.open("rb") as file:
        yield from json_parts.part_objects(
            file, part, source.format == "array", os.fspath(source.path)
        )


# --- parquet ----------------------------------------------------------------------------------

_TURNS = "a list of struct<from: string, value: string>"
_IMAGE = "struct<bytes: binary, path: string>"


def _row_groups(source: Source) -> Iterator[Unit]:
    try:
        with pq.ParquetFile(source.path) as table:
            if fault := _schema_fault(table.schema_arrow):
                yield Unit(source, 0, 0, 0, f"{source.path}: {fault}")
                return
            first = 1
            for group in range(table.num_row_groups):
                yield Unit(source, group, group + 1, first)
                first += table.metadata.row_group(group).num_rows
    except (pa.ArrowException, OSError) as error:
        reason = str(error).split("\n")[0]
        fault = f"{source.path}: not a whole parquet file ({reason}); fetch it again"
        yield Unit(source, 0, 0, 0, fault)


def _schema_fault(schema: pa.Schema) -> str | None:
    """What is wrong with a file's columns; every row would be wrong with it."""
    wanted = (
        ("id", _is_text_or_number, "string", True),
        ("source", _is_text, "string", False),
        ("conversations", _is_turns, _TURNS, True),
        ("image", _is_image, _IMAGE, False),
    )
    for name, fits, right, needed in wanted:
        if name not in schema.names:
            if needed:
                return f"column '{name}' is missing; it should be {right}"
        elif not fits(schema.field(name).type):
            return f"column '{name}' is {schema.field(name).type}; it should be {right}"
    return None


def _is_text(kind: pa.DataType) -> bool:
    return pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_null(kind)


def _is_text_or_number(kind: pa.DataType) -> bool:
    return _is_text(kind) or pa.types.is_integer(kind)


def _is_bytes(kind: pa.DataType) -> bool:
    return pa.types.is_binary(kind) or pa.types.is_large_binary(kind)


def _is_turns(kind: pa.DataType) -> bool:
    if not (pa.types.is_list(kind) or pa.types.is_large_list(kind)):
        return False
    turn = kind.value_type
    return pa.types.is_struct(turn) and all(
        turn.get_field_index(name) >= 0 and _is_text(turn.field(name).type)
        for name in ("from", "value")
    )


def _is_image(kind: pa.DataType) -> bool:
    if pa.types.is_struct(kind):
        return kind.get_field_index("bytes") >= 0 and _is_bytes(kind.field("bytes").type)
    return _is_bytes(kind) or pa.types.is_null(kind)


def _row_group(unit: Unit) -> Iterator[tuple[int, dict[str, Any] | InputError]]:
    """The rows of a row group; where its bytes are damaged, one error for all that are left."""
    place, path = unit.first, unit.source.path
    with pq.ParquetFile(path) as table:
        left = table.metadata.row_group(unit.start).num_rows
        schema = table.schema_arrow
        names = [n for n in ("id", "source", "conversations", "image") if n in schema.names]
        names += [n for n in TOLD if n in schema.names and _is_text(schema.field(n).type)]
        try:
            batches = table.iter_batches(BATCH_ROWS, row_groups=[unit.start], columns=names)
            for batch in batches:
                columns = {name: _without_text(batch.column(name)) for name in names}
                for row in range(batch.num_rows):
                    values = {name: column[row].as_py() for name, column in columns.items()}
                    yield place, _fields(values, place, path)
                    place, left = place + 1, left - 1
        except (pa.ArrowException, OSError) as error:
            reason = str(error).split("\n")[0]
            yield (
                place,
                InputError(
                    f"{path} row {place}: row group {unit.start} is damaged, {left} rows are lost "
                    f"({reason}); fetch the file again"
                ),
            )


def _without_text(column: pa.Array) -> pa.Array:
    """The column with bytes in the place of texts, since a text may not be UTF-8."""
    return column.cast(_bytes_for_text(column.type))


def _bytes_for_text(kind: pa.DataType) -> pa.DataType:
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return pa.large_binary()
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return pa.large_list(_bytes_for_text(kind.value_type))
    if pa.types.is_struct(kind):
        return pa.struct([(f.name, _bytes_for_text(f.type)) for f in kind])
    return kind


def _fields(row: dict[str, Any], place: int, path: Path) -> dict[str, Any] | InputError:
    """A row as the fields of a JSON record; a picture stays bytes."""
    try:
        image = row.pop("image", None)
        fields = {name: _text(value, name) for name, value in row.items()}
        if isinstance(image, dict):
            content, name = image.get("bytes"), image.get("path")
            image = {"bytes": content} if content is not None else _text(name, "image.path")
        elif isinstance(image, bytes):
            image = {"bytes": image}
        return {**fields, "image": image}
    except InputError as error:
        return InputError(f"{path} row {place}: {error}")


def _text(value: Any, field: str) -> Any:
    """The value with texts decoded. Raises InputError that names the field."""
    if isinstance(value, bytes):
        try:
            return value.decode()
        except UnicodeDecodeError as error:
            byte = value[error.start]
            raise InputError(
                f"field '{field}': byte {error.start + 1} is 0x{byte:02x}: not UTF-8"
            ) from None
    if isinstance(value, list):
        return [_text(item, f"{field}[{place}]") for place, item in enumerate(value)]
    if isinstance(value, dict):
        return {name: _text(item, f"{field}.{name}") for name, item in value.items()}
    return value
