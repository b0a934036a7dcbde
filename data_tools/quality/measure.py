"""The figures of a set: doubles, overlap with evaluation sets, balance, lengths of reasons."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import binomtest

from critic_jax.data import BadRecord, Record, read_records
from critic_jax.errors import InputError
from critic_jax.imaging import PictureError
from critic_jax.judging.judgment import winner
from critic_jax.judging.verdicts import parse_verdict
from critic_jax.progress import progress

from ..describe import KINDS, OTHER, About, describe
from ..making.packing import Picture
from ..sources.questions import read_questions
from .pictures import Look, Looks, look
from .texts import Questions

SHORT_REASON = 8
"""Words below which a reason is counted as short."""


@dataclass(frozen=True)
class Judged:
    """A record with its figures. reason: its last answer without the verdict."""

    record: Record
    about: About
    reason: str

    @property
    def prompt(self) -> str:
        return self.record.conversations[0]["value"]

    @property
    def answer(self) -> str:
        return self.record.conversations[-1]["value"]


def read_judged(paths: Sequence[Path]) -> tuple[list[Judged], int]:
    """The records of some files, and how many lines hold none that is usable.

    Raises InputError where there is none at all, and for a file that cannot be read.
    """
    judged: list[Judged] = []
    rejected = 0
    for path in paths:
        for record in read_records(path):
            if isinstance(record, BadRecord):
                rejected += 1
                continue
            about = describe(record)
            judged.append(Judged(record, about, _reason(record, about)))
    if not judged:
        raise InputError(f"{paths[0]}: holds no usable record ({rejected} rejected)")
    return judged, rejected


def measure(judged: Sequence[Judged], rejected: int, against: Sequence[Path]) -> dict[str, Any]:
    """The figures of some records; `against` are files of evaluation questions.

    doubles: near-duplicate pictures and repeated prompts. overlap: how many records share a picture
    with an evaluation set, hold one of its questions, or both, and their ids. position: how often
    the answer shown first wins, of pairs that one wins. labels, scores: how they are spread.
    reasons: their lengths in words.
    """
    keys, looks, unreadable = _looks(judged)
    found: dict[str, Any] = {
        "records": len(judged),
        "rejected": rejected,
        "pictures": len(looks),
        "unreadable_pictures": unreadable,
        "doubles": _doubles(judged, looks),
        "sources": dict(Counter(one.record.source or "(none)" for one in judged).most_common()),
        "labels": _labels(judged),
        "position": _position(judged),
        "scores": _scores(judged),
        "reasons": _reasons(judged),
    }
    if against:
        found["overlap"] = _overlap(judged, keys, looks, against)
    return found


def _reason(record: Record, about: About) -> str:
    answer = record.conversations[-1]["value"]
    names = [about.template] if about.template != OTHER else []
    if about.kind in KINDS:
        names.append(KINDS[about.kind])
    for name in names:
        verdict = parse_verdict(answer, name)
        if verdict.state != "unparsed":
            return verdict.reason
    return answer


def _looks(judged: Sequence[Judged]) -> tuple[list[list[str]], dict[str, Look], int]:
    """(names of each record's pictures, the look of each, how many cannot be read)."""
    keys: list[list[str]] = []
    looks: dict[str, Look] = {}
    broken: set[str] = set()
    with progress() as bar:
        for one in bar.track(judged, description="looking at pictures"):
            names = []
            for image in one.record.images:
                name = _name(image)
                names.append(name)
                if name in looks or name in broken:
                    continue
                try:
                    looks[name] = look(image, name)
                except PictureError:
                    broken.add(name)
            keys.append(names)
    return keys, looks, len(broken)


def _name(image: Picture) -> str:
    return str(image.resolve()) if isinstance(image, Path) else sha256(image).hexdigest()


def _doubles(judged: Sequence[Judged], looks: dict[str, Look]) -> dict[str, Any]:
    groups = Looks(list(looks.values())).groups()
    names = list(looks)
    prompts = Counter((one.prompt, *map(_name, one.record.images)) for one in judged)
    return {
        "near_duplicate_pictures": sum(len(group) - 1 for group in groups),
        "largest_groups": [
            [names[place] for place in group] for group in sorted(groups, key=len)[:-6:-1]
        ],
        "repeated_prompts": sum(count - 1 for count in prompts.values()),
    }


def _overlap(
    judged: Sequence[Judged],
    keys: Sequence[Sequence[str]],
    looks: dict[str, Look],
    against: Sequence[Path],
) -> dict[str, Any]:
    questions, _ = read_questions(against, None)
    theirs: dict[str, Look] = {}
    for question in questions:
        for image in question.images:
            if (name := _name(image)) not in theirs:
                try:
                    theirs[name] = look(image, name)
                except PictureError as error:
                    raise InputError(f"{question.place}: {error}") from None
    table = Looks(list(theirs.values()))
    seen = {name for name, one in looks.items() if next(table.near(one), None) is not None}
    asked = Questions([question.text for question in questions])
    pictures = {n for n, names in enumerate(keys) if seen.intersection(names)}
    texts = {n for n, one in enumerate(judged) if next(asked.held_by(one.prompt), None) is not None}
    ids = [judged[n].record.id for n in sorted(pictures | texts)]
    return {
        "questions": len(questions),
        "same_picture": len(pictures),
        "same_question": len(texts),
        "both": len(pictures & texts),
        "ids": ids,
    }


def _labels(judged: Sequence[Judged]) -> dict[str, int]:
    verdicts = Counter(one.about.verdict for one in judged if one.about.verdict)
    return dict(verdicts.most_common())


def _position(judged: Sequence[Judged]) -> dict[str, float | int | None]:
    wins = Counter(winner(one.about.verdict) for one in judged)
    decided = wins["A"] + wins["B"]
    if not decided:
        return {"decided": 0, "first_wins": None, "p_value": None}
    return {
        "decided": decided,
        "first_wins": wins["A"] / decided,
        "p_value": float(binomtest(wins["A"], decided).pvalue),
    }


def _scores(judged: Sequence[Judged]) -> dict[str, dict[str, float]]:
    """Of each scale, by its top: how many, their mean and deviation, and the most frequent one."""
    scales: dict[str, list[float]] = {}
    for one in judged:
        if one.about.score is not None and one.about.scale is not None:
            scales.setdefault(f"of {one.about.scale:g}", []).append(one.about.score)
    return {
        scale: {
            "count": len(scores),
            "mean": float(np.mean(scores)),
            "deviation": float(np.std(scores)),
            "share_of_the_commonest": Counter(scores).most_common(1)[0][1] / len(scores),
        }
        for scale, scores in scales.items()
    }


def _reasons(judged: Sequence[Judged]) -> dict[str, float]:
    lengths = [len(one.reason.split()) for one in judged]
    same = Counter(one.reason for one in judged if one.reason)
    return {
        "median_words": float(np.median(lengths)),
        "p5_words": float(np.percentile(lengths, 5)),
        "p95_words": float(np.percentile(lengths, 95)),
        "short": sum(length < SHORT_REASON for length in lengths),
        "repeated": sum(count - 1 for count in same.values()),
    }
