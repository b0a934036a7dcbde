"""Writing a file so that nobody ever sees half of it, and what to say where there is no room."""

import contextlib
import fcntl
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from critic_jax.errors import InputError, WorkError

_NO_ROOM = ("No space left", "File too large", "quota exceeded")


@contextlib.contextmanager
def told_if_full(folder: str | os.PathLike[str]) -> Iterator[None]:
    """Turn a full disk, or a file-size limit, into a WorkError that says what to do."""
    try:
        yield
    except (OSError, RuntimeError, ValueError) as error:
        # ArrayRecord's writer raises RuntimeError, TensorStore ValueError, with the system's words.
        words = next((words for words in _NO_ROOM if words in str(error)), None)
        if words is None:
            raise
        raise WorkError(
            f"{folder}: no room left to write ({words}); make room and run the same command again"
        ) from error


def make_folder(path: Path) -> None:
    """Make a folder to write to, where there is none. Raises InputError where there can be none."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            f"{path}: cannot be made a folder ({error.strerror}); name another place to write to"
        ) from None
    if not os.access(path, os.W_OK | os.X_OK):
        raise InputError(f"{path}: may not be written to; name another place")


@contextlib.contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Keep other runs away from a folder while the context, or this process, lasts.

    Raises InputError where another run has it.
    """
    handle = os.open(folder, os.O_RDONLY)
    try:
        lock(handle, folder)
        yield
    finally:
        os.close(handle)


def lock(handle: int, path: Path) -> None:
    """Keep other runs away from what is open as `handle`, until that is closed.

    Raises InputError where another run has it.
    """
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise InputError(
            f"{path}: another run is writing to it; wait for its end, or name another output"
        ) from None
    except OSError:  # a disk that knows no locks
        pass


def write_atomically(path: str | os.PathLike[str], text: str) -> Path:
    """Write text (UTF-8) beside `path` and move it there in one step; missing folders are made.

    Where writing fails, an older file at `path` stays as it was. Returns the path. Raises
    InputError for a path that is a folder, or below a file.
    """
    target = Path(path)
    if target.is_dir():
        raise InputError(f"{target}: a folder, where a file is to be written")
    make_folder(target.parent)
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
