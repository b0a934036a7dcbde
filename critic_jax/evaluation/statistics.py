"""Correlations, edit distance, and intervals by resampling.

A statistic is a function of the places of the items that count, [n] whole numbers into the items;
NaN says that it is not defined for them, as a correlation with a constant is not.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.stats import kendalltau, pearsonr

Places = np.ndarray[Any, np.dtype[np.intp]]
Statistic = Callable[[Places], float]


@dataclass(frozen=True)
class Bootstrap:
    """How intervals are found: the percentile method (Efron and Tibshirani 1993, chapter 13).

    resamples: how often the items are drawn anew, with replacement; 0 leaves intervals out. seed:
    of the drawing. level: the share of resamples between the two ends.
    """

    resamples: int = 1000
    seed: int = 0
    level: float = 0.95

    def interval(
        self, statistic: Statistic, strata: Sequence[Places]
    ) -> tuple[float, float] | None:
        """The ends for a statistic of the items in `strata`, each of which keeps its size when they
        are drawn anew. Resamples where it is undefined do not count.

        None for fewer than two items, and where more than half of the resamples are undefined.
        """
        if sum(map(len, strata)) < 2 or self.resamples < 1:
            return None
        draw = np.random.default_rng(self.seed)
        found = [
            statistic(np.concatenate([s[draw.integers(0, len(s), len(s))] for s in strata]))
            for _ in range(self.resamples)
        ]
        return self.ends(np.array(found))

    def ends(self, found: Any) -> tuple[float, float] | None:
        """The ends of values found by resampling, [resamples], NaN where undefined."""
        defined = found[~np.isnan(found)]
        if 2 * len(defined) <= len(found):
            return None
        tail = (1 - self.level) / 2
        # Exact data points, no means of two: an infinite value may stand beside a finite one.
        low = np.quantile(defined, tail, method="lower")
        high = np.quantile(defined, 1 - tail, method="higher")
        return float(low), float(high)

    def estimate(self, statistic: Statistic, strata: Sequence[Places]) -> dict[str, Any]:
        """value and interval of a statistic of the items in `strata`; None for the undefined."""
        value = statistic(np.concatenate(strata))
        if np.isnan(value):
            return {"value": None, "interval": None}
        interval = self.interval(statistic, strata)
        return {"value": float(value), "interval": None if interval is None else list(interval)}


DEFAULT = Bootstrap()


def in_words(found: Any) -> Any:
    """A document for people: each estimate a short text, such as 0.84 (0.81 to 0.87); what only
    pages show is left out."""
    if not isinstance(found, dict):
        return found
    if set(found) != {"value", "interval"}:
        for_pages = ("distribution", "models")
        return {name: in_words(of) for name, of in found.items() if name not in for_pages}
    if found["value"] is None or found["interval"] is None:
        return found["value"]
    low, high = found["interval"]
    return f"{found['value']:.4g} ({low:.4g} to {high:.4g})"


def pearson(ours: Sequence[float], theirs: Sequence[float]) -> float:
    """Pearson's r; NaN where either side is constant or there are fewer than two."""
    if _constant(ours) or _constant(theirs):
        return float("nan")
    return float(pearsonr(ours, theirs).statistic)


def kendall(ours: Sequence[float], theirs: Sequence[float]) -> float:
    """Kendall's tau-b, which allows for ties on either side; NaN where either side is constant."""
    if _constant(ours) or _constant(theirs):
        return float("nan")
    return float(kendalltau(ours, theirs).statistic)


def levenshtein(ours: Sequence[Any], theirs: Sequence[Any]) -> float:
    """Insertions, deletions and exchanges that make one of the other, over the longer length.

    0 for equal ones, 1 where nothing is in place. How MLLM-as-a-Judge (arXiv 2402.04788, section 3)
    compares ranks of a batch.
    """
    if not ours and not theirs:
        return 0.0
    row = list(range(len(theirs) + 1))
    for i, one in enumerate(ours, start=1):
        before, row[0] = row[0], i
        for j, other in enumerate(theirs, start=1):
            cost = min(row[j] + 1, row[j - 1] + 1, before + (one != other))
            before, row[j] = row[j], cost
    return row[-1] / max(len(ours), len(theirs))


def _constant(values: Sequence[float]) -> bool:
    known = np.asarray(values, dtype=float)
    return known.size < 2 or bool(np.all(known == known[0]))
