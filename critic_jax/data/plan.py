"""The packing plan: which picture's records go into which row of which step.

A pure function of (sizes, seed, epoch, budgets), so any step can be built at random and a run
resumes from one number. A step holds `global_batch` records, not whatever fits: the recipe counts
records.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

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
    """The steps of every epoch. Epochs are planned when first asked for.

    Groups come in an order shuffled by (seed, epoch). A step takes them from the front until the
    next would bring it beyond its records, and lays them into its rows by best fit, largest first.
    What is then missing, in records or in room, is filled from a `window` of further groups; groups
    passed over stay at the front. A window of 0 takes groups strictly in order.

    weights: how often each group comes in an epoch; a fraction takes that share of them, others
    each time.
    """

    def __init__(
        self,
        groups: Sequence[Group],
        budget: Budget,
        seed: int,
        window: int = 0,
        weights: Sequence[float] | None = None,
    ) -> None:
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
        self.window = window
        self.weights = None if weights is None else np.asarray(weights, float)
        self._epochs: dict[int, list[Step]] = {}

    def epoch(self, epoch: int) -> list[Step]:
        """The steps of one epoch, every group as often as its weight says."""
        planned = self._epochs.get(epoch)
        if planned is None:
            # A run goes from one to the next, its threads a few steps apart.
            if len(kept := list(self._epochs)) > 1:
                self._epochs.pop(min(kept), None)
            planned = self._epochs[epoch] = self._planned(epoch)
        return planned

    def _planned(self, epoch: int) -> list[Step]:
        dice = np.random.default_rng([self.seed, epoch])
        if self.weights is None:
            order = dice.permutation(len(self.groups))
        else:
            order = dice.permutation(np.repeat(np.arange(len(self.groups)), self._times(dice)))
        steps: list[Step] = []
        waiting, ahead = deque[int](), deque(order.tolist())
        while waiting or ahead:
            steps.append(self._fill(waiting, ahead))
        return steps

    def _times(self, dice: np.random.Generator) -> np.ndarray:
        """How often each group comes: of equal weights the right number, drawn anew."""
        assert self.weights is not None
        times = np.floor(self.weights).astype(int)
        for weight in np.unique(self.weights % 1):
            alike = np.flatnonzero(self.weights % 1 == weight)
            times[dice.choice(alike, round(weight * len(alike)), replace=False)] += 1
        if not times.any():
            times[int(dice.integers(len(times)))] = 1
        return times

    def _fill(self, waiting: deque[int], ahead: deque[int]) -> Step:
        """The next step, taken out of the groups that wait and those ahead."""
        bins = _Bins(self.budget)
        if self.window:
            while ahead and len(waiting) < self.window:
                waiting.append(ahead.popleft())
            if self._rows_end_first(waiting):
                self._fill_rows(bins, waiting)
                return bins.step()
        taken: list[int] = []
        held = 0
        while waiting or ahead:
            source = waiting or ahead
            count = len(self.groups[source[0]].members)
            if taken and held + count > self.budget.records:
                break
            taken.append(source.popleft())
            held += count
        left = bins.lay(taken, self.groups)
        waiting.extendleft(reversed(left))
        if self.window:
            self._top_up(bins, waiting)
        return bins.step()

    def _rows_end_first(self, waiting: Sequence[int]) -> bool:
        """Whether the rows are full before the step has its records: there is a choice to make."""
        records, tokens, tiles = self.budget.records, self.budget.tokens, self.budget.tiles
        tokens, tiles = tokens * self.budget.rows, tiles * self.budget.rows
        for g in waiting:
            group = self.groups[g]
            records, tokens = records - len(group.members), tokens - group.tokens
            tiles -= group.tiles
            if records <= 0:
                return False
            if tokens <= 0 or tiles < 0:
                return True
        return False

    def _fill_rows(self, bins: _Bins, waiting: deque[int]) -> None:
        """Fill row after row, each time with the tree that leaves least room, in both sizes.

        Distance to what is left, in shares of a row (norm-based greedy, Panigrahy et al. 2011,
        Heuristics for Vector Bin Packing). The tree that waits longest goes first, so none waits
        for ever.
        """
        budget = self.budget
        groups = [self.groups[g] for g in waiting]
        tokens = np.array([g.tokens for g in groups]) / budget.tokens
        tiles = np.array([g.tiles for g in groups]) / max(budget.tiles, 1)
        counts = np.array([len(g.members) for g in groups])
        free = np.ones(len(groups), bool)
        left = budget.records
        for row in range(budget.rows):
            # A hair above 1: the shares are rounded.
            room, depth, first = 1 + 1e-9, 1 + 1e-9, row == 0
            while True:
                fits = np.flatnonzero(free & (tokens <= room) & (tiles <= depth) & (counts <= left))
                if not len(fits):
                    break
                away = (room - tokens[fits]) ** 2 + (depth - tiles[fits]) ** 2
                place = 0 if first else int(fits[np.argmin(away)])
                first = False
                free[place] = False
                bins.rows[row].append(waiting[place])
                room, depth = room - tokens[place], depth - tiles[place]
                left -= int(counts[place])
        kept = [g for place, g in enumerate(waiting) if free[place]]
        waiting.clear()
        waiting.extend(kept)

    def _top_up(self, bins: _Bins, waiting: deque[int]) -> None:
        """Fill a step's gaps from those that wait: largest first, none beyond its records."""
        left = self.budget.records - sum(len(self.groups[g].members) for g in bins.held())
        by_size = sorted(range(len(waiting)), key=lambda n: -self.groups[waiting[n]].tokens)
        used: set[int] = set()
        for place in by_size:
            if not left:
                break
            count = len(self.groups[waiting[place]].members)
            if count <= left and not bins.lay([waiting[place]], self.groups):
                used.add(place)
                left -= count
        if used:
            kept = [g for place, g in enumerate(waiting) if place not in used]
            waiting.clear()
            waiting.extend(kept)

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

    def members(self, row: Sequence[int]) -> list[int]:
        """The records of a row, or of other groups."""
        return [member for g in row for member in self.groups[g].members]

    def records(self, step: Step) -> int:
        """How many records a step has."""
        return sum(len(self.members(row)) for row in step)

    def report(self, epoch: int = 0) -> dict[str, float]:
        """What an epoch's steps hold.

        steps, records; records_a_step, its least, largest and mean, and `deviation`, the mean
        distance from the budget's; token_fill and tile_fill, shares of all slots in use.
        """
        steps = self.epoch(epoch)
        held = [self.records(step) for step in steps]
        used = [self.groups[g] for step in steps for row in step for g in row]
        slots = len(steps) * self.budget.rows
        return {
            "steps": len(steps),
            "records": sum(held),
            "records_a_step": sum(held) / len(steps),
            "least_records": min(held),
            "most_records": max(held),
            "deviation": sum(abs(h - self.budget.records) for h in held) / len(steps),
            "token_fill": sum(g.tokens for g in used) / (slots * self.budget.tokens),
            "tile_fill": sum(g.tiles for g in used) / max(slots * self.budget.tiles, 1),
        }


class _Bins:
    """The rows of one step as they fill."""

    def __init__(self, budget: Budget) -> None:
        self.rows: list[list[int]] = [[] for _ in range(budget.rows)]
        self.tokens = [budget.tokens] * budget.rows
        self.tiles = [budget.tiles] * budget.rows

    def lay(self, chosen: Sequence[int], groups: Sequence[Group]) -> list[int]:
        """Lay groups into the rows they fit best, largest first; those that fit none come back."""
        left: list[int] = []
        for g in sorted(chosen, key=lambda g: -groups[g].tokens):
            group = groups[g]
            fits = [
                r
                for r in range(len(self.rows))
                if group.tokens <= self.tokens[r] and group.tiles <= self.tiles[r]
            ]
            if not fits:
                left.append(g)
                continue
            best = min(fits, key=lambda r: self.tokens[r])
            self.rows[best].append(g)
            self.tokens[best] -= group.tokens
            self.tiles[best] -= group.tiles
        return left

    def held(self) -> list[int]:
        """The groups in all rows."""
        return [g for row in self.rows for g in row]

    def step(self) -> Step:
        return tuple(tuple(row) for row in self.rows)
