"""A folder that appears whole or not at all, in place of an older one."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from critic_jax.errors import InputError
from critic_jax.files import told_if_full


@contextmanager
def published(path: Path, mark: str | None = None) -> Iterator[Path]:
    """A new folder to fill, which takes the place of `path` when the block ends without an error.

    What stands at `path` is replaced only if it holds the file `mark`, which a checkpoint of ours
    does; anything else raises InputError. What a killed call left behind the next one clears away.
    Raises WorkError for a full disk.
    """
    path = path.absolute()
    if path.exists() and not _empty(path) and not (mark and (path / mark).exists()):
        said = "exists and is no checkpoint" if mark else "exists and is not empty"
        raise InputError(f"{path}: {said}; name another folder")
    building, aside = building_folder(path), _aside(path)
    shutil.rmtree(building, ignore_errors=True)
    building.mkdir(parents=True)
    try:
        with told_if_full(path.parent):
            yield building
    except BaseException:
        shutil.rmtree(building, ignore_errors=True)
        raise
    if path.exists():
        shutil.rmtree(aside, ignore_errors=True)
        os.replace(path, aside)
    os.replace(building, path)
    shutil.rmtree(aside, ignore_errors=True)


def building_folder(path: Path) -> Path:
    """Where the folder of `path` is filled before it takes its place."""
    return path.with_name(f".{path.name}.building")


def standing(path: str | os.PathLike[str]) -> Path:
    """Where the folder of `path` stands: aside, if a kill fell between the two moves."""
    folder = Path(path).absolute()
    aside = _aside(folder)
    return aside if not folder.exists() and aside.exists() else folder


def _aside(path: Path) -> Path:
    return path.with_name(f".{path.name}.old")


def _empty(path: Path) -> bool:
    return path.is_dir() and not any(path.iterdir())
