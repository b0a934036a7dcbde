"""How far judgments agree with labels. Unparsed judgments are counted, never filled in."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from critic_jax.errors import InputError
from critic_jax.evaluation import measures
from critic_jax.evaluation.items import matched, read_judged
from critic_jax.evaluation.statistics import DEFAULT, Bootstrap, pearson
from critic_jax.judging.judgment import winner
from critic_jax.judging.results import read_labels, read_results
from critic_jax.judging.summary import order_consistency
from critic_jax.progress import progress

Line = Mapping[str, Any]


def agreement(results: Sequence[Line], labels: Sequence[Line]) -> dict[str, float | None]:
    """Numbers on results and labels matched by `id`.

    pairwise_accuracy: share of comparisons whose winner is the label's, each order that was asked
    counted on its own; an unparsed one is wrong. order_consistency: share of pairs asked in both
    orders with the same winner in both. pointwise_pearson: Pearson's r of parsed scores.
    unparsed_rate: of all results with a label. None where nothing of the kind was asked.
    """
    truth = {label["id"]: label for label in labels}
    known = [r for r in results if r["id"] in truth and "pairs" not in r]  # a ranking has none
    pairs = [r for r in known if "verdict" in truth[r["id"]]]
    right = [winner(r.get("verdict")) == winner(truth[r["id"]]["verdict"]) for r in pairs]
    scored = [
        (float(r["score"]), float(truth[r["id"]]["score"]))
        for r in known
        if "score" in truth[r["id"]] and r.get("score") is not None
    ]
    return {
        "pairwise_accuracy": _mean(right),
        "order_consistency": order_consistency(pairs),
        "pointwise_pearson": _pearson(scored),
        "unparsed_rate": _mean([r["state"] == "unparsed" for r in known]),
    }


def agreement_of_files(
    results: Sequence[Path], labels: Path | None
) -> dict[Path, dict[str, float | None]]:
    """`agreement` of each file of results with a file of labels; empty without labels.

    Raises InputError for a file that is missing or holds something else.
    """
    if labels is None:
        return {}
    truth = read_labels(labels)
    return {path: agreement(read_results(path), truth) for path in results}


def measure_agreement(
    results: Path, labels: Path, group: str = "group", bootstrap: Bootstrap = DEFAULT
) -> dict[str, Any]:
    """Everything that a file of judgments and a file of labels tell of each other, with intervals.

    First what `agreement` tells of them, then `pairwise`, `pointwise` and `ranking`, as far as
    something of the kind is labelled: the numbers of `measures`, each with value and interval.
    group: the labels' field that they are counted under too. Items are drawn anew by id, so that
    the two orders of a pair stay together. Raises InputError for a wrong file, or one that has no
    id in common with the other.
    """
    judged, truth = read_judged(results), read_labels(labels)
    items = matched(judged, truth, group)
    kinds: dict[str, tuple[list[Any], Callable[[Any], measures.Measures]]] = {
        "pairwise": (items.pairs, measures.of_pairs),
        "pointwise": (items.scores, measures.of_scores),
        "ranking": (items.ranks, measures.of_ranks),
    }
    if not any(found for found, _ in kinds.values()):
        raise InputError(f"{labels}: labels no id of {results}; are these the labels of it?")
    document: dict[str, Any] = {
        "results": str(results),
        "labels": str(labels),
        "model": next((r["model"] for r in judged if "model" in r), None),
        "unlabelled": items.unlabelled,
        "unjudged": items.unjudged,
        **agreement(judged, truth),
    }
    spreads: dict[str, dict[str, Any]] = {
        "pairwise": measures.spread_of_pairs(items.pairs),
        "pointwise": measures.spread_of_scores(items.scores),
    }
    with progress() as bar:
        for name, (found, of) in kinds.items():
            if found:
                counted = of(found)
                groups = [item.group for item in found]
                sections = len({g for g in groups if g}) + 2 if any(groups) else 1
                task = bar.add_task(name, total=len(counted) * sections)
                document[name] = measures.measured(
                    counted, groups, bootstrap, partial(bar.advance, task)
                ) | spreads.get(name, {})
    return document


def _mean(values: Sequence[bool]) -> float | None:
    return sum(values) / len(values) if values else None


def _pearson(pairs: Sequence[tuple[float, float]]) -> float | None:
    found = pearson([p for p, _ in pairs], [t for _, t in pairs])
    return None if math.isnan(found) else found  # undefined where one side is constant
