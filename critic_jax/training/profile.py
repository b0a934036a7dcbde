"""A trace of some steps, for TensorBoard's profile page or Perfetto."""

from __future__ import annotations

from pathlib import Path

import jax

from critic_jax.errors import InputError


class Profile:
    """Traces steps [first, stop), counted from 1 as in the metrics, into a folder.

    A context: on leaving it within the window, what was traced so far is written.
    """

    def __init__(self, window: str, folder: Path) -> None:
        """window: such as "10:13", or nothing. Raises InputError for one of another form."""
        self._folder, self._on = folder, False
        self._first = self._stop = 0
        if window:
            first, colon, stop = window.partition(":")
            if colon and first.isdecimal() and stop.isdecimal():
                self._first, self._stop = int(first), int(stop)
            if not 0 < self._first < self._stop:
                raise InputError(
                    f"profile {window!r}; it should be like 10:13 for steps 10, 11 and 12"
                )

    def turns(self, step: int) -> bool:
        """Whether the trace begins or ends before this step: no other should be under way then."""
        return bool(self._stop) and self._on != (self._first <= step < self._stop)

    def turn(self) -> None:
        """Begin the trace, or end it and write it."""
        if self._on:
            jax.profiler.stop_trace()
        else:
            jax.profiler.start_trace(str(self._folder))
        self._on = not self._on

    def __enter__(self) -> Profile:
        return self

    def __exit__(self, *error: object) -> None:
        if self._on:
            self.turn()
