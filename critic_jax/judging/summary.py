"""A file of judgments in numbers, and the limits that a run may be held to."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from critic_jax.errors import InputError, WorkError
from critic_jax.judging.both_orders import order_summary
from critic_jax.judging.judgment import winner

Line = Mapping[str, Any]

METRICS = ("judgments", "mean_score", "order_consistency")
"""Numbers of a summary that are better when they are larger."""


def summarise(results: Sequence[Line], model: str) -> dict[str, Any]:
    """Counts of result lines, and beside them always the rate of answers that held no verdict.

    A ranking counts as its pairs, each a judgment. `order_consistency` and `position_bias` stand
    there if pairs were asked in both orders, `ranked` and `ties` if answers were ranked, `asking`
    and the counts of `answers_read` if the judge was asked in another way than the usual.
    """
    judged = [one for r in results for one in r.get("pairs", [r])]
    read = answers_read(judged)
    scores = [r["score"] for r in results if "score" in r]
    verdicts: dict[str, int] = {}
    for r in results:
        if "verdict" in r:
            verdicts[r["verdict"]] = verdicts.get(r["verdict"], 0) + 1
    counts = {
        "model": model,
        "fingerprint": results[0].get("fingerprint") if results else None,
        **{name: read[name] for name in ("judgments", "unparsed", "unparsed_rate")},
        "mean_score": sum(scores) / len(scores) if scores else None,
        "verdicts": dict(sorted(verdicts.items())),
    }
    if ranked := [r for r in results if "pairs" in r]:
        counts |= {"ranked": len(ranked), "ties": sum(r["state"] == "tie" for r in ranked)}
    if how := next((r["asking"] for r in results if r.get("asking")), None):
        counts |= {"asking": how, **read}
    if not any("order" in r for r in results):
        return counts
    return counts | {
        "order_consistency": order_consistency(results),
        "position_bias": position_bias(results),
    }


def answers_read(results: Sequence[Line]) -> dict[str, Any]:
    """How many answers could be read, of judgments as `Judgment.to_dict` tells them.

    unparsed: how many hold no verdict in the end. asks: how often the judge was asked altogether.
    free: judgments that began with a free answer, as all do but those that were asked for nothing
    but a verdict. first_unparsed: of how many of these that answer held none. constrained: of how
    many a verdict was the only thing allowed.
    """
    unparsed = sum(r["state"] == "unparsed" for r in results)
    only = sum(bool(r.get("constrained")) and r.get("asks", 1) == 1 for r in results)
    free = len(results) - only
    first = sum("first_why" in r or _read_never(r) for r in results)
    return {
        "judgments": len(results),
        "unparsed": unparsed,
        "unparsed_rate": unparsed / len(results) if results else None,
        "asks": sum(r.get("asks", 1) for r in results),
        "free": free,
        "first_unparsed": first,
        "first_unparsed_rate": first / free if free else None,
        "constrained": sum(bool(r.get("constrained")) for r in results),
    }


def _read_never(r: Line) -> bool:
    """Whether the only answer was free and held no verdict."""
    return r["state"] == "unparsed" and r.get("asks", 1) == 1 and not r.get("constrained")


def order_consistency(results: Sequence[Line]) -> float | None:
    """`OrderSummary.consistency` of the pairs asked in both orders, None where there is none."""
    return order_summary(_both(results)).consistency


def position_bias(results: Sequence[Line]) -> float | None:
    """How much more often the answer shown first wins than the one shown second, from -1 to 1.

    Of all parsed verdicts on pairs asked in both orders: the share that the first answer won less
    the share that the second won; a tie is neither. A judge that looks at the answers alone has 0.
    None where there is none.
    """
    return order_summary(_both(results)).position_bias


def _both(results: Sequence[Line]) -> list[tuple[str | None, str | None]]:
    """Of each pair asked in both orders: the winners of "ab" and "ba", None for the unparsed."""
    orders: dict[str, dict[str, str | None]] = {}
    for r in results:
        if "order" in r:
            orders.setdefault(r["id"], {})[r["order"]] = winner(r.get("verdict"))
    return [(o["ab"], o["ba"]) for o in orders.values() if len(o) == 2]


@dataclass(frozen=True)
class Limits:
    """What a run is held to: the least value by metric, the largest rate of unparsed judgments."""

    under: Mapping[str, float]
    unparsed: float | None

    def check(self, summary: Mapping[str, Any]) -> None:
        """Raise WorkError that names every limit missed. A metric that is not known misses its."""
        missed = []
        for name, least in self.under.items():
            value = summary.get(name)
            if value is None:
                missed.append(f"{name} is not known, as nothing was judged that gives it")
            elif value < least:
                missed.append(f"{name} is {value:.4g}, under {least:g}")
        rate = summary["unparsed_rate"]
        if self.unparsed is not None and rate is not None and rate > self.unparsed:
            missed.append(f"unparsed_rate is {rate:.4g}, over {self.unparsed:g}")
        if missed:
            raise WorkError("; ".join(missed))


def parse_limits(words: Sequence[str], unparsed: float | None) -> Limits:
    """Limits of `METRIC=VALUE` words and a rate. Raises InputError for what is neither."""
    under: dict[str, float] = {}
    for word in words:
        name, _, value = word.partition("=")
        if name not in METRICS:
            raise InputError(
                f"--fail-under {word}: no metric is called {name!r}; there are {', '.join(METRICS)}"
            )
        try:
            under[name] = float(value)
            if math.isnan(under[name]):
                raise ValueError
        except ValueError:
            raise InputError(
                f"--fail-under {word}: {value!r} is no number; give {name}=VALUE"
            ) from None
    if unparsed is not None and not 0 <= unparsed <= 1:
        raise InputError(f"--fail-on-unparsed {unparsed:g}: should be a share from 0 to 1")
    return Limits(under, unparsed)
