"""From a matrix of relative scores to a pair: worked examples, each drop, and its count."""

from __future__ import annotations

from typing import Any

import pytest

from critic_jax.alignment.choice import Choice, Limits, Rewards, choose, counted
from critic_jax.errors import InputError
from critic_jax.judging.rank import matrix_rewards, ordered_pairs, place_gains, with_repeats

Row = list[float | None]
__ = None  # a judgment that could not be read; and the diagonal
TEXTS = ("a", "b", "c", "d", "e")
# Qualities 3, 7 and 5, and two points more for the answer shown first.
BIASED = [[0.0, 2.0, 0.0], [-6.0, 0.0, -4.0], [-4.0, 0.0, 0.0]]
# Scores with decimals: the first answer always gets 7.1 and the second 6.3.
FIRST = [[6.3 - 7.1] * 5 for _ in range(5)]


def found(matrix: list[Row]) -> Rewards:
    """What a source says of a matrix: a_ij in row i, column j."""
    relative = {(i, j): matrix[i][j] for i, j in ordered_pairs(len(matrix))}
    unparsed = sum(a is None for a in relative.values())
    gains = tuple(place_gains(relative))
    return Rewards(matrix_rewards(len(matrix), relative)[0], len(relative), unparsed, gains)


@pytest.mark.parametrize(
    ("matrix", "rewards", "choice"),
    [
        # r_0 = (-1 + 5) - (3 - 2), r_1 = (3 + 5) - (-1 - 4), r_2 = (-2 - 4) - (5 + 5).
        ([[__, 3, -2], [-1, __, -4], [5, 5, __]], (3, 13, -16), Choice(1, 2, 29)),
        # Qualities q: r_i = 2 (3 q_i - sum of q); what place gives cancels out.
        (BIASED, (-12, 12, 0), Choice(1, 0, 24)),
        # A judge that always prefers the first answer knows nothing.
        ([[-1.0] * 5 for _ in range(5)], (0,) * 5, "equal_rewards"),
        (FIRST, (0,) * 5, "equal_rewards"),
        # One that always calls it a tie, too.
        ([[0.0] * 3 for _ in range(3)], (0, 0, 0), "equal_rewards"),
        # Two best and two worst: of each the first.
        (
            [[__, 0, -1, -1], [0, __, -1, -1], [1, 1, __, 0], [1, 1, 0, __]],
            (4, 4, -4, -4),
            Choice(0, 2, 8),
        ),
        # (0, 2) could not be read, so (2, 0) doesn't count either: one of six is within the limit.
        ([[__, 3, __], [-1, __, -4], [5, 5, __]], (-4, 13, -9), Choice(1, 2, 22)),
        # Two of six are not.
        ([[__, 3, __], [__, __, -4], [5, 5, __]], (None, 9, -9), "unparsed"),
        ([[__, __], [__, __]], (None, None), "unparsed"),
    ],
)
def test_rewards_and_choices_on_worked_examples(
    matrix: list[Row], rewards: tuple[Any, ...], choice: Any
) -> None:
    limits = Limits(min_margin=1.0)
    said = found(matrix)
    assert said.values == rewards
    assert choose(TEXTS[: len(matrix)], said, limits) == choice


def test_the_gain_of_the_first_place_is_told() -> None:
    assert found(BIASED).place_gains == (2, 2, 2)
    assert found(FIRST).place_gains == pytest.approx([0.8] * 10)


def test_equal_answers_count_as_often_as_they_were_given() -> None:
    # Of the distinct answers x and y, and of x, x, y, x: as if every ordered pair had been asked.
    asked = {(0, 1): 2.0, (1, 0): -3.0}
    places = [0, 0, 1, 0]
    values, counts = matrix_rewards(4, with_repeats(asked, places))
    assert values == (-5, -5, 15, -5) and counts == (2, 2, 6, 2)
    assert choose(("x", "x", "y", "x"), Rewards(values), Limits()) == Choice(2, 0, 20)


@pytest.mark.parametrize(
    ("texts", "values", "why"),
    [
        ("xxx", (0.0, 0.0, 0.0), "equal_answers"),
        ("xyz", (None, None, None), "no_rewards"),
        ("xyz", (1.5, 1.5, None), "equal_rewards"),
        ("xyz", (0.1 + 0.2, 0.3, 0.3), "equal_rewards"),
        ("xyz", (None, 4.0, None), "best_is_worst"),
        ("xyx", (4.0, 2.0, 1.0), "best_is_worst"),
        ("xyz", (4.0, 3.5, 3.0), "small_margin"),
    ],
)
def test_a_prompt_that_gives_no_pair_says_why(texts: str, values: Any, why: str) -> None:
    limits = Limits(min_margin=1.5)
    drop = choose(texts, Rewards(values), limits)
    assert drop == why
    assert counted([drop, Choice(0, 1, 2.0), drop]) == {why: 2}


def test_limits_are_kept_to_the_point() -> None:
    values = (1.0, 3.0)
    assert choose("xy", Rewards(values, 8, 2), Limits(2.0, 0.25)) == Choice(1, 0, 2.0)
    assert choose("xy", Rewards(values, 8, 3), Limits(2.0, 0.25)) == "unparsed"
    assert choose("xy", Rewards(values, 8, 2), Limits(2.1, 0.25)) == "small_margin"
    with pytest.raises(InputError, match=r"^min_margin is -1"):
        Limits(min_margin=-1)
    with pytest.raises(InputError, match=r"^max_unparsed is 1\.5"):
        Limits(max_unparsed=1.5)
