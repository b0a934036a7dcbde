"""Pictures made ready for an endpoint once, for all requests about them that follow each other."""

from __future__ import annotations

import threading
from collections import OrderedDict
from concurrent.futures import Future
from pathlib import Path
from typing import Any

from critic_jax.judging.remote import RemoteCritic

KEPT = 32
"""So many pictures' requests may be mixed; a photograph takes some 100 kB."""

Images = tuple[Path | bytes, ...]


class Sent:
    """What `critic.visuals` makes of pictures, for the last ones asked about. Safe to use from
    several threads: whoever comes second waits for the first."""

    def __init__(self, critic: RemoteCritic) -> None:
        self._critic = critic
        self._lock = threading.Lock()
        self._kept: OrderedDict[Images, Future[tuple[Any, ...]]] = OrderedDict()

    def visuals(self, images: Images) -> tuple[Any, ...]:
        """Raises InputError for what is no picture, each time that it is asked for."""
        if not images:
            return ()
        with self._lock:
            made = self._kept.get(images)
            mine = made is None
            if made is None:
                made = self._kept[images] = Future()
                if len(self._kept) > KEPT:
                    self._kept.popitem(last=False)
            self._kept.move_to_end(images)
        if mine:
            try:
                made.set_result(self._critic.visuals(list(images), "its picture"))
            except BaseException as error:
                made.set_exception(error)
        return made.result()
