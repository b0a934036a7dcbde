"""Steps of rows from imports: planned from their indexes, read at random access."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from critic_jax.data.chosen import Chosen, Forest, forest
from critic_jax.data.corpus import Corpus
from critic_jax.data.encode import Encoder, prepare_pictures
from critic_jax.data.plan import Budget, Plan
from critic_jax.data.records import Record
from critic_jax.data.rows import KEPT_PICTURES, PlannedRows
from critic_jax.errors import InputError
from critic_jax.imaging import Visual
from critic_jax.tree import Path

WINDOW = 256
"""Trees looked at to fill a step's gaps."""


@dataclass(frozen=True)
class Packing:
    """How chosen records become trees.

    share_trunks: false makes every record a tree of its own, in plain shuffled order.
    drop_oversize: leave out records that are larger than a row and tell them in the report; else
        they are an error.
    """

    share_trunks: bool = True
    drop_oversize: bool = False


class CorpusRows(PlannedRows):
    """The steps of chosen records. Nothing is encoded before its step is built.

    Can be pickled to worker processes, where each opens the imports for itself. Raises InputError
    for records larger than a row, with how many there are and what would hold them.
    """

    def __init__(
        self,
        chosen: Chosen,
        encoder: Encoder,
        budget: Budget,
        epochs: int,
        seed: int,
        packing: Packing = Packing(),
    ) -> None:
        self.chosen, self.encoder = chosen, encoder
        self._open: _Opened | None = None  # a pickle leaves it behind
        self.forest: Forest = forest(chosen, budget, packing.share_trunks)
        if self.forest.oversize and not packing.drop_oversize:
            raise InputError(self._oversize(budget))
        weights = self.forest.weights
        even = all(weight == 1 for weight in weights)
        plan = Plan(self.forest.groups, budget, seed, WINDOW, None if even else weights)
        super().__init__(encoder, plan, epochs)

    def report(self) -> dict[str, Any]:
        """The first epoch's steps (`Plan.report`), trees and cuts, and the records left out."""
        oversize = [self.name(place) for place in self.forest.oversize]
        return {
            **self.plan.report(),
            "trees": len(self.forest.groups),
            "cut_trees": self.forest.cut,
            "repeated_trunk_tokens": self.forest.repeated,
            "oversize_records": oversize,
        }

    def paths(self, members: Sequence[int]) -> list[Path]:
        return [self._path(member) for member in members]

    def tokens(self, member: int) -> int:
        return int(self.chosen.tokens[member])

    def record(self, member: int) -> Record:
        corpus = self._opened.corpora[int(self.chosen.corpus[member])]
        return corpus.record(int(self.chosen.number[member]))

    def name(self, member: int) -> str:
        corpus = self._opened.corpora[int(self.chosen.corpus[member])]
        return corpus.name(int(self.chosen.number[member]))

    def _path(self, member: int) -> Path:
        place, number = int(self.chosen.corpus[member]), int(self.chosen.number[member])
        corpus = self._opened.corpora[place]
        stored = corpus.example(number)
        visuals = self._opened.visuals(place, tuple(int(n) for n in stored["pictures"]))
        return self.encoder.record(corpus.record_of(number, stored, with_pictures=False), visuals)

    def _oversize(self, budget: Budget) -> str:
        places = self.forest.oversize
        first = places[0]
        corpus = self._opened.corpora[int(self.chosen.corpus[first])]
        tokens, tiles = (int(v[places].max()) for v in (self.chosen.tokens, self.chosen.tiles))
        return (
            f"{corpus.folder}: {len(places)} of {len(self.chosen)} records are larger than a row "
            f"of {budget.tokens} tokens and {budget.tiles} tiles, the first is "
            f"{self.name(first)!r}: raise row_tokens to {tokens} and row_tiles to {tiles}, or "
            "leave them out (drop_oversize)"
        )

    @property
    def _opened(self) -> _Opened:
        if self._open is None:
            self._open = _Opened(self.chosen, self.encoder)
        return self._open

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_open": None}


class _Opened:
    """What a process has open: the imports, and the tiles of the pictures used last."""

    def __init__(self, chosen: Chosen, encoder: Encoder) -> None:
        self.corpora = tuple(Corpus(folder) for folder in chosen.folders)
        self.encoder = encoder
        self.visuals = lru_cache(maxsize=KEPT_PICTURES)(self._visuals)

    def _visuals(self, place: int, pictures: tuple[int, ...]) -> tuple[Visual, ...]:
        corpus = self.corpora[place]
        files = [corpus.picture(number) for number in pictures]
        try:
            return prepare_pictures(files, self.encoder.geometry, "its bytes")
        except InputError as error:
            raise InputError(f"{corpus.folder} pictures {pictures}: {error}") from None
