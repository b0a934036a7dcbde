"""Results while they are being made: a file beside the output that a later run goes on from."""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self, TextIO

from critic_jax.data import read_json_lines
from critic_jax.errors import InputError, WorkError
from critic_jax.files import lock, write_atomically
from critic_jax.hosts import is_first
from critic_jax.judging.judgment import Order

Key = tuple[str, Order]
"""The id of a line, and the order in which its answers were shown."""

SYNC_SECONDS = 1.0
"""What was written in so long a power cut may cost; a kill costs nothing."""


class Partial:
    """The results so far of one output: `output` + ".partial", or the output of an earlier run.

    done: what has a result. It is a context manager that opens the file for `write`, and keeps
    other runs away from it until `finish` or an error. Of several processes the first makes it, and
    the others get what it knows: they write nothing.
    """

    def __init__(
        self, output: Path, model: str, how: Mapping[str, Any], kind: str = "judgment"
    ) -> None:
        """Take up what is there; a line that a kill cut short leaves it.

        how: fields that every result holds, or lacks where they are None. kind: what a result is.
        Raises InputError for results of another model's name, for those made in another way, or
        for something else.
        """
        self._output = output
        self.path = output.with_name(output.name + ".partial")
        self._model, self._how, self._kind = model, how, kind
        self.done: set[Key] = set()
        self._prints: dict[str, set[str]] = {"fingerprint": set(), "judge_fingerprint": set()}
        output.parent.mkdir(parents=True, exist_ok=True)
        self._written: set[Key] = set()
        self._file: TextIO | None = None
        if self.path.exists():
            self._open("r").close()
            written = self.path.read_bytes()
            if not written.endswith(b"\n"):
                write_atomically(self.path, written[: written.rfind(b"\n") + 1].decode())
            self._take_up(self.path)
        elif output.exists():
            self._take_up(output)
            write_atomically(self.path, output.read_text(encoding="utf-8"))
        self._size = self.path.stat().st_size if self.path.exists() else 0

    def _open(self, mode: Literal["r", "a"]) -> TextIO:
        """The file, as the only run that has it open."""
        file = self.path.open(mode, encoding="utf-8")
        try:
            lock(file.fileno(), self.path)
        except InputError:
            file.close()
            raise
        return file

    def _take_up(self, source: Path) -> None:
        for number, fields in read_json_lines(source):
            other = fields.get("model")
            if other != self._model or not isinstance(fields.get("id"), str):
                said = "no" if other is None else "a"
                said += f" {self._kind}" + ("" if other is None else f" of model {other!r}")
                raise InputError(
                    f"{source} line {number}: is {said}, not of {self._model!r}; "
                    "name another output, or remove this file"
                )
            for name, wanted in self._how.items():
                if (held := fields.get(name)) != wanted:
                    raise InputError(
                        f"{source} line {number}: {name} is {_words(held)}, not {_words(wanted)}; "
                        "name another output, or remove this file"
                    )
            self.done.add(key_of(fields))
            for name, held in self._prints.items():
                held.add(str(fields.get(name)))

    def check_fingerprint(self, fingerprint: str, name: str = "fingerprint") -> None:
        """Raise InputError if earlier results are of another model with the same name.

        name: the field of the results in which that model's fingerprint stands.
        """
        if others := sorted(self._prints[name] - {fingerprint}):
            raise InputError(
                f"{self.path}: holds {self._kind}s of a {self._model!r} with the {name} "
                f"{others[0]}, this one has {fingerprint}: other weights or sampler settings; "
                "name another output"
            )

    def __enter__(self) -> Self:
        if is_first():
            self._begin()
        return self

    def _begin(self) -> None:
        self._file = self._open("a")
        self._synced = time.monotonic()
        if self._size != (now := os.fstat(self._file.fileno()).st_size):
            if now:
                self._file.close()
            else:
                self.finish()
            raise WorkError(f"{self.path}: another run has used it; run the same command again")

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if not is_first():
            return
        assert self._file is not None
        self._sync()
        if not os.fstat(self._file.fileno()).st_size:
            self.finish()
        elif error is not None:
            with contextlib.suppress(OSError):  # of a full disk, again for what is not written
                self._file.close()

    def write(self, fields: Mapping[str, Any]) -> None:
        """Add a result; a kill from here on does not lose it."""
        if not is_first():
            return
        assert self._file is not None
        self._file.write(json.dumps(fields, ensure_ascii=False) + "\n")
        self._file.flush()
        self._written.add(key_of(fields))
        if time.monotonic() - self._synced >= SYNC_SECONDS:
            self._sync()

    def _sync(self) -> None:
        assert self._file is not None
        os.fsync(self._file.fileno())
        self._synced = time.monotonic()

    def results(self, wanted: Sequence[Key], keep_others: bool) -> list[dict[str, Any]]:
        """The results in the order wanted; the others behind them, if they are kept.

        Raises WorkError where one that was there is gone: files may be moved while a run lasts.
        """
        lines = read_json_lines(self.path) if self.path.exists() else ()
        found = {key_of(fields): fields for _, fields in lines}
        if lost := (self.done | self._written) - found.keys():
            raise WorkError(
                f"{self.path}: {len(lost)} results are gone from it, another run may have taken "
                "them; run the same command again"
            )
        results = [fields for key in wanted if (fields := found.pop(key, None)) is not None]
        return [*results, *found.values()] if keep_others else results

    def finish(self) -> None:
        """Remove the file: its results stand in the output."""
        if is_first():
            self.path.unlink(missing_ok=True)
            if self._file is not None:
                self._file.close()


def _words(how: Any) -> str:
    if isinstance(how, Mapping):
        return ", ".join(f"{name} {value}" for name, value in how.items())
    return "as usual" if how is None else str(how)


def key_of(fields: Mapping[str, Any]) -> Key:
    """What a results line is the result of."""
    return fields["id"], fields.get("order", "ab")
