"""Judgments kept on disk: what a judge was asked once is not asked again.

A folder of small files, one a judgment, each written in one step under a name that is the hash of
everything that decides the answer. Several runs may share it; a kill leaves it whole; a file that
is damaged costs one judgment; to forget all, remove the folder.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import threading
from dataclasses import asdict, fields, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import critic_jax
from critic_jax.judging.ask import Ask, Asking
from critic_jax.judging.judgment import Judgment

_FIELDS = tuple(field.name for field in fields(Judgment))


class JudgmentCache:
    """Judgments by pictures, prompt, format, the judge's fingerprint (model and sampling) and how
    it was asked."""

    def __init__(
        self,
        folder: Path,
        fingerprint: str,
        model: str,
        asking: Asking = Asking(),  # noqa: B008 (frozen)
    ) -> None:
        self.folder = folder
        self._fingerprint, self._model, self._asking = fingerprint, model, asking
        self._told = False

    def get(self, ask: Ask) -> Judgment | None:
        """What was answered to this before. A damaged entry is warned of and counts as none."""
        path = self._path(ask)
        try:
            entry = json.loads(path.read_bytes())
            if entry["digest"] != _digest(entry["judgment"]):
                raise ValueError("its digest is another")
            found = Judgment(**_with_pairs(entry["judgment"]))
        except FileNotFoundError:
            return None
        except (OSError, ValueError, TypeError, KeyError) as error:
            _warn(f"{path}: damaged ({error or type(error).__name__}); judged again")
            return None
        return replace(found, model=self._model)  # a copy of a model may bear another name

    def put(self, ask: Ask, judgment: Judgment) -> None:
        """Keep a judgment. Where the disk refuses, a warning tells so once and the work goes on."""
        path, said = self._path(ask), asdict(judgment)
        text = json.dumps({"judgment": said, "digest": _digest(said)}, ensure_ascii=False)
        part = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}.part")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            # Not synced: after a power cut an entry may be empty, which is told when it is read.
            part.write_text(text, encoding="utf-8")
            os.replace(part, path)
        except OSError as error:
            with contextlib.suppress(OSError):
                part.unlink()
            if not self._told:
                _warn(f"{self.folder}: judgments cannot be kept ({error.strerror})")
            self._told = True

    def _path(self, ask: Ask) -> Path:
        """Where the judgment of this ask stands: another place for anything that matters to it.

        The package's version is a part, since another one may read a text in another way.
        """
        parts: list[Any] = [
            critic_jax.__version__,
            _FIELDS,
            self._fingerprint,
            [visual.key for visual in ask.visuals],
            ask.prompt(),
            [ask.template.name, ask.order, repr(ask.template.format), ask.verdict_only],
            asdict(self._asking),
        ]
        name = sha256(json.dumps(parts).encode()).hexdigest()
        return self.folder / name[:2] / f"{name[2:]}.json"


def _with_pairs(said: dict[str, Any]) -> dict[str, Any]:
    """The fields of a judgment, once JSON has made lists of its tuples."""
    return {name: tuple(v) if isinstance(v, list) else v for name, v in said.items()}


def _digest(said: dict[str, Any]) -> str:
    return sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()[:16]


def _warn(text: str) -> None:
    print(f"critic-jax: warning: {text}", file=sys.stderr)
