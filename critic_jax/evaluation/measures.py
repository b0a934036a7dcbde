"""What is counted of judgments beside labels: comparisons, scores and rankings.

Every number comes in two readings, because an answer that cannot be read is no opinion:
`unparsed_wrong` counts it as wrong, `unparsed_left_out` leaves it out.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from critic_jax.evaluation.items import Pair, Rank, Score
from critic_jax.evaluation.statistics import (
    Bootstrap,
    Places,
    Statistic,
    kendall,
    levenshtein,
    pearson,
)

WRONG, LEFT_OUT = "unparsed_wrong", "unparsed_left_out"
Measures = dict[str, Statistic | dict[str, Statistic]]

POINTS = {"A": 1.0, "tie": 0.5, "B": 0.0}
"""What answer A gets for a winner; B gets the rest."""


def of_pairs(pairs: Sequence[Pair]) -> Measures:
    """Measures of comparisons.

    accuracy: share of askings that name the label's winner, a tie being one of three winners.
    accuracy_without_ties: the same on pairs whose label is no tie. kendall_tau: of the models'
    order by their share of points (a win 1, a tie 1/2), the judge's against the labels', where
    labels name the models; an unparsed asking is nobody's point when it is counted wrong.
    both_orders: of pairs asked in both orders: `agreement`, the share on which both orders name the
    label's winner; `consistency`, on which both name the same; `position_bias`, of the verdicts
    read the share won by the answer shown first less that won by the second.
    """
    asked = np.array([len(p.said) for p in pairs], float)
    read = np.array([sum(w is not None for w in p.said.values()) for p in pairs], float)
    right = np.array([sum(w == p.label for w in p.said.values()) for p in pairs], float)
    decided = np.array([p.label != "tie" for p in pairs], float)
    measures: Measures = {
        "unparsed_rate": _ratio(asked - read, asked),
        "accuracy": {WRONG: _ratio(right, asked), LEFT_OUT: _ratio(right, read)},
        "accuracy_without_ties": {
            WRONG: _ratio(right * decided, asked * decided),
            LEFT_OUT: _ratio(right * decided, read * decided),
        },
    }
    if all(p.models for p in pairs):
        measures["kendall_tau"] = {
            WRONG: _model_order(pairs, left_out=False),
            LEFT_OUT: _model_order(pairs, left_out=True),
        }
    both = np.array([set(p.said) == {"ab", "ba"} for p in pairs], float)
    if both.any():
        same = [len(set(p.said.values())) == 1 and None not in p.said.values() for p in pairs]
        first = [_first_wins(p) if two else 0 for p, two in zip(pairs, both, strict=True)]
        measures |= {
            "agreement_of_both_orders": _ratio(both * (right == 2), both),
            "consistency_of_both_orders": _ratio(both * np.array(same, float), both),
            "position_bias": _ratio(np.array(first, float), both * read),
        }
    return measures


def of_scores(scores: Sequence[Score]) -> Measures:
    """Measures of scores.

    pearson, kendall_tau: of the scores given against the labels', answer by answer; where an
    unparsed one counts as wrong, it stands at that end of the labels' range which is farther from
    its label. model_pearson, model_kendall_tau: of the models' mean scores, where labels name them.
    """
    label = np.array([s.label for s in scores], float)
    low, high = label.min(), label.max()
    given = np.array([np.nan if s.said is None else s.said for s in scores], float)
    worst = np.where(high - label >= label - low, high, low)
    filled = np.where(np.isnan(given), worst, given)
    measures: Measures = {
        "unparsed_rate": _ratio(np.isnan(given).astype(float), np.ones(len(scores))),
        "pearson": _readings(pearson, label, given, filled),
        "kendall_tau": _readings(kendall, label, given, filled),
    }
    if all(s.model is not None for s in scores):
        _, model = np.unique([str(s.model) for s in scores], return_inverse=True)
        for name, correlation in (("model_pearson", pearson), ("model_kendall_tau", kendall)):
            by_model = _of_means(correlation, model)
            measures[name] = _readings(by_model, label, given, filled, model)
    return measures


def of_ranks(ranks: Sequence[Rank]) -> Measures:
    """Measures of rankings: unparsed_rate; levenshtein, the mean distance from the labels' order
    over its length, lower is better; an unparsed ranking counted wrong has distance 1."""
    unread = np.array([r.said is None for r in ranks], float)
    distance = np.array([0.0 if r.said is None else levenshtein(r.said, r.label) for r in ranks])
    ones = np.ones(len(ranks))
    return {
        "unparsed_rate": _ratio(unread, ones),
        "levenshtein": {
            WRONG: _ratio(distance + unread, ones),
            LEFT_OUT: _ratio(distance, ones - unread),
        },
    }


def spread_of_pairs(pairs: Sequence[Pair]) -> dict[str, Any]:
    """How often each winner is named, by the judge and by the labels; and the models' points."""
    said = [(p, one) for p in pairs for one in p.said.values() if one is not None]
    points: dict[str, list[tuple[float, float]]] = {}
    for p, one in said:
        for side, name in enumerate(p.models or ()):
            both = (POINTS[one], POINTS[p.label])
            points.setdefault(name, []).append((1 - both[0], 1 - both[1]) if side else both)
    return _spread([one for _, one in said], [p.label for p in pairs], points)


def spread_of_scores(scores: Sequence[Score]) -> dict[str, Any]:
    """How often each score is given, by the judge and by the labels; and the models' means."""
    read = [s for s in scores if s.said is not None]
    means: dict[str, list[tuple[float, float]]] = {}
    for s in read:
        if s.model is not None and s.said is not None:
            means.setdefault(s.model, []).append((s.said, s.label))
    given = [f"{s.said:g}" for s in read]
    return _spread(given, [f"{s.label:g}" for s in scores], means)


def _spread(
    judged: Sequence[str],
    labelled: Sequence[str],
    of_models: Mapping[str, Sequence[tuple[float, float]]],
) -> dict[str, Any]:
    models = {
        name: {"judged": float(np.mean([j for j, _ in both])), "labelled": float(np.mean(t))}
        for name, both in sorted(of_models.items())
        for t in [[label for _, label in both]]
    }
    counts = {"judged": dict(Counter(judged)), "labelled": dict(Counter(labelled))}
    return {"distribution": counts, "models": models}


def measured(
    measures: Mapping[str, Any],
    groups: Sequence[str | None],
    bootstrap: Bootstrap,
    advance: Callable[[], object] = lambda: None,
) -> dict[str, Any]:
    """Each measure's value and interval: overall, by group, and the mean over the groups.

    Groups and `macro` are left out where no item has a group. advance: called after each estimate.
    """

    def all_of(estimate: Callable[[Statistic], dict[str, Any]]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for name, measure in measures.items():
            if callable(measure):
                found[name] = estimate(measure)
            else:
                # Where all was read, the readings are one statistic: it is estimated once.
                known = {one: estimate(one) for one in dict.fromkeys(measure.values())}
                found[name] = {reading: known[one] for reading, one in measure.items()}
            advance()
        return found

    everything = np.arange(len(groups))
    found = {"labelled": len(groups)} | all_of(lambda m: bootstrap.estimate(m, [everything]))
    named = sorted({group for group in groups if group is not None})
    if not named:
        return found
    number = {group: n for n, group in enumerate(named)}
    group_of = np.array([-1 if group is None else number[group] for group in groups])
    members = [np.flatnonzero(group_of == n) for n in range(len(named))]
    found["groups"] = {
        group: {"labelled": len(inside)} | all_of(partial(bootstrap.estimate, strata=[inside]))
        for group, inside in zip(named, members, strict=True)
    }
    found["macro"] = all_of(
        lambda m: bootstrap.estimate(_mean_over(m, group_of, len(named)), members)
    )
    return found


def _ratio(part: Any, whole: Any) -> Statistic:
    """Sum over sum, of [n] values each."""

    def ratio(places: Places) -> float:
        below = whole[places].sum()
        return float(part[places].sum() / below) if below else float("nan")

    return ratio


def _mean_over(measure: Statistic, group_of: Any, count: int) -> Statistic:
    def mean(places: Places) -> float:
        group = group_of[places]
        return float(np.mean([measure(places[group == n]) for n in range(count)]))

    return mean


def _readings(
    correlation: Callable[..., float], label: Any, given: Any, filled: Any, *beside: Any
) -> dict[str, Statistic]:
    def wrong(places: Places) -> float:
        return correlation(filled[places], label[places], *(b[places] for b in beside))

    def left_out(places: Places) -> float:
        read = places[~np.isnan(given[places])]
        return correlation(given[read], label[read], *(b[read] for b in beside))

    return {WRONG: wrong, LEFT_OUT: left_out if np.isnan(given).any() else wrong}


def _of_means(correlation: Callable[..., float], model: Any) -> Callable[..., float]:
    """The correlation of two scores' means by model."""
    size = int(model.max()) + 1

    def of_means(ours: Any, theirs: Any, of: Any) -> float:
        count = np.bincount(of, minlength=size)
        there = count > 0
        # Rounded, so that means that are equal tie although they were summed in another order.
        means = [
            np.round(np.bincount(of, side, size)[there] / count[there], 12)
            for side in (ours, theirs)
        ]
        return correlation(*means)

    return of_means


def _model_order(pairs: Sequence[Pair], left_out: bool) -> Statistic:
    """Kendall's tau of the models' shares of points."""
    names = sorted({name for p in pairs if p.models for name in p.models})
    number = {name: n for n, name in enumerate(names)}
    # One row an asking: the pair, its two models, A's points as judged and as labelled.
    rows = [
        (n, number[p.models[0]], number[p.models[1]], said, POINTS[p.label])
        for n, p in enumerate(pairs)
        if p.models
        for said in p.said.values()
        if said is not None or not left_out
    ]
    owner = np.array([row[0] for row in rows])
    model_a, model_b = (np.array([row[n] for row in rows]) for n in (1, 2))
    for_a = np.array([POINTS.get(str(row[3]), 0.0) for row in rows])
    for_b = np.array([0.0 if row[3] is None else 1 - POINTS[str(row[3])] for row in rows])
    truth = np.array([row[4] for row in rows])

    def tau(places: Places) -> float:
        weight = np.bincount(places, minlength=len(pairs))[owner].astype(float)

        def by_model(a: Any, b: Any) -> Any:
            of_a = np.bincount(model_a, weight * a, len(names))
            return of_a + np.bincount(model_b, weight * b, len(names))

        played = by_model(np.ones_like(truth), np.ones_like(truth))
        there = played > 0
        judged = by_model(for_a, for_b)[there] / played[there]
        return kendall(judged, by_model(truth, 1 - truth)[there] / played[there])

    return tau if rows else lambda places: float("nan")


def _first_wins(pair: Pair) -> int:
    """Wins of the answer shown first less those of the second, over both orders."""
    first = {"ab": {"A": 1, "B": -1}, "ba": {"A": -1, "B": 1}}
    return sum(first[order].get(str(said), 0) for order, said in pair.said.items())
