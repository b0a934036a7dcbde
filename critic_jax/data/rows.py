"""Steps of packed rows at random access, whatever the records come from."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

import numpy as np

from critic_jax.data.encode import Encoder
from critic_jax.data.plan import Group, Plan, Step
from critic_jax.data.records import Record
from critic_jax.tree import Path, Row, pack

Batch = dict[str, np.ndarray]

KEPT_PICTURES = 16
"""Pictures kept in memory: the records of one stand together. 37 real tiles take 16 MB."""


@dataclass(frozen=True)
class Holding:
    """What a step holds.

    tokens, tiles: slots of its rows in use.
    useful_tokens: of the records' own paths, as if each stood alone; more than `tokens` where
        records share a trunk.
    """

    records: int
    tokens: int
    useful_tokens: int
    tiles: int


class PlannedRows(ABC):
    """`rows[step]` is the batch [R, ...] of a training step; `length` is how many there are."""

    def __init__(self, encoder: Encoder, plan: Plan, epochs: int) -> None:
        self.encoder, self.plan, self.budget = encoder, plan, plan.budget
        self.length = plan.steps(epochs)

    @abstractmethod
    def paths(self, members: Sequence[int]) -> list[Path]:
        """The encoded records of a group."""

    def trees(self, members: Sequence[int]) -> list[list[Path]]:
        """The encoded records of a group, by which of them share what they begin with."""
        return [self.paths(members)]

    def arrays(self, row: Row, paths: Sequence[Path], members: Sequence[int]) -> Batch:
        """What of a packed row travels to the device.

        paths: in the order that they were packed in. members: the records that they are of.
        """
        return row.arrays()

    @abstractmethod
    def tokens(self, member: int) -> int:
        """The tokens of a record's own path."""

    @abstractmethod
    def record(self, member: int) -> Record:
        """A record, with its pictures."""

    @abstractmethod
    def name(self, member: int) -> str:
        """The id of a record."""

    def members(self) -> list[int]:
        """All records that a plan is made of."""
        return sorted({m for group in self.plan.groups for m in group.members})

    def names(self, step: int) -> list[str]:
        """The ids of a step's records, row after row."""
        return [self.name(m) for group in self._groups(step) for m in group.members]

    def holding(self, step: int) -> Holding:
        """What a step holds; nothing is read or encoded for it."""
        groups = self._groups(step)
        members = [m for group in groups for m in group.members]
        return Holding(
            len(members),
            sum(group.tokens for group in groups),
            sum(self.tokens(m) for m in members),
            sum(group.tiles for group in groups),
        )

    def _groups(self, step: int) -> list[Group]:
        return [self.plan.groups[g] for row in self.plan.step(step) for g in row]

    def digest(self) -> str:
        """16 hexadecimal digits of the records that a plan is made of.

        It changes with their ids, order and lengths, and with which of them share a picture.
        """
        digest = sha256()
        for group in self.plan.groups:
            names = [self.name(member) for member in group.members]
            digest.update(repr((names, group.tokens, group.tiles)).encode())
        return digest.hexdigest()[:16]

    def report(self) -> dict[str, Any]:
        """What the first epoch's steps hold, see `Plan.report`."""
        return dict(self.plan.report())

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, step: int) -> Batch:
        """The batch of a step: the arrays of `tree.Row` stacked over R rows.

        And `records`, how many there are in it. Raises IndexError behind the last step.
        """
        return self.part(step, 0, self.budget.rows)

    def part(self, step: int, first: int, stop: int) -> Batch:
        """Rows [first, stop) of a step, for a host that holds these; `records` is the step's."""
        if not 0 <= step < self.length:
            raise IndexError(f"step {step} of {self.length}")
        planned = self.plan.step(step)
        return self.batch(planned[first:stop], self.plan.records(planned))

    def batch(self, rows: Step, records: int) -> Batch:
        """Build planned rows of a step that holds `records` records."""
        geometry, budget = self.encoder.geometry, self.budget
        shape = (geometry.tile_size, geometry.tile_size, 3)
        built = []
        for row in rows:
            paths: list[Path] = []
            groups: list[list[int]] = []
            members = self.plan.members(row)
            for g in row:
                for tree in self.trees(self.plan.groups[g].members):
                    groups.append(list(range(len(paths), len(paths) + len(tree))))
                    paths.extend(tree)
            packed = pack(paths, groups, budget.tokens, budget.tiles, shape, geometry.patches)
            built.append(self.arrays(packed, paths, members))
        batch = {name: np.stack([r[name] for r in built]) for name in built[0]}
        batch["records"] = np.asarray(records, np.float32)
        return batch
