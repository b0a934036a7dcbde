"""What a run was begun with, kept in its folder: a run goes on with the same, or not at all."""

from __future__ import annotations

import json
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from critic_jax.errors import InputError
from critic_jax.files import write_json
from critic_jax.hosts import is_first
from critic_jax.training.config import TrainConfig

FILE = "run.json"

FREE = (
    *("output", "save_every", "keep_states", "loader_workers", "profile", "validation_judged"),
    *("data_parallel", "fsdp", "tensor", "accumulate", "remat"),
    "data",  # it may have moved; its records are held against their digest
    "rounds",  # another one changes nothing of those before it
)
"""Fields that may change between two starts: the steps stay the same, and what each teaches, though
on another mesh, or worked on in other parts, numbers are rounded otherwise.
"""


class Begun:
    """The file `run.json`: when a run first started, its config, and a digest of its records."""

    def __init__(self, output: Path, going_on: bool) -> None:
        """going_on: whether there is a state to go on from. Raises InputError for a broken file."""
        self._path, self._going_on = output / FILE, going_on
        self._before: dict[str, Any] = {}
        if self._path.exists():
            try:
                self._before = json.loads(self._path.read_text())
                self.time = float(self._before["began"])
            except (ValueError, KeyError, TypeError) as error:
                raise InputError(f"{self._path}: not a run's own file ({error})") from None
        else:
            self.time = time.time()

    def check(self, config: TrainConfig) -> None:
        """Raises InputError for a field that decides what is trained and is another than before."""
        for name, value in _plain(config).items():
            before = self._config().get(name, value)
            if name not in FREE and value != before:
                raise InputError(
                    f"{self._path}: begun with {name} {before!r}, and now it is {value!r}: give "
                    "the old value to go on, or another output to begin anew"
                )

    def keep(self, config: TrainConfig, records: str) -> None:
        """Note config and records. Raises InputError if the records are others than before."""
        if self._going_on and self._before.get("records", records) != records:
            raise InputError(
                f"{self._path}: the records of {config.data or 'parts'} are no longer those that "
                "the run was begun with: bring them back to go on, or give another output"
            )
        if is_first():
            noted = {"began": self.time, "config": _plain(config), "records": records}
            write_json(self._path, noted)

    def _config(self) -> dict[str, Any]:
        config: dict[str, Any] = self._before.get("config", {}) if self._going_on else {}
        return config


def _plain(config: TrainConfig) -> dict[str, Any]:
    plain: dict[str, Any] = json.loads(json.dumps(asdict(config)))
    return plain
