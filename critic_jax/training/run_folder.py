"""Where a run's files stand: in a folder here, or behind a URL such as gs://bucket/runs/critic.

Behind a URL, states and the trained model are written there by TensorStore, from every host. The
small files are written here first, since a store has no lines to append to; they are sent before
each state, so that none of them is behind the state that the next start goes on from.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from etils import epath

from critic_jax.errors import InputError
from critic_jax.files import alone, make_folder
from critic_jax.hosts import is_first, on_each, on_first, wait_for_all
from critic_jax.remote import brought, cache_folder, sent, url_of

FILES = ("run.json", "plan.json", "metrics.jsonl", "pairs.jsonl")
"""What a start reads of those before it, but for states."""


@dataclass(frozen=True)
class RunFolder:
    """here: of the small files, on this machine. url: of the run, None where it stands here."""

    here: Path
    url: str | None

    @classmethod
    def of(cls, output: str | os.PathLike[str]) -> RunFolder:
        """Raises InputError for a URL of another store, and for no folder at all."""
        if not os.fspath(output):
            raise InputError("output is empty; it should name a folder for the run")
        url = url_of(output)
        if url is not None and not url.startswith("gs://"):
            raise InputError(f"output {url}: a run is written to a folder or to gs://BUCKET/FOLDER")
        return cls(Path(output) if url is None else cache_folder(url), url)

    def open(self) -> None:
        """Make the folder; behind a URL, bring what earlier starts wrote. All processes must ask.

        Raises InputError for a folder that cannot be made, and a URL that cannot be read.
        """
        if self.url is not None and is_first():
            # What an earlier run of that name left on this machine is not to be sent.
            shutil.rmtree(self.here, ignore_errors=True)
        wait_for_all("run folder cleared")
        on_each(lambda: make_folder(self.here))
        if (url := self.url) is not None:
            on_each(lambda: brought(url, self.here, FILES))

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """Keep other runs away from the folder here. All processes must ask; the first does it.

        Raises InputError where another run has it.
        """
        with contextlib.ExitStack() as held:
            on_first(lambda: held.enter_context(alone(self.here)))
            yield

    def place(self, name: str) -> epath.Path:
        """Of what is written there and not here first: the states, the trained model."""
        return epath.Path(self.url or self.here.absolute()) / name

    def send(self) -> None:
        """Behind a URL, send what changed of the small files; by the first process.

        Raises WorkError where that fails.
        """
        if self.url is not None and is_first():
            sent(self.here, self.url, quiet=True)
