"""Trunks whose keys and values are in the pool, and what a new prompt can take over from them.

A prompt that begins as one that has been read need not be read from its start: the keys and values
of what they have in common are copied, and only the rest goes through the model. No jax here.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from critic_jax.sampling.request import Request
from critic_jax.tree import Path, Row, common_prefix

LEAST = 64
"""Tokens in common below which nothing is taken over."""

MOST_REST = 512
"""Tokens of the rest, above which a prompt is read from its start."""


@dataclass(frozen=True)
class Begun:
    """How a trunk begins: with the first `count` tokens of a path that has been read.

    places: int32, of their keys and values, filled up with the last one to a power of two.
    """

    places: np.ndarray
    count: int


@dataclass
class Held:
    """A trunk in the pool: `begun` at place `first`, its row behind it.

    It may be kept for long, so of its prompts it has the keys (`tree.token_keys`), and its row is
    without tiles. waiting: answers still to come, (place among the row's paths, request, number).
    running: how many are on their way.
    """

    first: int
    keys: Sequence[np.ndarray]
    row: Row
    hidden: np.ndarray  # [E, D], at the ends of its paths
    begun: Begun | None = None
    waiting: deque[tuple[int, Request, int]] = field(default_factory=deque)
    running: int = 0

    @property
    def row_first(self) -> int:
        """The place of the row's first token."""
        return self.first + (0 if self.begun is None else len(self.begun.places))

    def seen(self, path: int) -> np.ndarray:
        """Places from `first` on that hold a path, token by token, in ascending order."""
        index = self.row.path_index[path]
        if self.begun is None:
            return index
        behind = index + np.int32(len(self.begun.places))
        return np.concatenate([np.arange(self.begun.count, dtype=np.int32), behind])

    def visible_until(self) -> np.ndarray:
        """Of all its places: the first place that no longer sees it."""
        row = self.row_first + self.row.visible_until
        if self.begun is None:
            return row
        before = np.zeros(len(self.begun.places), np.int32)
        before[: self.begun.count] = self.row_first + len(self.row.tokens)
        return np.concatenate([before, row])

    @property
    def idle(self) -> bool:
        """Whether nobody waits for it or uses it."""
        return not self.running and not self.waiting

    def leave(self) -> None:
        """Let go of answers that nobody wants any more."""
        self.waiting = deque(one for one in self.waiting if not one[1].left)


def begin_from(
    held: Iterable[Held], prompts: Sequence[Path], keys: Sequence[np.ndarray]
) -> Begun | None:
    """What some prompts, which are alike, can take over from one that has been read, if that is
    worth it: half of the longest, all their pictures, and all but `MOST_REST` tokens.

    keys: the prompts', made with the same numbers as those of `held`.
    """
    longest = max(map(len, prompts))
    ends = (s + len(v.tap_index) for p in prompts for v, s in zip(p.visuals, p.starts, strict=True))
    least = max(LEAST, (longest + 1) // 2, longest - MOST_REST, *ends)
    # The last token of each is read again: its hidden state is wanted.
    most = min(map(len, prompts)) - 1
    if most < least:
        return None
    # Most part from these at a picture, or earlier than this: few tokens tell nearly all of them.
    marks = np.asarray([*prompts[0].starts, least - 1])
    wanted = keys[0][marks]
    best: tuple[int, Held, int] | None = None
    for trunk in held:
        for path, key in enumerate(trunk.keys):
            if len(key) < least or (key[marks] != wanted).any():
                continue
            shared = min(most, *(common_prefix(key, one) for one in keys))
            if shared >= least and (best is None or shared > best[0]):
                best = (shared, trunk, path)
    if best is None:
        return None
    count, trunk, path = best
    places = trunk.first + trunk.seen(path)[:count]
    filled = np.full(1 << (count - 1).bit_length(), places[-1], np.int32)
    filled[:count] = places
    return Begun(filled, count)


def rest_of(prompts: Sequence[Path], count: int) -> list[Path]:
    """The prompts without their first `count` tokens, in which all their pictures are."""
    return [
        replace(p, tokens=p.tokens[count:], weights=p.weights[count:], visuals=(), starts=())
        for p in prompts
    ]
