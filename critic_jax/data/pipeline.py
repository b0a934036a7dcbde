"""Batches of packed rows, as a Grain data set that can be read at any step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import groupby
from typing import Any

import grain
from absl import flags

from critic_jax.data.encode import Encoder
from critic_jax.data.pairs import Pair
from critic_jax.data.plan import Budget, Group, Plan
from critic_jax.data.records import Record
from critic_jax.data.rows import KEPT_PICTURES, Batch, PlannedRows
from critic_jax.errors import InputError
from critic_jax.imaging import Visual
from critic_jax.tree import Path, build, cut, size, tile_count, token_keys


def picture_groups(records: Sequence[Record | Pair]) -> list[list[int]]:
    """Record numbers by picture, in order of first appearance.

    Records without a picture stay alone.
    """

    def key(number: int) -> str:
        images = records[number].images
        return repr(images) if images else f"record {number}"

    first: dict[str, int] = {}
    for number in range(len(records)):
        first.setdefault(key(number), number)
    ordered = sorted(range(len(records)), key=lambda n: (first[key(n)], n))
    return [list(g) for _, g in groupby(ordered, key=lambda n: first[key(n)])]


class Rows(PlannedRows):
    """The steps of records in memory.

    Encodes every record once at the start for its size, then again when its step is built; the
    tiles of the pictures used last are kept. Raises InputError for a record that is wrong or larger
    than a row.
    """

    def __init__(
        self,
        records: Sequence[Record],
        encoder: Encoder,
        budget: Budget,
        epochs: int,
        seed: int,
        share_trunks: bool = True,
    ) -> None:
        self.records = records
        self._visuals = lru_cache(maxsize=KEPT_PICTURES)(self._open)
        self._first: dict[tuple[Any, ...], int] = {}
        self.encoder = encoder
        for number, record in enumerate(records):
            self._first.setdefault(record.images, number)
        self._tokens = [0] * len(records)
        groups: list[Group] = []
        alone = [[number] for number in range(len(records))]
        for members in picture_groups(records) if share_trunks else alone:
            paths = self.paths(members)
            for member, path in zip(members, paths, strict=True):
                _check_size(records[member], path, budget)
                self._tokens[member] = len(path)
            for part in cut(paths, range(len(paths)), budget.tokens, budget.tiles):
                tokens = size(build(token_keys(paths), part))
                groups.append(
                    Group(tuple(members[p] for p in part), tokens, tile_count(paths, part))
                )
        super().__init__(encoder, Plan(groups, budget, seed), epochs)

    def paths(self, members: Sequence[int]) -> list[Path]:
        return [self._path(m) for m in members]

    def tokens(self, member: int) -> int:
        return self._tokens[member]

    def record(self, member: int) -> Record:
        return self.records[member]

    def name(self, member: int) -> str:
        return self.records[member].id

    def _open(self, images: tuple[Any, ...], first: int) -> tuple[Visual, ...]:
        return self.encoder.visuals(self.records[first])

    def _path(self, record: int) -> Path:
        images = self.records[record].images
        # The first record of a picture stands for the others, so that they share one cache entry.
        return self.encoder.record(self.records[record], self._visuals(images, self._first[images]))


def _check_size(record: Record, path: Path, budget: Budget) -> None:
    tiles = tile_count([path], [0])
    if len(path) > budget.tokens or tiles > budget.tiles:
        raise InputError(
            f"{record.place}, record {record.id!r}: {len(path)} tokens and {tiles} tiles; "
            f"a row holds {budget.tokens} and {budget.tiles}: raise row_tokens or row_tiles"
        )


def batches(
    rows: PlannedRows, start: int, workers: int = 0, part: tuple[int, int] | None = None
) -> grain.IterDataset[Batch]:
    """The batches from step `start` on, built ahead in threads, or in `workers` processes.

    part: [first, stop) of each step's rows, those that this host holds; by default all.

    A step number is all the state there is: slicing comes before prefetching, and an element is a
    whole step, so where a run resumes depends neither on how it reads nor on how many processes.
    """
    first, stop = part or (0, rows.budget.rows)
    steps = grain.MapDataset.range(start, len(rows)).map(_Part(rows, first, stop))
    if workers:
        if not flags.FLAGS.is_parsed():  # only absl's own main would do so
            flags.FLAGS.mark_as_parsed()
        one = grain.ReadOptions(num_threads=1, prefetch_buffer_size=1)
        several = grain.MultiprocessingOptions(num_workers=workers, per_worker_buffer_size=2)
        return steps.to_iter_dataset(one).mp_prefetch(several)
    return steps.to_iter_dataset(grain.ReadOptions(num_threads=2, prefetch_buffer_size=8))


@dataclass(frozen=True)
class _Part:
    """From a step's number to its rows; travels to worker processes."""

    rows: PlannedRows
    first: int
    stop: int

    def __call__(self, step: int) -> Batch:
        return self.rows.part(int(step), self.first, self.stop)
