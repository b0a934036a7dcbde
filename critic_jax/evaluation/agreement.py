"""How far judgments agree with labels. Unparsed judgments are counted, never filled in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from scipy.stats import pearsonr

from critic_jax.judging.judgment import winner
from critic_jax.judging.results import read_labels, read_results
from critic_jax.judging.summary import order_consistency

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


def _mean(values: Sequence[bool]) -> float | None:
    return sum(values) / len(values) if values else None


def _pearson(pairs: Sequence[tuple[float, float]]) -> float | None:
    ours, theirs = [p for p, _ in pairs], [t for _, t in pairs]
    if len(set(ours)) < 2 or len(set(theirs)) < 2:
        return None  # undefined where one side is constant
    return float(pearsonr(ours, theirs).statistic)
