"""JSON objects out of a file of lines (JSONL) or out of one JSON array, with the line of each.

Every verb that reads a user's JSON reads it here, so that a wrong line is told in the same words
everywhere: `answers.jsonl line 7: not valid JSON (Expecting ',' delimiter at column 31)`.
"""

import json
import os
import re
from collections.abc import Iterator
from typing import Any, NoReturn

from critic_jax.errors import InputError

_SPACE = b" \t\r\n"
_NO_SPACE = re.compile(r"[^ \t\r\n]")
_BOM = b"\xef\xbb\xbf"


class _NotJSONError(ValueError):
    """Something that Python's reader lets pass and JSON does not."""


def read_json_lines(path: str | os.PathLike[str]) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield (line number from 1, object) of each object in the file; blank lines are left out.

    Raises InputError at the first wrong line, and for a file that is missing or unreadable.
    """
    for line, found in scan_json_lines(path):
        if isinstance(found, InputError):
            raise found
        yield line, found


def scan_json_lines(
    path: str | os.PathLike[str],
) -> Iterator[tuple[int, dict[str, Any] | InputError]]:
    """Like `read_json_lines`, but yields the error in the place of a wrong line and goes on.

    Nothing can be read behind broken JSON in an array: there the error is the last item.
    Raises InputError for a file that is missing or unreadable.
    """
    name = os.fspath(path)
    try:
        with open(path, "rb") as file:
            start = file.read(4096).removeprefix(_BOM).lstrip(_SPACE)
            file.seek(0)
            if start.startswith(b"["):
                yield from _scan_array(file.read(), name)
            else:
                for line, raw in enumerate(file, start=1):
                    if line == 1:
                        raw = raw.removeprefix(_BOM)
                    if raw.strip(_SPACE):
                        yield line, parse_object(raw, f"{name} line {line}")
    except FileNotFoundError:
        raise InputError(f"{name}: no such file") from None
    except IsADirectoryError:
        raise InputError(f"{name}: a folder, where a JSONL or JSON file is wanted") from None
    except OSError as error:
        raise InputError(f"{name}: cannot be read ({error.strerror})") from None


def parse_object(raw: bytes, where: str) -> dict[str, Any] | InputError:
    """The object that these bytes are, or the error that says why they are none.

    where: file and line in words.
    """
    try:
        text = _decode(raw.rstrip(_SPACE))
        return _checked(_DECODER.decode(text), text, where)
    except (ValueError, RecursionError) as error:
        return InputError(f"{where}: not valid JSON ({_reason(error)})")


def _scan_array(raw: bytes, name: str) -> Iterator[tuple[int, dict[str, Any] | InputError]]:
    try:
        text = _decode(raw.removeprefix(_BOM))
    except ValueError as error:
        raise InputError(f"{name}: not valid JSON ({_reason(error)})") from None
    line, counted, place = 1, 0, text.index("[") + 1
    expects_item = False  # after a comma, an item must follow
    while True:
        place = _skip_space(text, place)
        line, counted = line + text.count("\n", counted, place), place
        if text[place : place + 1] == "]" and not expects_item:
            if rest := text[_skip_space(text, place + 1) :]:
                said = f"{rest[:20]!r} behind the end of the array"
                yield line, InputError(f"{name} line {line}: not valid JSON ({said})")
            return
        try:
            value, end = _DECODER.raw_decode(text, place)
            yield line, _checked(value, text[place:end], f"{name} line {line}")
            place = _skip_space(text, end)
            if text[place : place + 1] not in ("]", ","):
                raise json.JSONDecodeError("Expecting ',' delimiter", text, place)
        except (ValueError, RecursionError) as error:
            at = error.lineno if isinstance(error, json.JSONDecodeError) else line
            yield at, InputError(f"{name} line {at}: not valid JSON ({_reason(error)})")
            return
        expects_item = text[place] == ","
        place += expects_item


def _checked(value: Any, text: str, where: str) -> dict[str, Any] | InputError:
    if not isinstance(value, dict):
        kind = _KINDS.get(type(value), "null")
        return InputError(f"{where}: {kind}, where a JSON object {{...}} is wanted")
    if "\\ud" in text or "\\uD" in text:
        try:
            json.dumps(value, ensure_ascii=False).encode()
        except UnicodeEncodeError:
            return InputError(f"{where}: half of a surrogate pair (\\ud800 to \\udfff), not text")
    return value


def _decode(raw: bytes) -> str:
    if b"\0" in raw:
        raise _NotJSONError(f"a NUL byte at byte {raw.index(0) + 1}; is it a text file?")
    try:
        return raw.decode()
    except UnicodeDecodeError as error:
        byte = raw[error.start]
        raise _NotJSONError(f"byte {error.start + 1} is 0x{byte:02x}: not UTF-8") from None


def _skip_space(text: str, place: int) -> int:
    return len(text) if (found := _NO_SPACE.search(text, place)) is None else found.start()


def _reason(error: Exception) -> str:
    if isinstance(error, json.JSONDecodeError):
        return f"{error.msg.removesuffix(' at')} at column {error.colno}"
    if isinstance(error, RecursionError):
        return "nested too deep"
    return str(error)


def _refuse_constant(text: str) -> NoReturn:
    raise _NotJSONError(f"{text} is no JSON number")


_DECODER = json.JSONDecoder(parse_constant=_refuse_constant)
_KINDS = {list: "a list", str: "a text", bool: "true or false", int: "a number", float: "a number"}
