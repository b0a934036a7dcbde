"""Correlations equal scipy's, distances counted by hand, intervals that cover what they should."""

import numpy as np
import pytest
from scipy.stats import kendalltau, pearsonr

from critic_jax.evaluation.statistics import Bootstrap, in_words, kendall, levenshtein, pearson


def test_correlations_are_scipys_ties_included() -> None:
    draw = np.random.default_rng(0)
    ours, theirs = draw.integers(0, 6, 80), draw.integers(0, 6, 80)
    assert pearson(ours, theirs) == pytest.approx(pearsonr(ours, theirs).statistic, abs=1e-12)
    assert kendall(ours, theirs) == pytest.approx(kendalltau(ours, theirs).statistic, abs=1e-12)


def test_kendall_counted_by_hand_with_a_tie() -> None:
    # Six pairs: 4 the same way round, 1 the other, 1 tied by us: (4 - 1) / sqrt(5 * 6).
    assert kendall([1, 2, 2, 4], [1, 2, 4, 3]) == pytest.approx(3 / 30**0.5, abs=1e-12)


@pytest.mark.parametrize("side", [[], [3.0], [2.0, 2.0, 2.0]])
def test_a_constant_correlates_with_nothing(side: list[float]) -> None:
    other = [1.0, 2.0, 3.0][: len(side)]
    for correlation in (pearson, kendall):
        assert np.isnan(correlation(side, other)) and np.isnan(correlation(other, side))


@pytest.mark.parametrize(
    ("ours", "theirs", "distance"),
    [
        ("ABCD", "ABCD", 0),
        ("ABCD", "BACD", 2 / 4),  # two exchanges; a swap is none of the three steps
        ("ABCD", "BCDA", 2 / 4),  # A taken out in front and put in at the end
        ("ABCD", "DCBA", 4 / 4),
        ("ABC", "ABCD", 1 / 4),
        ("", "", 0),
        ("", "AB", 1),
    ],
)
def test_levenshtein_counted_by_hand(ours: str, theirs: str, distance: float) -> None:
    assert levenshtein(ours, theirs) == pytest.approx(distance, abs=1e-12)


def test_intervals_of_a_mean_cover_it_as_often_as_they_say() -> None:
    draw = np.random.default_rng(1)
    covered = 0
    for n in range(300):
        values = draw.normal(2.0, 3.0, 60)
        bootstrap = Bootstrap(200, seed=n)
        low, high = bootstrap.interval(lambda p, v=values: v[p].mean(), [np.arange(60)]) or (0, 0)
        covered += low <= 2.0 <= high
    # 95 %, less what percentiles of 60 normal values lose; four standard errors are 5 points.
    assert 0.90 <= covered / 300 <= 0.99


def test_strata_keep_their_size() -> None:
    strata = [np.arange(2), np.arange(2, 12)]
    share = Bootstrap(50).interval(lambda places: float((places < 2).mean()), strata)
    assert share == (2 / 12, 2 / 12)


def test_undefined_resamples_do_not_count_and_many_of_them_are_no_interval() -> None:
    places = [np.arange(3)]
    assert Bootstrap(50).interval(lambda p: float("nan"), places) is None
    sometimes = Bootstrap(200).interval(lambda p: 1.0 if 0 in p else float("nan"), places)
    assert sometimes == (1.0, 1.0)
    assert Bootstrap(0).estimate(lambda p: 1.0, places) == {"value": 1.0, "interval": None}
    assert Bootstrap(9).estimate(lambda p: float("nan"), places)["value"] is None


def test_estimates_in_words() -> None:
    found = {"a": {"value": 0.51, "interval": [0.25, 0.75]}, "b": 3, "c": {"value": 1.0}}
    found["d"] = {"value": None, "interval": None}
    words = {"a": "0.51 (0.25 to 0.75)", "b": 3, "c": {"value": 1.0}, "d": None}
    assert in_words(found) == words
