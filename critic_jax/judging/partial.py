"""Results while they are being made: a file beside the output that a later run goes on from."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from critic_jax.data import read_json_lines
from critic_jax.errors import InputError
from critic_jax.files import write_atomically
from critic_jax.hosts import is_first
from critic_jax.judging.judgment import Order

Key = tuple[str, Order]
"""The id of a line, and the order in which its answers were shown."""

SYNC_SECONDS = 1.0
"""What was written in so long a power cut may cost; a kill costs nothing."""


class Partial:
    """The results so far of one output: `output` + ".partial", or the output of an earlier run.

    done: what has a result. It is a context manager that opens the file for `write`. Of several
    processes the first makes it, and the others get what it knows: they write nothing.
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
        if self.path.exists():
            written = self.path.read_bytes()
            if not written.endswith(b"\n"):
                write_atomically(self.path, written[: written.rfind(b"\n") + 1].decode())
            self._take_up(self.path)
        elif output.exists():
            self._take_up(output)
            write_atomically(self.path, output.read_text(encoding="utf-8"))

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
            self._file = self.path.open("a", encoding="utf-8")
            self._synced = time.monotonic()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if not is_first():
            return
        self._sync()
        self._file.close()
        if not self.path.stat().st_size:
            self.finish()

    def write(self, fields: Mapping[str, Any]) -> None:
        """Add a result; a kill from here on does not lose it."""
        if not is_first():
            return
        self._file.write(json.dumps(fields, ensure_ascii=False) + "\n")
        self._file.flush()
        if time.monotonic() - self._synced >= SYNC_SECONDS:
            self._sync()

    def _sync(self) -> None:
        os.fsync(self._file.fileno())
        self._synced = time.monotonic()

    def results(self, wanted: Sequence[Key], keep_others: bool) -> list[dict[str, Any]]:
        """The results in the order wanted; the others behind them, if they are kept."""
        if not self.path.exists():
            return []
        found = {key_of(fields): fields for _, fields in read_json_lines(self.path)}
        results = [fields for key in wanted if (fields := found.pop(key, None)) is not None]
        return [*results, *found.values()] if keep_others else results

    def finish(self) -> None:
        """Remove the file: its results stand in the output."""
        if is_first():
            self.path.unlink(missing_ok=True)


def _words(how: Any) -> str:
    if isinstance(how, Mapping):
        return ", ".join(f"{name} {value}" for name, value in how.items())
    return "as usual" if how is None else str(how)


def key_of(fields: Mapping[str, Any]) -> Key:
    """What a results line is the result of."""
    return fields["id"], fields.get("order", "ab")
