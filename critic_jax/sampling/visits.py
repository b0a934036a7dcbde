"""Which stretches of the pool the branches visit, as `branch_attention` wants to know it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np

from critic_jax.models.branch_attention import SPAN, WIDE, Visits

Seen = tuple[int, int, np.ndarray]
"""A branch: its slot, the first place of its trunk, the places that it sees from there."""


def plan_visits(branches: Iterable[Seen], slots: int, places: int) -> tuple[Visits, Visits]:
    """Visits of branches that share a trunk, `WIDE` at a time, and of those that are alone."""
    by_trunk: dict[int, list[Seen]] = {}
    for branch in branches:
        by_trunk.setdefault(branch[1], []).append(branch)
    wide, narrow = [], []
    for alike in by_trunk.values():
        # Neighbours in the tree share most.
        alike.sort(key=lambda branch: (int(branch[2][-1]), branch[0]))
        for at in range(0, len(alike), WIDE):
            lane = alike[at : at + WIDE]
            if len(lane) > 2:
                wide.append(lane)
            else:
                narrow += [[branch] for branch in lane]
    return _visits(wide, WIDE, slots, places), _visits(narrow, 1, slots, places)


def _visits(lanes: list[list[Seen]], width: int, slots: int, places: int) -> Visits:
    number = np.full((slots, width), slots, np.int32)
    # A stretch covers SPAN places at least, but for the last one of a lane.
    first = np.zeros((slots, -(-places // SPAN) + 1), np.int32)
    count = np.zeros(slots, np.int32)
    for at, lane in enumerate(lanes):
        number[at, : len(lane)] = [slot for slot, _, _ in lane]
        begins = list(_stretches(np.unique(np.concatenate([seen for _, _, seen in lane]))))
        first[at, : len(begins)] = [lane[0][1] + begin for begin in begins]
        count[at] = len(begins)
    return Visits(np.int32(len(lanes)), number, first, count)  # type: ignore[arg-type]


def _stretches(seen: np.ndarray) -> Iterator[int]:
    """Where stretches of SPAN places begin that cover the places `seen`, in ascending order."""
    at = 0
    while at < len(seen):
        yield int(seen[at])
        at = int(np.searchsorted(seen, seen[at] + SPAN))
