"""Pairs of answers whose order is known, from published preference sets.

Four layouts are read; a row's own fields tell which one it is.

- VLFeedback (MMInstruction/VLFeedback): `prompt`, `img_path` and `completions`, each with `model`,
  `response` and `annotations`: a `Rating` from 1 to 5, as text, for Helpfulness, Ethical
  Considerations and Visual Faithfulness. As JSONL the completions are a list of objects, as the
  hub's loader gives them an object of lists.
- LLaVA-RLHF (zhiqings/LLaVA-Human-Preference-10K): `conversations`, `output_1`, `output_2` and
  `preference`, 1 or 2; both outputs answer the last question.
- RLHF-V (openbmb/RLHF-V-Dataset): `image` and `text`, an object as text with question, chosen and
  rejected.
- LLaVA-NeXT's own preference pairs: `prompt`, `chosen`, `rejected`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path
from typing import Any

from critic_jax.data import BadRecord, picture_sources
from critic_jax.errors import InputError
from critic_jax.judging.input_rows import Row, scan_rows
from critic_jax.text import leading_markers

from ..making.draw import fraction, one_of
from ..making.packing import Picture
from ..preferences import OUTPUTS, conversation, preferred_output

VLFEEDBACK, LLAVA_RLHF, RLHF_V, PAIRS = "vlfeedback", "llava-rlhf", "rlhf-v", "pairs"
GAP = 0.6
"""Difference of two mean ratings above which LLaVA-Critic takes an order as known."""

_ASPECTS = ("Helpfulness", "Ethical Considerations", "Visual Faithfulness")
_LAYOUTS = (
    "completions (VLFeedback), output_1 and output_2 (LLaVA-RLHF), text with question, chosen and "
    "rejected (RLHF-V), or prompt, chosen and rejected"
)


@dataclass(frozen=True)
class KnownPair:
    """Two answers to one question. tie: they are equally good; else `better` is."""

    id: str
    source: str
    place: str
    line: int
    images: tuple[Picture, ...]
    question: str
    better: str
    other: str
    tie: bool = False


@dataclass(frozen=True)
class Choice:
    """What is taken of VLFeedback, which rates several answers to each question.

    pairs, ties: how many; a row gives one of either kind at most, or else one of the other.
    """

    pairs: int = 20_000
    ties: int = 5_000
    gap: float = GAP

    def __post_init__(self) -> None:
        if self.pairs < 0 or self.ties < 0 or self.gap < 0:
            raise InputError("pairs, ties and gap must be 0 or more")


def read_known_pairs(
    paths: Sequence[Path], images: Path | None, choice: Choice, seed: int
) -> tuple[list[KnownPair], list[BadRecord]]:
    """The pairs of some files, in the files' order, and the wrong rows.

    images: the folder of the pictures, by default each file's own. Raises InputError for a file
    that is missing, unreadable or holds no pair, and for an `images` that is no folder.
    """
    if images is not None and not images.is_dir():
        raise InputError(f"{images}: no such folder of pictures")
    pairs: list[KnownPair] = []
    rated: list[list[KnownPair]] = []
    wrong: list[BadRecord] = []
    for path in paths:
        before = len(pairs) + len(rated)
        for row in scan_rows(path):
            try:
                if isinstance(row.found, InputError):
                    raise row.found
                found = list(_pairs(row, images or path.parent, choice.gap))
            except InputError as error:
                reason = str(error)
                if not isinstance(row.found, InputError):
                    reason = f"{row.where}: {reason}"
                wrong.append(BadRecord(row.number, _name(row), reason))
                continue
            if found and found[0].source == VLFEEDBACK:
                rated.append(found)
            else:
                pairs += found
        if len(pairs) + len(rated) == before:
            raise InputError(wrong[0].reason if wrong else f"{path}: holds no pair of answers")
    return _named([*_chosen(rated, choice, seed), *pairs]), wrong


def _pairs(row: Row, folder: Path, gap: float) -> Iterator[KnownPair]:
    fields: Any = row.found
    if "completions" in fields:
        yield from _vlfeedback(row, fields, folder, gap)
    elif "output_1" in fields or "output_2" in fields:
        yield _llava_rlhf(row, fields, folder)
    elif "text" in fields and "chosen" not in fields:
        yield _rlhf_v(row, fields, folder)
    elif "chosen" in fields:
        yield _pair(row, fields, folder, PAIRS, fields.get("prompt", fields.get("question")))
    else:
        raise InputError(f"holds no known layout; there are {_LAYOUTS}")


def _pair(
    row: Row, fields: Mapping[str, Any], folder: Path, source: str, question: Any
) -> KnownPair:
    """The pair of a row with `chosen` and `rejected`."""
    better = _text(fields.get("chosen"), "chosen")
    other = _text(fields.get("rejected"), "rejected")
    if better == other:
        raise InputError("both answers are the same; nothing tells which is better")
    pictures = picture_sources(fields, folder)
    asked = leading_markers(_text(question, "prompt"), len(pictures)).strip()
    name = f"{source}_{_name(row) or row.number}"
    return KnownPair(name, source, row.where, row.number, pictures, asked, better, other)


def _llava_rlhf(row: Row, fields: Mapping[str, Any], folder: Path) -> KnownPair:
    outputs = []
    for name in OUTPUTS:
        value = fields.get(name)
        outputs.append(_text(value.get("value") if isinstance(value, dict) else value, name))
    better = preferred_output(fields)
    turns = conversation(fields)
    asked = [
        turn.get("value")
        for turn in (turns if isinstance(turns, list) else [])
        if isinstance(turn, dict) and turn.get("from") in ("human", "user")
    ]
    if not asked:
        raise InputError("field 'conversations' holds no question; a turn should be from human")
    question = _text(asked[-1], "conversations").replace("<image>", "").strip()
    whole = {**fields, "chosen": outputs[better], "rejected": outputs[1 - better]}
    return _pair(row, whole, folder, LLAVA_RLHF, question)


def _rlhf_v(row: Row, fields: Mapping[str, Any], folder: Path) -> KnownPair:
    text = fields["text"]
    if isinstance(text, str):
        try:
            text = json.loads(text)
        except ValueError as error:
            raise InputError(f"field 'text' is no JSON ({error})") from None
    if not isinstance(text, dict):
        raise InputError("field 'text' should hold question, chosen and rejected")
    image = fields.get("image", fields.get("image_path"))
    return _pair(row, {**text, "image": image}, folder, RLHF_V, text.get("question"))


def _vlfeedback(
    row: Row, fields: Mapping[str, Any], folder: Path, gap: float
) -> Iterator[KnownPair]:
    """Every two answers whose mean ratings differ by more than `gap`, or not at all."""
    rated = [
        (rating, response)
        for one in _completions(fields["completions"])
        if (rating := _rating(one.get("annotations"))) is not None
        and isinstance(response := one.get("response"), str)
        and response.strip()
    ]
    if not rated:
        raise InputError("field 'completions' holds no answer with three ratings")
    image = fields.get("img_path", fields.get("image"))
    for (first, a), (second, b) in combinations(rated, 2):
        if a == b or (first != second and abs(first - second) <= gap):
            continue
        chosen, rejected = (a, b) if first >= second else (b, a)
        whole = {"image": image, "chosen": chosen, "rejected": rejected}
        found = _pair(row, whole, folder, VLFEEDBACK, fields.get("prompt"))
        yield replace(found, tie=first == second)


def _completions(value: Any) -> list[Mapping[str, Any]]:
    if isinstance(value, dict):
        columns = {k: v for k, v in value.items() if isinstance(v, list)}
        count = min(map(len, columns.values()), default=0)
        return [{name: column[n] for name, column in columns.items()} for n in range(count)]
    if isinstance(value, list) and all(isinstance(one, dict) for one in value):
        return value
    raise InputError("field 'completions' should be a list of objects")


def _rating(annotations: Any) -> float | None:
    """The mean of the three ratings; None where one is missing or no number, such as N/A."""
    try:
        ratings = [float(annotations[aspect]["Rating"]) for aspect in _ASPECTS]
    except (KeyError, TypeError, ValueError):
        return None
    return sum(ratings) / len(ratings)


def _chosen(rated: Sequence[list[KnownPair]], choice: Choice, seed: int) -> list[KnownPair]:
    """One pair of a row at most, drawn, and so many of each kind."""
    order = sorted(range(len(rated)), key=lambda place: fraction(seed, "row", place))
    clear: dict[int, KnownPair] = {}
    ties: dict[int, KnownPair] = {}
    # Ties first: they are rarer, and nearly every row has a clear pair to spare.
    for kept, wanted, tie in ((ties, choice.ties, True), (clear, choice.pairs, False)):
        for place in order:
            options = [pair for pair in rated[place] if pair.tie == tie]
            if options and place not in ties and len(kept) < wanted:
                kept[place] = one_of(options, seed, "pair", place)
    return [pair for _, pair in sorted([*clear.items(), *ties.items()], key=lambda item: item[0])]


def _named(pairs: Sequence[KnownPair]) -> list[KnownPair]:
    """The pairs under ids of their own: published ids repeat, and become ID#2, ID#3."""
    taken: dict[str, int] = {}
    named = []
    for pair in pairs:
        taken[pair.id] = taken.get(pair.id, 0) + 1
        number = taken[pair.id]
        named.append(pair if number == 1 else replace(pair, id=f"{pair.id}#{number}"))
    return named


def _name(row: Row) -> str | None:
    if not isinstance(row.found, dict):
        return None
    value = row.found.get("id", row.found.get("idx"))
    return None if value is None or isinstance(value, bool | dict | list) else str(value)


def _text(value: Any, field: str) -> str:
    if not isinstance(value, str) or not value.strip():
        said = "missing" if value is None else repr(value)[:40]
        raise InputError(f"field '{field}' is {said}; it should be a text that is not empty")
    return value.strip()
