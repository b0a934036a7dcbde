"""From the rewards of a prompt's answers to a pair: the best against the worst, or why not."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from critic_jax.errors import InputError

Drop = Literal[
    "equal_answers", "unparsed", "no_rewards", "equal_rewards", "best_is_worst", "small_margin"
]
"""Why a prompt gives no pair: its answers all say the same; too much of what the judge said could
not be read; nothing is known of any answer; all have the same reward; the best and the worst say
the same; the best is hardly better."""

EQUAL = 1e-9
"""Rewards that differ by no more are equal: scores with decimals have no exact differences."""


@dataclass(frozen=True)
class Limits:
    """What a prompt must keep to, to give a pair.

    min_margin: of the best answer's reward over the worst's. max_unparsed: of the share of
    judgments that could not be read.
    """

    min_margin: float = 0.0
    max_unparsed: float = 0.25

    def __post_init__(self) -> None:
        if not self.min_margin >= 0:
            raise InputError(f"min_margin is {self.min_margin}; it must be 0 or above")
        if not 0 <= self.max_unparsed <= 1:
            raise InputError(f"max_unparsed is {self.max_unparsed}; it must be from 0 to 1")


@dataclass(frozen=True)
class Rewards:
    """What the answers to one prompt are worth.

    values: a reward each, None where nothing is known. asked, unparsed: judgments behind them, and
    how many of these could not be read. place_gains: as `rank.place_gains`. level: the mean of what
    was given to an answer on its own (its score), where there is such a number: rewards of pairs
    add up to 0 and tell nothing of a round as a whole.
    """

    values: tuple[float | None, ...]
    asked: int = 0
    unparsed: int = 0
    place_gains: tuple[float, ...] = ()
    level: float | None = None


@dataclass(frozen=True)
class Choice:
    """The pair that a prompt gives: places of its answers, and how far apart their rewards are."""

    chosen: int
    rejected: int
    margin: float


def choose(responses: Sequence[str], rewards: Rewards, limits: Limits) -> Choice | Drop:
    """The best answer against the worst; of equally good ones, the first."""
    if len(set(responses)) < 2:
        return "equal_answers"
    if rewards.unparsed > limits.max_unparsed * rewards.asked:
        return "unparsed"
    known = [(place, value) for place, value in enumerate(rewards.values) if value is not None]
    if not known:
        return "no_rewards"
    best, worst = max(value for _, value in known), min(value for _, value in known)
    if len(known) > 1 and best - worst <= EQUAL:
        return "equal_rewards"
    chosen = next(place for place, value in known if value >= best - EQUAL)
    rejected = next(place for place, value in known if value <= worst + EQUAL)
    if responses[chosen] == responses[rejected]:
        return "best_is_worst"
    if best - worst < limits.min_margin - EQUAL:
        return "small_margin"
    return Choice(chosen, rejected, best - worst)


def counted(found: Sequence[Choice | Drop]) -> dict[str, int]:
    """How many prompts gave no pair, by reason; only reasons that occurred."""
    return dict(sorted(Counter(one for one in found if not isinstance(one, Choice)).items()))
