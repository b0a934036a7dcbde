"""The packing plan: which picture's records go into which row of which step.

A pure function of (sizes, seed, epoch, budgets), so any step can be built at random and a run
resumes from one number. A step holds `global_batch` records, not whatever fits: the recipe counts
records.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from critic_jax.errors import InputError


@dataclass(frozen=True)
class Group:
    """The records of one picture that form one tree: its size in a row."""

    members: tuple[int, ...]  # record numbers
    tokens: int
    tiles: int


@dataclass(frozen=True)
class Budget:
    """A step: `rows` rows of `tokens` and `tiles`, which together hold `records` records."""

    records: int
    rows: int
    tokens: int
    tiles: int


Step = tuple[tuple[int, ...], ...]  # for each row, the groups in it


class Plan:
    """The steps of every epoch. Epochs are planned when first asked for."""

    def __init__(self, groups: Sequence[Group], budget: Budget, seed: int) -> None:
        for g in groups:
            if g.tokens > budget.tokens or g.tiles > budget.tiles:
                raise InputError(
                    f"a tree of {g.tokens} tokens and {g.tiles} tiles doesn't fit a row of "
                    f"{budget.tokens} and {budget.tiles}: raise row_tokens or row_tiles"
                )
        if not groups:
            raise InputError("no records to train on")
        self.groups = list(groups)
        self.budget = budget
        self.seed = seed
        self.epoch = lru_cache(maxsize=2)(self._epoch)

    def _epoch(self, epoch: int) -> list[Step]:
        """The steps of one epoch, every group once."""
        order = np.random.default_rng([self.seed, epoch]).permutation(len(self.groups))
        steps: list[Step] = []
        waiting = [int(g) for g in order]
        while waiting:
            step, waiting = self._fill(waiting)
            steps.append(step)
        return steps

    def _fill(self, waiting: list[int]) -> tuple[Step, list[int]]:
        """Take groups in order until the step has its records; best fit, largest first."""
        records, taken = 0, 0
        for g in waiting:
            count = len(self.groups[g].members)
            if records and records + count > self.budget.records:
                break
            records, taken = records + count, taken + 1
        chosen = sorted(waiting[:taken], key=lambda g: -self.groups[g].tokens)
        rows: list[list[int]] = [[] for _ in range(self.budget.rows)]
        tokens = [self.budget.tokens] * len(rows)
        tiles = [self.budget.tiles] * len(rows)
        left: list[int] = []
        for g in chosen:
            group = self.groups[g]
            fits = [
                r for r in range(len(rows)) if group.tokens <= tokens[r] and group.tiles <= tiles[r]
            ]
            if not fits:
                left.append(g)
                continue
            best = min(fits, key=lambda r: tokens[r])
            rows[best].append(g)
            tokens[best] -= group.tokens
            tiles[best] -= group.tiles
        return tuple(tuple(r) for r in rows), left + waiting[taken:]

    def step(self, number: int) -> Step:
        """Step `number`, counted from 0 over all epochs."""
        epoch = 0
        while number >= len(self.epoch(epoch)):
            number -= len(self.epoch(epoch))
            epoch += 1
        return self.epoch(epoch)[number]

    def steps(self, epochs: int) -> int:
        """Steps in the first `epochs` epochs."""
        return sum(len(self.epoch(e)) for e in range(epochs))
