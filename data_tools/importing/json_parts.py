"""Where the objects of a large JSONL or JSON array file begin and end, without parsing them.

So a file is cut into parts that several processes read, and a broken object costs only itself.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

from critic_jax.data.json_lines import parse_object
from critic_jax.errors import InputError

_BLOCK = 1 << 20
_SPACE = b" \t\r\n"
_BOM = b"\xef\xbb\xbf"
_OUTSIDE = re.compile(rb'[\[\]{},"]')
_INSIDE = re.compile(rb'["\\]')


@dataclass(frozen=True)
class Span:
    """Bytes [start, stop) of a file, of which the first is on `line`."""

    start: int
    stop: int
    line: int


def is_array(file: BinaryIO) -> bool:
    """Whether the file holds one JSON array; otherwise it holds an object a line."""
    file.seek(0)
    return file.read(4096).removeprefix(_BOM).lstrip(_SPACE).startswith(b"[")


def parts(file: BinaryIO, array: bool, size: int) -> Iterator[Span]:
    """The file as spans of whole objects, each at least `size` bytes long, but for the last.

    The commas between objects of an array are in no span's ends, but inside spans.
    """
    first: Span | None = None
    stop = 0
    for span in _array_spans(file, *_behind_bracket(file)) if array else _lines(file):
        first = first or span
        stop = span.stop
        if stop - first.start >= size:
            yield Span(first.start, stop, first.line)
            first = None
    if first is not None:
        yield Span(first.start, stop, first.line)


def part_objects(
    file: BinaryIO, part: Span, array: bool, name: str
) -> Iterator[tuple[int, dict[str, object] | InputError]]:
    """(line, object) of each object of a part, the error in the place of a broken one."""
    spans = _array_spans(file, part.start, part.line, part.stop) if array else _lines(file, part)
    whole = part.stop == os.fstat(file.fileno()).st_size
    for span in spans:
        file.seek(span.start)
        raw = file.read(span.stop - span.start)
        body = raw.lstrip(_SPACE)
        line = span.line + raw[: len(raw) - len(body)].count(b"\n")
        if array and whole and span.stop == part.stop:
            file.seek(span.start - 1)
            alone = file.read(1) == b"["
            yield from _last(body, line, f"{name} line {line}", alone)
        elif body or array:
            yield line, parse_object(body, f"{name} line {line}")


def _last(
    body: bytes, line: int, where: str, alone: bool
) -> Iterator[tuple[int, dict[str, object] | InputError]]:
    """The end of an array's file: its last object and bracket, and whatever should not be there.

    alone: no comma stands before it, so there may be no object.
    """
    inner, bracket, behind = _split_end(body)
    if inner.strip(_SPACE) or not alone:
        yield line, parse_object(inner, where)
    if not bracket:
        yield line, InputError(f"{where}: not valid JSON (the array does not end with a bracket)")
    elif behind.strip(_SPACE):
        shown = behind.strip(_SPACE)[:20].decode(errors="replace")
        yield line, InputError(f"{where}: not valid JSON ({shown!r} behind the end of the array)")


def _split_end(body: bytes) -> tuple[bytes, bytes, bytes]:
    """The last object, the bracket behind it, and the rest."""
    depth, place = 0, 0
    while (found := _OUTSIDE.search(body, place)) is not None:
        sign, place = found.group(), found.end()
        if sign == b'"':
            place = _string_end(body, place)
        elif sign in b"[{":
            depth += 1
        elif sign == b"]" and not depth:
            return body[: found.start()], sign, body[place:]
        elif sign in b"]}":
            depth -= 1
    return body, b"", b""


def _string_end(body: bytes, place: int) -> int:
    while (found := _INSIDE.search(body, place)) is not None:
        if found.group() == b'"':
            return found.end()
        place = found.end() + 1
    return len(body)


def _lines(file: BinaryIO, part: Span | None = None) -> Iterator[Span]:
    """Every line, blank ones too."""
    start, line, stop = 0, 1, None
    if part is not None:
        start, line, stop = part.start, part.line, part.stop
    elif _starts_with_bom(file):
        start = len(_BOM)
    file.seek(start)
    while (stop is None or start < stop) and (raw := file.readline()):
        # The place is kept by hand: callers move the file's own.
        yield Span(start, start + len(raw), line)
        start, line = start + len(raw), line + 1
        file.seek(start)


def _starts_with_bom(file: BinaryIO) -> bool:
    file.seek(0)
    return file.read(len(_BOM)) == _BOM


def _behind_bracket(file: BinaryIO) -> tuple[int, int]:
    """The place behind an array's opening bracket, and its line."""
    file.seek(0)
    start = file.read(4096)
    place = start.index(b"[") + 1
    return place, 1 + start.count(b"\n", 0, place)


def _array_spans(file: BinaryIO, start: int, line: int, stop: int | None = None) -> Iterator[Span]:
    """What stands between an array's commas; the last span goes to the end of the file."""
    end = os.fstat(file.fileno()).st_size if stop is None else stop
    depth, inside, escaped = 0, False, False
    begin, begin_line = start, line
    place = start
    while place < end:
        file.seek(place)
        block = file.read(min(_BLOCK, end - place))
        if not block:
            break
        at = 1 if escaped else 0
        escaped = False
        while (found := (_INSIDE if inside else _OUTSIDE).search(block, at)) is not None:
            sign, at = found.group(), found.end()
            if inside:
                if sign == b'"':
                    inside = False
                else:
                    at += 1
                    escaped = at > len(block)
            elif sign == b'"':
                inside = True
            elif sign in b"[{":
                depth += 1
            elif sign in b"]}":
                depth -= 1
                if depth < 0:  # the end of the array: what follows belongs to the last span
                    yield Span(begin, end, begin_line)
                    return
            elif not depth:
                comma = place + found.start()
                yield Span(begin, comma, begin_line)
                begin, begin_line = comma + 1, line + block.count(b"\n", 0, found.start())
        line += block.count(b"\n")
        place += len(block)
    yield Span(begin, end, begin_line)
