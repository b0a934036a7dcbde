"""Writing a file so that nobody ever sees half of it."""

import contextlib
import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any


def write_atomically(path: str | os.PathLike[str], text: str) -> Path:
    """Write text (UTF-8) beside `path` and move it there in one step; missing folders are made.

    Where writing fails, an older file at `path` stays as it was. Returns the path.
    """
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        with part.open("w", encoding="utf-8", newline="\n") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, target)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            part.unlink()
        raise
    return target


def write_json(path: str | os.PathLike[str], value: Any) -> Path:
    """Write one JSON document atomically."""
    return write_atomically(path, json.dumps(value, indent=1, ensure_ascii=False) + "\n")


def write_json_lines(path: str | os.PathLike[str], lines: Iterable[Mapping[str, Any]]) -> Path:
    """Write one JSON object a line, atomically."""
    text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
    return write_atomically(path, text)
