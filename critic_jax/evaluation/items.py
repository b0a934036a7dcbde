"""Judgments beside the labels of the same answers, made ready for counting."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from critic_jax.data import read_json_lines
from critic_jax.errors import InputError
from critic_jax.judging.judgment import winner
from critic_jax.judging.results import check_order, check_result

Line = Mapping[str, Any]


@dataclass(frozen=True)
class Pair:
    """A labelled comparison and what was said of it: once, or in both orders.

    label: "A", "B" or "tie". said: the winner of each asking, None for the unparsed; by order.
    models: whose answers A and B are, where the label names them.
    """

    label: str
    said: Mapping[str, str | None]
    group: str | None
    models: tuple[str, str] | None


@dataclass(frozen=True)
class Score:
    """A labelled score and what was given; None for the unparsed."""

    label: float
    said: float | None
    group: str | None
    model: str | None


@dataclass(frozen=True)
class Rank:
    """A labelled order of several answers, best first by their places, and the judge's."""

    label: tuple[int, ...]
    said: tuple[int, ...] | None
    group: str | None


@dataclass(frozen=True)
class Items:
    """What can be counted, and how many lines of either file have no counterpart."""

    pairs: list[Pair]
    scores: list[Score]
    ranks: list[Rank]
    unlabelled: int
    unjudged: int


def read_judged(path: Path) -> list[dict[str, Any]]:
    """The judgments of a file, for counting: `id`, and `verdict`, `score` or `ranking`.

    Lines that `critic-jax judge` wrote, and shorter ones of other judges: without a verdict, a
    score or a ranking a line is unparsed, and the rest is taken from what it holds. Raises
    InputError for a file that is missing, is empty, holds something else, or an id twice in one
    order.
    """
    lines: list[dict[str, Any]] = []
    seen: set[tuple[str, str]] = set()
    for number, fields in read_json_lines(path):
        if type(fields.get("id")) is int:  # as judging takes it
            fields["id"] = str(fields["id"])
        try:
            known = _completed(fields)
            if "ranking" in known and "pairs" not in known:
                check_order(known)
            else:
                check_result(known)
            key = known["id"], known.get("order", "ab")
            if key in seen:
                raise InputError(f"field 'id': {key[0]!r} is judged twice in order {key[1]!r}")
        except InputError as error:
            raise InputError(f"{path} line {number}: {error}") from None
        seen.add(key)
        lines.append(known)
    if not lines:
        raise InputError(f"{path}: holds no judgments")
    return lines


def _completed(fields: dict[str, Any]) -> dict[str, Any]:
    """A line with the fields that a judge of another kind left out."""
    empty = [n for n in ("verdict", "score", "ranking") if n in fields and fields[n] is None]
    known = {name: value for name, value in fields.items() if name not in empty}
    given = [name for name in ("verdict", "score", "ranking") if name in known]
    if "state" not in known:
        tie = known.get("verdict") in ("tie", "A=B")
        known["state"] = "tie" if tie else "value" if given else "unparsed"
    if "template" not in known:
        known["template"] = "critic-pointwise" if "score" in given else "critic-pairwise"
    return known


def matched(results: Sequence[Line], labels: Sequence[Line], group: str = "group") -> Items:
    """Results and labels of the same `id` put together. A label may tell `model` (of a score) or
    `model_a` and `model_b`, and, in the field that `group` names, what it is counted under.

    Raises InputError where a result is of another kind than its label, naming the id.
    """
    by_id: dict[str, list[Line]] = {}
    known = {label["id"] for label in labels}
    for result in results:
        by_id.setdefault(result["id"], []).append(result)
    items = Items(
        pairs=[],
        scores=[],
        ranks=[],
        unlabelled=sum(name not in known for name in by_id),
        unjudged=sum(name not in by_id for name in known),
    )
    for label in labels:
        said = by_id.get(label["id"])
        if said is None:
            continue
        kind = next(name for name in ("verdict", "score", "ranking") if name in label)
        for result in said:
            if result["state"] != "unparsed" and kind not in result:
                raise InputError(
                    f"id {label['id']!r}: the label is a {kind}, the result holds none; "
                    "are these the labels of these results?"
                )
        where = _text(label, group)
        if kind == "verdict":
            orders = {r.get("order", "ab"): winner(r.get("verdict")) for r in said}
            a, b = _text(label, "model_a"), _text(label, "model_b")
            models = (a, b) if a is not None and b is not None else None
            items.pairs.append(Pair(str(winner(label["verdict"])), orders, where, models))
        elif kind == "score":
            given = said[0].get("score")
            items.scores.append(Score(label["score"], given, where, _text(label, "model")))
        else:
            ranked = said[0].get("ranking")
            items.ranks.append(
                Rank(tuple(label["ranking"]), None if ranked is None else tuple(ranked), where)
            )
    return items


def _text(label: Line, name: str) -> str | None:
    value = label.get(name)
    if value is None:
        return None
    if not isinstance(value, str | int):
        raise InputError(f"label {label['id']!r}: field '{name}' is {value!r}; it should be a text")
    return str(value)
