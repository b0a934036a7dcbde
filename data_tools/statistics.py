"""Counts over critic records: a file of them, or an import, of which only the index is read."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from critic_jax.data import BadRecord, read_records
from critic_jax.data.corpus import Corpus, is_import
from critic_jax.errors import InputError

from .describe import describe

Columns = Mapping[str, Sequence[Any]]

# Column of the figures -> what its counts are called.
_COUNTED = {
    "config": "configs",
    "source": "sources",
    "kind": "kinds",
    "template": "templates",
    "task": "tasks",
    "domain": "domains",
    "response_model": "response_models",
    "verdict": "verdicts",
}
_MEASURED = ("prompt_characters", "answer_characters")
_MEASURED_IN_IMPORTS = ("text_tokens", "picture_tokens", "tiles")
BINS = 10


def columns(path: str | os.PathLike[str]) -> tuple[Columns, int]:
    """(a column a figure, a value a record; records rejected) of a file or an import.

    Raises InputError for a path that is missing, unreadable or holds no usable record.
    """
    if is_import(path):
        corpus = Corpus(path)
        return corpus.index.to_pydict(), corpus.summary["rejected"]
    rows: list[dict[str, Any]] = []
    rejected = 0
    for record in read_records(path):
        if isinstance(record, BadRecord):
            rejected += 1
            continue
        about = asdict(describe(record))
        images = [str(i) if not isinstance(i, bytes) else i for i in record.images]
        rows.append({"source": record.source, "config": "", "pictures": images, **about})
    if not rows:
        raise InputError(f"{os.fspath(path)}: holds no usable record ({rejected} rejected)")
    return {name: [row[name] for row in rows] for name in rows[0]}, rejected


def statistics(path: str | os.PathLike[str], found: Columns, rejected: int) -> dict[str, Any]:
    """The counts of `columns`; pictures are not opened.

    Keys: file, records, rejected (records that are not usable, counted nowhere else), configs,
    sources, kinds (how the last answer states its verdict), templates and tasks (by the prompt's
    marks), domains and response_models (where the records tell), verdicts on two answers, scores
    (by the top of their scale, counts in ten equal parts or by value), turns and pictures (records
    by how many they have), distinct_pictures, records_per_picture, and minimum, median, p95,
    maximum and total of prompt_characters and answer_characters (all human, and all gpt, turns of
    a record); of an import also of text_tokens, picture_tokens and tiles.
    """
    counted = {
        name: dict(Counter(v or "(none)" for v in found[column]).most_common())
        for column, name in _COUNTED.items()
        if column != "verdict"
    }
    measured = [*_MEASURED, *(n for n in _MEASURED_IN_IMPORTS if n in found)]
    shared = Counter(tuple(pictures) for pictures in found["pictures"] if pictures)
    return {
        "file": os.fspath(path),
        "records": len(found["kind"]),
        "rejected": rejected,
        **counted,
        "verdicts": dict(Counter(v for v in found["verdict"] if v).most_common()),
        "scores": score_counts(found),
        "turns": dict(sorted(Counter(found["turns"]).items())),
        "pictures": dict(sorted(Counter(map(len, found["pictures"])).items())),
        "distinct_pictures": len({p for pictures in found["pictures"] for p in pictures}),
        "records_per_picture": _spread(list(shared.values())),
        **{name: _spread([v for v in found[name] if v is not None]) for name in measured},
    }


def scores_by_scale(found: Columns) -> dict[str, list[float]]:
    """The scores of single answers, by the top of the scale that they are on."""
    scales: dict[str, list[float]] = {}
    for score, scale in zip(found["score"], found["scale"], strict=True):
        if score is not None:
            scales.setdefault(f"of {scale:g}", []).append(float(score))
    return dict(sorted(scales.items(), key=lambda item: -len(item[1])))


def score_counts(found: Columns) -> dict[str, dict[str, int]]:
    """How many scores fall where: by value where there are few, else in equal parts of a scale."""
    counts = {}
    for scale, scores in scores_by_scale(found).items():
        levels = sorted(set(scores))
        if len(levels) <= BINS + 1:
            counts[scale] = {f"{level:.4g}": scores.count(level) for level in levels}
            continue
        top = float(scale.removeprefix("of "))
        tally, edges = np.histogram(scores, bins=BINS, range=(0.0, top))
        counts[scale] = {
            f"{low:g} to {high:g}": int(n)
            for low, high, n in zip(edges[:-1], edges[1:], tally, strict=True)
        }
    return counts


def _spread(lengths: Sequence[int]) -> dict[str, float] | None:
    if not lengths:
        return None
    return {
        "minimum": min(lengths),
        "median": float(np.median(lengths)),
        "p95": float(np.percentile(lengths, 95)),
        "maximum": max(lengths),
        "total": sum(lengths),
    }
