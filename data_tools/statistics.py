"""Counts over a file of critic records."""

import os
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from critic_jax.data import BadRecord, Record, read_records
from critic_jax.errors import InputError
from critic_jax.judging.verdicts import parse_verdict

# How a record's last answer states its verdict -> a template of that format. The formats of pairs
# come first: inside a comparison a single number may be named, but not the other way round.
_KINDS = {
    "pair: [[A>>B]] to [[B>>A]]": "wildvision",
    "pair: [[A]] [[B]] [[C]]": "mt-bench",
    "pair: better response": "critic-pairwise",
    "pair: two scores": "llava-bench",
    "score: Final Score": "caption",
    "score: [RESULT]": "prometheus",
    "score: Rating [[N]]": "auto-j",
    "score: Rating": "mmhal",
    "score: Score": "critic-pointwise",
}
NO_VERDICT = "no verdict"


def statistics(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Counts of a JSONL or JSON array file of records; pictures are not opened.

    Keys: file, records, rejected (lines that hold no usable record, counted nowhere else), sources,
    kinds (how the last answer states its verdict), turns and pictures (records by how many they
    have), prompt_characters and answer_characters (minimum, median, p95, maximum and total of all
    human, and all gpt, turns of a record).
    Raises InputError for a file that is missing, unreadable or holds no usable record.
    """
    records: list[tuple[int, int]] = []
    rejected = 0
    sources, kinds = Counter[str](), Counter[str]()
    turns, pictures = Counter[int](), Counter[int]()
    for record in read_records(path):
        if isinstance(record, BadRecord):
            rejected += 1
            continue
        sources[record.source or "(none)"] += 1
        kinds[judgment_kind(record)] += 1
        turns[len(record.conversations)] += 1
        pictures[len(record.images)] += 1
        records.append((_characters(record, "human"), _characters(record, "gpt")))
    if not records:
        raise InputError(f"{os.fspath(path)}: holds no usable record ({rejected} rejected)")
    prompts, answers = zip(*records, strict=True)
    return {
        "file": os.fspath(path),
        "records": len(records),
        "rejected": rejected,
        "sources": dict(sources.most_common()),
        "kinds": dict(kinds.most_common()),
        "turns": dict(sorted(turns.items())),
        "pictures": dict(sorted(pictures.items())),
        "prompt_characters": _spread(prompts),
        "answer_characters": _spread(answers),
    }


def judgment_kind(record: Record) -> str:
    """The format in which the record's last answer states a verdict; `NO_VERDICT` for none."""
    answer = record.conversations[-1]["value"]
    for kind, template in _KINDS.items():
        if parse_verdict(answer, template=template).state != "unparsed":
            return kind
    return NO_VERDICT


def _characters(record: Record, speaker: str) -> int:
    return sum(len(turn["value"]) for turn in record.conversations if turn["from"] == speaker)


def _spread(lengths: Sequence[int]) -> dict[str, float]:
    return {
        "minimum": min(lengths),
        "median": float(np.median(lengths)),
        "p95": float(np.percentile(lengths, 95)),
        "maximum": max(lengths),
        "total": sum(lengths),
    }
