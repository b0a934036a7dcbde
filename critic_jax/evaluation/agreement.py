"""How far judgments agree with labels. Unparsed judgments are counted, never filled in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from scipy.stats import pearsonr

Line = Mapping[str, Any]


def winner(verdict: str | None) -> str | None:
    """A verdict without its strength: "A", "B", "tie", or None for an unparsed one."""
    if verdict is None or verdict in ("A", "B", "tie"):
        return verdict
    return "tie" if verdict == "A=B" else verdict[0]


def agreement(results: Sequence[Line], labels: Sequence[Line]) -> dict[str, float | None]:
    """Numbers on results and labels matched by `id`.

    pairwise_accuracy: share of comparisons whose winner is the label's, in every order that was asked; an
    unparsed one is wrong. order_consistency: share of pairs asked in both orders with the same winner in
    both. pointwise_pearson: Pearson's r of parsed scores. unparsed_rate: of all results. None where
    nothing of the kind was asked.
    """
    truth = {label["id"]: label for label in labels}
    known = [r for r in results if r["id"] in truth]
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


def order_consistency(results: Sequence[Line]) -> float | None:
    """Share of pairs asked in both orders whose two verdicts name the same winner (unparsed: they don't)."""
    orders: dict[str, dict[str, str | None]] = {}
    for r in results:
        if "order" in r:
            orders.setdefault(r["id"], {})[r["order"]] = winner(r.get("verdict"))
    both = [o for o in orders.values() if len(o) == 2]
    return _mean([o["ab"] is not None and o["ab"] == o["ba"] for o in both])


def _mean(values: Sequence[bool]) -> float | None:
    return sum(values) / len(values) if values else None


def _pearson(pairs: Sequence[tuple[float, float]]) -> float | None:
    ours, theirs = [p for p, _ in pairs], [t for _, t in pairs]
    if len(set(ours)) < 2 or len(set(theirs)) < 2:
        return None  # undefined where one side is constant
    return float(pearsonr(ours, theirs).statistic)
