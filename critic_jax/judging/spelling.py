"""How verdicts are written: every text that a format takes, for guides and for readings."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from itertools import permutations, product

from critic_jax.errors import InputError
from critic_jax.judging.formats import (
    LETTERS,
    BetterFormat,
    Format,
    LabelFormat,
    RankFormat,
    ScoreFormat,
    TwoScoreFormat,
)

Values = Mapping[str, float | str]
"""Texts of a value -> the value: a number, or a verdict."""

MOST_RANKED = 7
"""Answers of which every rank is listed, 5,040 of them."""

_AROUND = {
    "score": ("Score: ", ""),
    "final-score": ("Final Score: ", ""),
    "rating": ("Rating: ", ""),
    "rating-brackets": ("Rating: [[", "]]"),
    "result": ("[RESULT] ", ""),
    "judgement": ("Judgement: [[", "]]"),
    "rating-field": ("Rating: ", ""),
    "score-field": ("Score: ", ""),
}
_SIDES: tuple[Values, ...] = (
    {"first": "A", "second": "B", "tie": "tie"},
    {"1": "A", "2": "B"},
    {"A": "A", "B": "B"},
)


def numbers(low: float, high: float, decimals: int) -> dict[str, float]:
    """The numbers of a scale as they are written with that many decimals."""
    unit = 10**decimals
    steps = range(math.ceil(low * unit), math.floor(high * unit) + 1)
    return {f"{step / unit:.{decimals}f}": step / unit for step in steps}


def values_like(form: Format, written: str) -> Values:
    """The values that a format takes, in the manner in which one of them was written.

    That is with as many decimals, or by the same names; {} where `written` is none of them.
    """
    families: tuple[Values, ...] = ()
    if isinstance(form, ScoreFormat | TwoScoreFormat):
        decimals = len(written.partition(".")[2])
        if decimals <= 2:
            families = (numbers(form.low, form.high, decimals),)
    elif isinstance(form, LabelFormat):
        families = (form.labels,)
    elif isinstance(form, BetterFormat):
        families = _SIDES[1:2] if form.overall else _SIDES
    return next((family for family in families if written in family), {})


def verdict_texts(form: Format, answers: int | None = None) -> list[str]:
    """Every text that states a verdict in that format and nothing else, in its plainest spelling.

    Numbers have no decimals or one; those of a scale of whole numbers have none. answers: how many
    there are in a batch. Raises InputError for a batch of more than `MOST_RANKED`.
    """
    if isinstance(form, ScoreFormat):
        opening, closing = _AROUND[form.marker]
        texts = list(numbers(form.low, form.high, 0))
        if not form.whole:
            texts += numbers(form.low, form.high, 1)
        return [f"{opening}{text}{closing}" for text in texts]
    if isinstance(form, TwoScoreFormat):
        scale = [*numbers(form.low, form.high, 0), *numbers(form.low, form.high, 1)]
        return [f"{first} {second}" for first, second in product(scale, scale)]
    if isinstance(form, LabelFormat):
        return [f"[[{label}]]" for label in form.labels]
    if isinstance(form, RankFormat):
        count = answers or 0
        if not 2 <= count <= MOST_RANKED:
            raise InputError(
                f"a rank of {count} answers cannot be constrained; of 2 to {MOST_RANKED} it can"
            )
        ranks = permutations(LETTERS[:count])
        return ["Judgement: " + ", ".join(f"[[{letter}]]" for letter in rank) for rank in ranks]
    if form.overall:
        sides = [f"Answer {n} is better." for n in (1, 2)]
        return [f"Overall Judgment: {said}" for said in (*sides, "Both answers are equally good.")]
    return [f"The better response: [{side}]" for side in _SIDES[0]]


_NUMBER_PIECE = re.compile(r"[ \[(]{0,2}(?:[0-9]+\.?[0-9]*|\.[0-9]*)")


def may_belong_to_a_value(form: Format, piece: str) -> bool:
    """Whether a token's text may be a part of a value, with what may stand right around it."""
    if isinstance(form, RankFormat):
        return False
    if isinstance(form, ScoreFormat | TwoScoreFormat):
        return _NUMBER_PIECE.fullmatch(piece) is not None
    if isinstance(form, LabelFormat):
        return any(_overlaps(f"[[{label}]]", 2, piece) for label in form.labels)
    sides = _SIDES[1:2] if form.overall else _SIDES
    words = [word for family in sides for word in family]
    return any(
        _overlaps(f"[{word}]", 1, piece) or _overlaps(f" {word}", 1, piece) for word in words
    )


def _overlaps(text: str, around: int, piece: str) -> bool:
    """Whether a piece is a part of `text` that holds more than its first or last `around`."""
    at = text.find(piece)
    end = len(text) - (around if text.endswith("]") else 0)
    while at >= 0:
        if at < end and at + len(piece) > around:
            return True
        at = text.find(piece, at + 1)
    return False
