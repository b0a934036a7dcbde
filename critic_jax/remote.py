"""Files and folders behind URLs such as gs://bucket/set: copies in a local cache.

ArrayRecord files are read in place on a local disk only, so a data set is fetched once and then
read at random access; what has not changed is not fetched again.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from hashlib import sha256
from pathlib import Path
from typing import Any

import fsspec

from critic_jax.errors import InputError, WorkError
from critic_jax.files import write_json
from critic_jax.progress import progress

_URL = re.compile(r"([a-z][a-z0-9]+):/+(?=[^/])")
# They say that a data set, or a model, is whole, so they come behind all other files.
_LAST = ("import.json", "critic.json")


def url_of(path: str | os.PathLike[str]) -> str | None:
    """The URL that a path is, None for a local one. `pathlib` makes one slash of two: mended."""
    match = _URL.match(os.fspath(path))
    if match is None:
        return None
    return f"{match.group(1)}://{os.fspath(path)[match.end() :]}"


def cache_root() -> Path:
    """Where copies and whatever else can be made again are kept: $CRITIC_JAX_CACHE, or
    ~/.cache/critic_jax.
    """
    return Path(os.environ.get("CRITIC_JAX_CACHE") or Path.home() / ".cache" / "critic_jax")


def cache_folder(url: str) -> Path:
    """Where the copy of a URL stands."""
    url = url.rstrip("/")
    return cache_root() / sha256(url.encode()).hexdigest()[:16] / url.rsplit("/", 1)[1]


def fetched(path: str | os.PathLike[str]) -> Path:
    """A local path to read: the path itself, or for a URL an up-to-date copy of file or folder.

    Raises InputError for a URL that leads nowhere, or that cannot be read.
    """
    url = url_of(path)
    if url is None:
        return Path(path)
    system, root = _system(url)
    target = cache_folder(url)
    try:
        if system.isfile(root):
            _fetch(system, {root: system.info(root)}, {root: target}, target.parent)
            return target
        files = system.find(root, detail=True)
    except Exception as error:  # each store raises its own
        raise InputError(f"{url}: cannot be read ({error})") from None
    if not files:
        raise InputError(f"{url}: no such file or folder")
    places = {name: target / name[len(root) :].lstrip("/") for name in files}
    try:
        _fetch(system, files, places, target.parent)
    except InputError:
        raise
    except Exception as error:
        raise WorkError(f"{url}: could not be fetched ({error}); run the same again") from error
    return target


def brought(url: str, folder: Path, names: Sequence[str]) -> None:
    """Make files of a folder be what those at a URL are now; one that is not there goes.

    Raises InputError for a URL that cannot be read.
    """
    system, root = _system(url)
    try:
        for name in names:
            part = folder / f".{name}.{os.getpid()}.part"
            if system.isfile(f"{root.rstrip('/')}/{name}"):
                system.get_file(f"{root.rstrip('/')}/{name}", str(part))
                part.replace(folder / name)
            else:
                (folder / name).unlink(missing_ok=True)
    except Exception as error:  # each store raises its own
        raise InputError(f"{url}: cannot be read ({error})") from None


def sent(folder: Path, url: str, quiet: bool = False) -> None:
    """Copy a folder to a URL, but for hidden files; what was sent before is left as it is.

    quiet: without a bar. Raises WorkError where writing fails; the same again goes on.
    """
    system, root = _system(url)
    files = [p for p in sorted(folder.rglob("*")) if p.is_file() and not _hidden(p, folder)]
    files.sort(key=lambda path: path.name in _LAST)
    notes = cache_folder(url).parent / "sent.json"
    known: dict[str, list[int]] = json.loads(notes.read_text()) if notes.exists() else {}
    try:
        with nullcontext() if quiet else progress() as bar:
            for path in bar.track(files, description="sending") if bar else files:
                name = f"{root.rstrip('/')}/{path.relative_to(folder).as_posix()}"
                status = path.stat()
                state = [status.st_size, status.st_mtime_ns]
                if known.get(name) == state and system.exists(name):
                    continue
                system.makedirs(name.rsplit("/", 1)[0], exist_ok=True)
                system.put_file(str(path), name)
                known[name] = state
                write_json(notes, known)
    except Exception as error:  # each store raises its own
        raise WorkError(f"{url}: could not be written ({error}); run the same again") from error


def _system(url: str) -> tuple[Any, str]:
    try:
        system, root = fsspec.core.url_to_fs(url)
    except (ImportError, ValueError) as error:
        raise InputError(f"{url}: {error}") from None
    return system, str(root)


def _fetch(
    system: Any, files: Mapping[str, Mapping[str, Any]], places: Mapping[str, Path], notes: Path
) -> None:
    """Fetch what is not there, or was of another size or date."""
    path = notes / "fetched.json"
    known: dict[str, str] = json.loads(path.read_text()) if path.exists() else {}
    names = sorted(files, key=lambda name: (name.rsplit("/", 1)[-1] in _LAST, name))
    with progress() as bar:
        for name in bar.track(names, description="fetching"):
            state = _state(files[name])
            if places[name].exists() and known.get(name) == state:
                continue
            places[name].parent.mkdir(parents=True, exist_ok=True)
            part = places[name].with_name(f".{places[name].name}.part")
            system.get_file(name, str(part))
            part.replace(places[name])
            known[name] = state
            write_json(path, known)


def _state(info: Mapping[str, Any]) -> str:
    """What changes when a file does; stores name its date differently."""
    names = ("etag", "ETag", "md5Hash", "generation", "mtime", "updated", "LastModified", "created")
    return " ".join(str(info[name]) for name in ("size", *names) if name in info)


def _hidden(path: Path, folder: Path) -> bool:
    return any(part.startswith(".") for part in path.relative_to(folder).parts)
