"""Being asked to stop: SIGTERM, which is also how a TPU host is told that it will be taken away."""

from __future__ import annotations

import signal
import threading
from types import FrameType
from typing import Any

import jax
from jax.experimental import multihost_utils


class StopSignal:
    """A context in which SIGTERM does not end the process, but is there to be asked about.

    Ctrl-C stays what it is. On several processes JAX's own listener takes the signal, and all of
    them are told to stop at the same place, whichever of them got it.
    """

    def __init__(self) -> None:
        self._told = False
        self._asked = 0
        self._before: Any = None
        self._ours = False

    def __enter__(self) -> StopSignal:
        # Python lets no other thread listen.
        main = threading.current_thread() is threading.main_thread()
        self._ours = main and jax.process_count() == 1
        if self._ours:
            self._before = signal.signal(signal.SIGTERM, self._tell)
        return self

    def __exit__(self, *error: object) -> None:
        if self._ours:
            signal.signal(signal.SIGTERM, self._before)

    def asked(self) -> bool:
        """Whether to stop here. Where there are several processes, all ask at the same places, and
        all are told yes at the same one.
        """
        if not self._told and jax.process_count() > 1:
            # JAX calls it a step: any number that grows alike on all processes.
            self._asked += 1
            self._told = bool(multihost_utils.reached_preemption_sync_point(self._asked))
        return self._told

    def _tell(self, number: int, frame: FrameType | None) -> None:
        self._told = True
