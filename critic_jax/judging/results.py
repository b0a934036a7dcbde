"""Files that judging writes, read again: judgments; and beside them labels, the true verdicts.

Everything that counts or shows judgments reads them here, so that a wrong file is told in the same
words everywhere.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

from critic_jax.data import read_json_lines
from critic_jax.errors import InputError
from critic_jax.judging.templates import get_template
from critic_jax.judging.verdicts import State

VERDICTS = ("A>>B", "A>B", "A", "A=B", "tie", "B", "B>A", "B>>A")
"""Every verdict on two answers, with strength or without, from A's side to B's."""

_TEXTS = ("reason", "why", "raw", "model", "question", "response", "response_a", "response_b")


def read_results(path: Path) -> list[dict[str, Any]]:
    """The judgments of a file that `critic-jax judge` wrote, in its order; never none.

    Raises InputError for a file that is missing, is empty or holds something else.
    """
    results = []
    for number, fields in read_json_lines(path):
        try:
            check_result(fields)
        except InputError as error:
            raise InputError(
                f"{path} line {number}: {error}; is it a file that critic-jax judge wrote?"
            ) from None
        results.append(fields)
    if not results:
        raise InputError(f"{path}: holds no judgments")
    return results


def read_labels(path: Path) -> list[dict[str, Any]]:
    """True verdicts, scores and rankings: lines of `id` with one of the three; other fields are
    kept.

    Raises InputError for a file that is missing, is empty or holds something else.
    """
    labels: dict[str, dict[str, Any]] = {}
    for number, fields in read_json_lines(path):
        if isinstance(fields.get("id"), int):  # as judging takes it
            fields["id"] = str(fields["id"])
        try:
            _check_label(fields)
            if fields["id"] in labels:
                raise InputError(f"field 'id': {fields['id']!r} is taken by an earlier line")
        except InputError as error:
            raise InputError(f"{path} line {number}: {error}") from None
        labels[fields["id"]] = fields
    if not labels:
        raise InputError(f"{path}: holds no labels")
    return list(labels.values())


def pairwise(result: Mapping[str, Any]) -> bool:
    """Whether a result compares two answers."""
    return "pairs" not in result and get_template(result["template"]).kind == "pairwise"


def check_result(fields: dict[str, Any]) -> None:
    """Raise InputError, naming the field, for a line that is no judgment."""
    _check_texts(fields, ("id", "state", "template"), _TEXTS)
    if fields["state"] not in get_args(State):
        raise _wrong(fields, "state", f"one of {', '.join(get_args(State))}")
    get_template(fields["template"])
    _check_value(fields)
    if "pairs" in fields:
        _check_ranking(fields)
    elif fields["state"] != "unparsed":
        wanted = "verdict" if pairwise(fields) else "score"
        if wanted not in fields:
            raise InputError(f"field '{wanted}' is missing beside state {fields['state']!r}")
    scores = fields.get("scores", [0, 0])
    if not isinstance(scores, list) or len(scores) != 2 or not all(map(_is_number, scores)):
        raise _wrong(fields, "scores", "two numbers")
    if fields.get("order", "ab") not in ("ab", "ba"):
        raise _wrong(fields, "order", "ab or ba")
    images = fields.get("image", [])
    listed = images if isinstance(images, list) else [images]
    if not all(isinstance(image, str) and image for image in listed):
        raise _wrong(fields, "image", "a path or a list of paths")


def check_order(fields: Mapping[str, Any]) -> None:
    """Raise InputError where `ranking` is no order of places from 0."""
    order = fields["ranking"]
    if not isinstance(order, list) or sorted(order, key=repr) != sorted(
        range(len(order)), key=repr
    ):
        raise _wrong(fields, "ranking", "places from 0, best first, such as [2, 0, 1]")


def _check_ranking(fields: Mapping[str, Any]) -> None:
    pairs, answers = fields["pairs"], fields.get("responses", [])
    if not isinstance(pairs, list) or not pairs or not all(map(_is_pair, pairs)):
        raise _wrong(fields, "pairs", "a list of judgments with first and second")
    if not isinstance(answers, list) or not all(isinstance(text, str) for text in answers):
        raise _wrong(fields, "responses", "a list of texts")
    count = 1 + max(max(pair["first"], pair["second"]) for pair in pairs)
    rewards, ranking = fields.get("rewards", []), fields.get("ranking", [])
    if fields["state"] == "unparsed":
        return
    if not isinstance(rewards, list) or len(rewards) != count or not all(map(_is_number, rewards)):
        raise _wrong({"rewards": rewards}, "rewards", f"{count} numbers")
    places = list(range(count))
    if not isinstance(ranking, list) or sorted(ranking, key=repr) != sorted(places, key=repr):
        raise _wrong({"ranking": ranking}, "ranking", f"the places 0 to {count - 1}")


def _is_pair(value: Any) -> bool:
    places = ("first", "second")
    return (
        isinstance(value, dict)
        and all(type(value.get(name)) is int and value[name] >= 0 for name in places)
        and value.get("state") in get_args(State)
    )


def _check_label(fields: dict[str, Any]) -> None:
    _check_texts(fields, ("id",))
    if sum(name in fields for name in ("verdict", "score", "ranking")) != 1:
        raise InputError(
            "a label is an id with a verdict or with a score, or of several answers with a ranking"
        )
    _check_value(fields)
    if "ranking" in fields:
        check_order(fields)


def _check_value(fields: dict[str, Any]) -> None:
    if "verdict" in fields and fields["verdict"] not in VERDICTS:
        raise _wrong(fields, "verdict", f"one of {' '.join(VERDICTS)}")
    if "score" in fields and not _is_number(fields["score"]):
        raise _wrong(fields, "score", "a number")


def _check_texts(
    fields: Mapping[str, Any], needed: Sequence[str] = (), optional: Sequence[str] = ()
) -> None:
    for name in needed:
        if name not in fields:
            raise InputError(f"field '{name}' is missing")
    for name in (*needed, *optional):
        if name in fields and not isinstance(fields[name], str):
            raise _wrong(fields, name, "a text")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _wrong(fields: Mapping[str, Any], name: str, right: str) -> InputError:
    text = repr(fields[name])
    shown = text if len(text) <= 40 else text[:37] + "..."
    return InputError(f"field '{name}' is {shown}; it should be {right}")
