"""Several answers ranked by comparing them in pairs, as LLaVA-Critic's rewards are made."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from critic_jax.errors import InputError
from critic_jax.judging.both_orders import OrderSummary, order_summary
from critic_jax.judging.formats import Template, TwoScoreFormat
from critic_jax.judging.judgment import Judgment, winner

Relative = Literal["scores", "verdict", "probability"]
"""What the relative score of a pair is made of."""

Relatives = Mapping[tuple[int, int], float | None]
"""Relative scores a_ij by (i, j); None where a judgment does not tell."""

DEFAULT_RANKING = "llava-bench"


@dataclass(frozen=True)
class RankedPair:
    """Answer `first` shown first, `second` second: what the judge said ("A" is `first`), and the
    relative score a of the pair, above 0 where the second is better; None if it is not known."""

    first: int
    second: int
    judgment: Judgment
    relative: float | None


@dataclass(frozen=True)
class Ranking:
    """K answers in order, from the judgments of ordered pairs.

    rewards: r_i = sum_k a_ki - sum_l a_il over the pairs asked and known (LLaVA-Critic, arXiv
        2410.02712): what the answer gains when shown second less what others gain over
        it when it is shown first. What a judge favours by place cancels out, so a pair that was
        asked in both orders counts only if both are known. A pair that doesn't count does so for
        neither of its answers, as if it had not been asked. None for an answer without any.
    counted: how many pairs stand behind each reward, 2 (K - 1) at most.
    order: the answers with a reward, best first; of equal ones the earlier first.
    """

    pairs: tuple[RankedPair, ...]
    rewards: tuple[float | None, ...]
    counted: tuple[int, ...]
    order: tuple[int, ...]

    @property
    def best(self) -> int | None:
        """The answer with the highest reward; None if no reward is known."""
        return self.order[0] if self.order else None

    @property
    def worst(self) -> int | None:
        """The answer with the lowest reward; None if no reward is known."""
        return self.order[-1] if self.order else None

    @property
    def tie(self) -> bool:
        """Whether no answer is better than another: nothing to learn a preference from."""
        return len({reward for reward in self.rewards if reward is not None}) < 2

    @property
    def unparsed(self) -> tuple[tuple[int, int], ...]:
        """The pairs (first, second) whose relative score is not known."""
        return tuple((p.first, p.second) for p in self.pairs if p.relative is None)

    @property
    def unparsed_rate(self) -> float:
        """The share of pairs whose relative score is not known."""
        return len(self.unparsed) / len(self.pairs)

    @property
    def position_bias(self) -> float | None:
        """What an answer gains by being shown first, in units of relative scores.

        The mean of -(a_ij + a_ji) / 2 over the pairs known in both orders; None if there are none.
        """
        gains = place_gains({(p.first, p.second): p.relative for p in self.pairs})
        return math.fsum(gains) / len(gains) if gains else None

    @property
    def orders(self) -> OrderSummary:
        """How the verdicts of pairs asked in both orders agree."""
        found = {(p.first, p.second): winner(p.judgment.verdict) for p in self.pairs}
        turned = {"A": "B", "B": "A"}
        return order_summary(
            [
                (ab, turned.get(ba, ba) if ba is not None else None)
                for (i, j), ab in found.items()
                if i < j and (j, i) in found
                for ba in [found[j, i]]
            ]
        )


def ordered_pairs(
    count: int, chosen: Sequence[tuple[int, int]] | None = None
) -> list[tuple[int, int]]:
    """All K(K-1) ordered pairs of answers, or those chosen, checked.

    Raises InputError for fewer than two answers, and for a pair that is none or stands twice.
    """
    if count < 2:
        raise InputError(f"there are {count} answers to rank; give two or more")
    if chosen is None:
        return [(i, j) for i in range(count) for j in range(count) if i != j]
    pairs = [(int(i), int(j)) for i, j in chosen]
    for i, j in pairs:
        if i == j or not (0 <= i < count and 0 <= j < count):
            raise InputError(
                f"pair ({i}, {j}) is none of {count} answers; "
                f"it should be two different numbers from 0 to {count - 1}"
            )
    if not pairs or len(set(pairs)) < len(pairs):
        raise InputError("pairs: " + ("none are given" if not pairs else "one stands twice"))
    return pairs


def check_relative(template: Template, relative: Relative | None) -> Relative:
    """What to make relative scores of: as given, or scores where the template asks for two.

    Raises InputError for a template that compares no two answers, for scores where it asks for
    none, and for another word.
    """
    if relative is not None and relative not in get_args(Relative):
        words = ", ".join(map(repr, get_args(Relative)))
        raise InputError(f"relative is {relative!r}; it should be one of {words}")
    if template.kind != "pairwise":
        raise InputError(
            f"template {template.name} compares no two answers; rank with a pairwise template, "
            f"such as {DEFAULT_RANKING}"
        )
    two = isinstance(template.format, TwoScoreFormat)
    if relative == "scores" and not two:
        raise InputError(
            f"template {template.name} asks for no scores; give relative 'verdict' or 'probability'"
        )
    return relative or ("scores" if two else "verdict")


def relative_score(judgment: Judgment, relative: Relative) -> float | None:
    """a of a pair shown as (A, B): how much better B is; None if the judgment does not tell.

    "scores": score of B less that of A. "verdict": 1 if B won, -1 if A won, 0 for a tie.
    "probability": the same two in expectation, by the judgment's probabilities.
    """
    if relative == "probability":
        read = judgment.probabilities
        if read is None:
            return None
        if "expected_a" in read:
            return read["expected_b"] - read["expected_a"]
        return read["B"] - read["A"]
    if judgment.state == "unparsed":
        return None
    if relative == "scores":
        return None if judgment.scores is None else judgment.scores[1] - judgment.scores[0]
    return {"A": -1.0, "B": 1.0, "tie": 0.0}[winner(judgment.verdict) or "tie"]


def ranking(
    count: int,
    pairs: Sequence[tuple[int, int]],
    judgments: Sequence[Judgment],
    relative: Relative,
) -> Ranking:
    """The ranking of `count` answers from the judgments of ordered pairs, each in order "ab"."""
    ranked = tuple(
        RankedPair(i, j, said, relative_score(said, relative))
        for (i, j), said in zip(pairs, judgments, strict=True)
    )
    rewards, counted = matrix_rewards(count, {(p.first, p.second): p.relative for p in ranked})
    known = [(i, reward) for i, reward in enumerate(rewards) if reward is not None]
    order = tuple(i for i, _ in sorted(known, key=lambda one: -one[1]))
    return Ranking(ranked, rewards, counted, order)


def matrix_rewards(
    count: int, relative: Relatives
) -> tuple[tuple[float | None, ...], tuple[int, ...]]:
    """(rewards, counted) of `count` answers as in `Ranking`, from relative scores a_ij by (i, j).

    Sums are exact, so that what cancels out leaves nothing.
    """
    unknown = {pair for pair, a in relative.items() if a is None}
    gains: list[list[float]] = [[] for _ in range(count)]
    for (i, j), a in relative.items():
        if a is not None and (j, i) not in unknown:
            gains[j].append(a)
            gains[i].append(-a)
    return tuple(math.fsum(g) if g else None for g in gains), tuple(map(len, gains))


def with_repeats(relative: Relatives, places: Sequence[int]) -> dict[tuple[int, int], float | None]:
    """Relative scores of answers of which some say the same, from those of the distinct ones.

    places: of each answer, its place among the distinct ones. Two equal answers are worth the same
    whichever is shown first: their pairs add nothing to a reward and are left out.
    """
    return {
        (i, j): relative[a, b] for i, a in enumerate(places) for j, b in enumerate(places) if a != b
    }


def place_gains(relative: Relatives) -> list[float]:
    """What the answer shown first gains by its place, -(a_ij + a_ji) / 2, of each pair of answers
    that is known in both orders."""
    found = {pair: a for pair, a in relative.items() if a is not None}
    return [-(a + found[j, i]) / 2 for (i, j), a in found.items() if i < j and (j, i) in found]
