"""Batches of packed rows, as a Grain data set that can be read at any step."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from itertools import groupby
from typing import Any

import grain
import numpy as np

from critic_jax.data.encode import Encoder
from critic_jax.data.plan import Budget, Group, Plan, Step
from critic_jax.data.records import Record
from critic_jax.errors import InputError
from critic_jax.imaging import Visual
from critic_jax.tree import Path, build, cut, pack, size, tile_count, token_keys

Batch = dict[str, np.ndarray]

KEPT_PICTURES = 16
"""Pictures kept in memory: the records of one stand together. 37 real tiles take 16 MB."""


def picture_groups(records: Sequence[Record]) -> list[list[int]]:
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


class Rows:
    """Steps of packed rows, at random access: `rows[step]` is a batch [R, ...] of a training step.

    Encodes every record once at the start for its size, then again when its step is built; the
    tiles of the pictures used last are kept. Raises InputError for a record that is wrong or larger
    than a row.
    """

    def __init__(
        self, records: Sequence[Record], encoder: Encoder, budget: Budget, epochs: int, seed: int
    ) -> None:
        self.records, self.encoder, self.budget = records, encoder, budget
        self._visuals = lru_cache(maxsize=KEPT_PICTURES)(self._open)
        self._first: dict[tuple[Any, ...], int] = {}
        for number, record in enumerate(records):
            self._first.setdefault(record.images, number)
        groups: list[Group] = []
        for members in picture_groups(records):
            paths = [self._path(m) for m in members]
            for member, path in zip(members, paths, strict=True):
                self._check_size(records[member], path)
            for part in cut(paths, range(len(paths)), budget.tokens, budget.tiles):
                tokens = size(build(token_keys(paths), part))
                groups.append(
                    Group(tuple(members[p] for p in part), tokens, tile_count(paths, part))
                )
        self.plan = Plan(groups, budget, seed)
        self.length = self.plan.steps(epochs)

    def _open(self, images: tuple[Any, ...], first: int) -> tuple[Visual, ...]:
        return self.encoder.visuals(self.records[first])

    def _path(self, record: int) -> Path:
        images = self.records[record].images
        # The first record of a picture stands for the others, so that they share one cache entry.
        return self.encoder.record(self.records[record], self._visuals(images, self._first[images]))

    def _check_size(self, record: Record, path: Path) -> None:
        tiles, budget = tile_count([path], [0]), self.budget
        if len(path) > budget.tokens or tiles > budget.tiles:
            raise InputError(
                f"{record.place}, record {record.id!r}: {len(path)} tokens and {tiles} tiles; "
                f"a row holds {budget.tokens} and {budget.tiles}: raise row_tokens or row_tiles"
            )

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, step: int) -> Batch:
        """The batch of a step: the arrays of `tree.Row` stacked over R rows.

        And `records`, how many there are in it. Raises IndexError behind the last step.
        """
        if not 0 <= step < self.length:
            raise IndexError(f"step {step} of {self.length}")
        return self.batch(self.plan.step(step))

    def batch(self, step: Step) -> Batch:
        """Build the rows of one planned step."""
        geometry, budget = self.encoder.geometry, self.budget
        shape = (geometry.tile_size, geometry.tile_size, 3)
        rows, count = [], 0
        for row in step:
            paths: list[Path] = []
            groups: list[list[int]] = []
            for g in row:
                members = self.plan.groups[g].members
                groups.append(list(range(len(paths), len(paths) + len(members))))
                paths.extend(self._path(m) for m in members)
            count += len(paths)
            packed = pack(paths, groups, budget.tokens, budget.tiles, shape, geometry.patches)
            rows.append(packed.arrays())
        batch = {name: np.stack([r[name] for r in rows]) for name in rows[0]}
        batch["records"] = np.asarray(count, np.float32)
        return batch


def batches(rows: Rows, start: int) -> grain.IterDataset[Batch]:
    """The batches from step `start` on, built ahead in threads.

    Slicing comes before prefetching, so where a run resumes does not depend on how it reads.
    """
    steps = grain.MapDataset.range(start, len(rows)).map(lambda step: rows[step])
    return steps.to_iter_dataset(grain.ReadOptions(num_threads=2, prefetch_buffer_size=8))
