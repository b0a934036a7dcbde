"""The same function over many tasks, on all cores, with a progress bar."""

from __future__ import annotations

import multiprocessing
import os
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.connection import wait
from typing import Any, Self, TypeVar

from critic_jax.errors import WorkError
from critic_jax.progress import progress

Result = TypeVar("Result")


def core_count() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0))


class Pool:
    """Worker processes, started when there is work for them. A single one is this process itself.

    Spawned, not forked: Arrow and the progress bar run threads, which a fork would cut off.
    """

    def __init__(self, workers: int) -> None:
        self.workers = workers
        self._executor: ProcessPoolExecutor | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        if self._executor is not None:
            self._executor.shutdown(wait=True, cancel_futures=True)

    def run(
        self, what: str, function: Callable[..., Result], tasks: Sequence[tuple[Any, ...]]
    ) -> Iterator[Result]:
        """Yield `function(*task)` of each task, in their order; the first error ends it.

        Few tasks are handed out ahead, so results don't pile up in memory. Raises WorkError where a
        worker is killed.
        """
        with progress() as bar:
            counted = bar.add_task(what, total=len(tasks))
            for result in self._results(function, tasks):
                bar.advance(counted)
                yield result

    def _results(
        self, function: Callable[..., Result], tasks: Sequence[tuple[Any, ...]]
    ) -> Iterator[Result]:
        if self.workers == 1 or len(tasks) < 2:
            for task in tasks:
                yield function(*task)
            return
        if self._executor is None:
            context = multiprocessing.get_context("spawn")
            self._executor = ProcessPoolExecutor(
                self.workers, mp_context=context, initializer=_end_with_parent
            )
        waiting: deque[Future[Result]] = deque()
        try:
            for task in tasks:
                waiting.append(self._executor.submit(function, *task))
                if len(waiting) > 2 * self.workers:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        except BrokenProcessPool:
            raise WorkError(
                "a worker process was killed, for want of memory perhaps; "
                "run the same command again, with fewer --workers"
            ) from None


def _end_with_parent() -> None:
    """Leave at once when the parent is gone: its workers would wait for tasks for ever."""
    parent = multiprocessing.parent_process()
    assert parent is not None

    def watch() -> None:
        wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
