"""Steps of packed rows at random access, whatever the records come from."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np

from critic_jax.data.encode import Encoder
from critic_jax.data.plan import Plan, Step
from critic_jax.tree import Path, pack

Batch = dict[str, np.ndarray]

KEPT_PICTURES = 16
"""Pictures kept in memory: the records of one stand together. 37 real tiles take 16 MB."""


class PlannedRows(ABC):
    """`rows[step]` is the batch [R, ...] of a training step; `length` is how many there are."""

    def __init__(self, encoder: Encoder, plan: Plan, epochs: int) -> None:
        self.encoder, self.plan, self.budget = encoder, plan, plan.budget
        self.length = plan.steps(epochs)

    @abstractmethod
    def paths(self, members: Sequence[int]) -> list[Path]:
        """The encoded records of a group."""

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
            for g in row:
                members = self.plan.groups[g].members
                groups.append(list(range(len(paths), len(paths) + len(members))))
                paths.extend(self.paths(members))
            packed = pack(paths, groups, budget.tokens, budget.tiles, shape, geometry.patches)
            built.append(packed.arrays())
        batch = {name: np.stack([r[name] for r in built]) for name in built[0]}
        batch["records"] = np.asarray(records, np.float32)
        return batch
