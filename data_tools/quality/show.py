"""A set to look at: a page of sampled records, and a data card."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from critic_jax.errors import InputError
from critic_jax.files import write_atomically
from critic_jax.reporting import Card, Page, Ruling, deck, facts, histogram, section

from ..making.annotator import SUMMARY
from ..making.draw import shuffled
from .measure import Judged

_FILTERS = 8
"""Buttons of a group of filters; what is rarer is found by the search."""


def write_sample(path: Path, judged: Sequence[Judged], count: int, seed: int) -> Path:
    """Write a page of `count` records, drawn; with filters by source, kind and verdict."""
    if count < 1:
        raise InputError(f"--sample is {count}; it must be at least 1")
    drawn = shuffled(judged, seed, "sample")[:count]
    cards = [_card(one) for one in drawn]
    groups = [
        [one.record.source or "(none)" for one in drawn],
        [one.about.kind for one in drawn],
        [_verdict(one) for one in drawn],
    ]
    filters = [[tag for tag, _ in Counter(group).most_common(_FILTERS)] for group in groups]
    page = Page("A sample of critic data", f"{len(drawn):,} of {len(judged):,} records")
    lengths = [float(len(one.reason.split())) for one in judged]
    page.add(
        facts([("records", len(judged), "in the set"), ("shown", len(drawn), "drawn by seed")]),
        section("Reasons", histogram({"records": lengths}, "Words", "words", "records")),
        section("Records", deck(cards, filters)),
    )
    return page.write(path)


def _card(one: Judged) -> Card:
    images = one.record.images
    picture = None if not images else images[0] if len(images) == 1 else tuple(images)
    return Card(
        picture,
        one.prompt.replace("<image>\n", ""),
        (),
        (Ruling(_verdict(one), one.reason, one.answer),),
        tags=(one.record.source or "(none)", one.about.kind, _verdict(one)),
        name=one.record.id,
    )


def _verdict(one: Judged) -> str:
    if one.about.verdict is not None:
        return one.about.verdict
    return "none" if one.about.score is None else f"{one.about.score:g} of {one.about.scale:g}"


def summaries(paths: Sequence[Path]) -> list[Mapping[str, Any]]:
    """What the making of these files left beside them, where they were made here."""
    found: list[Mapping[str, Any]] = []
    for path in paths:
        beside = path.parent / SUMMARY
        if not beside.is_file():
            continue
        try:
            summary = json.loads(beside.read_text(encoding="utf-8"))
        except ValueError:
            continue
        if isinstance(summary, dict) and "annotator" in summary:
            found.append(summary)
    return found


def write_card(
    path: Path,
    paths: Sequence[Path],
    measured: Mapping[str, Any],
    made: Sequence[Mapping[str, Any]],
) -> Path:
    """Write a data card in Markdown: what the set is, how it was made, what was measured of it."""
    lines = [
        "# Critic data",
        "",
        f"{measured['records']:,} judgments of answers about {measured['pictures']:,} pictures, "
        "each with its reason, in the fields of LLaVA-Critic-113k: `id`, `source`, "
        "`conversations`, `image`.",
        "",
        "## Files",
        "",
        *(f"- `{one.parent.name}/{one.name}`" for one in paths),
        "",
        "## How it was made",
        "",
    ]
    for summary in made:
        lines.append(
            f"- {summary['records']:,} judgments by `{summary['annotator']}`; "
            f"{summary['rejected']:,} were left out because their verdict could not be read or "
            "went against what is known."
        )
        if itself := summary.get("agreement_with_itself"):
            lines.append(
                f"  Asked twice, the annotator agreed with itself so far: {_told(itself)}."
            )
        if summary.get("held_back"):
            lines.append(f"  {summary['held_back']:,} more were held back to measure agreement.")
    if not made:
        lines.append("Nothing beside the files tells how they were made.")
    lines += ["", "## Composition", "", *_rows("source", measured["sources"])]
    if measured["labels"]:
        lines += ["", *_rows("verdict", measured["labels"])]
    lines += ["", "## Quality", ""]
    for name in ("doubles", "position", "reasons", "overlap"):
        figures = {
            key: value
            for key, value in measured.get(name, {}).items()
            if not isinstance(value, list)
        }
        if figures:
            lines.append(f"- {name}: {_told(figures)}")
    for scale, figures in measured["scores"].items():
        lines.append(f"- scores {scale}: {_told(figures)}")
    if "overlap" not in measured:
        lines.append("- overlap with evaluation sets: not measured")
    lines += [
        "",
        "## Licence and limits",
        "",
        "The licences of pictures, questions and answers are those of their sources; the terms of "
        "the annotator's provider hold for its texts. The reasons are a model's words: they may be "
        "wrong where the verdict is right.",
        "",
    ]
    return write_atomically(path, "\n".join(lines))


def _rows(what: str, counts: Mapping[str, int]) -> list[str]:
    total = sum(counts.values())
    rows = [f"| {name} | {n:,} | {100 * n / total:.1f} % |" for name, n in counts.items()]
    return [f"| {what} | records | share |", "|---|---|---|", *rows]


def _told(figures: Mapping[str, Any]) -> str:
    def said(value: Any) -> str:
        return f"{value:.3g}" if isinstance(value, float) else f"{value}"

    return ", ".join(f"{name.replace('_', ' ')} {said(v)}" for name, v in figures.items())
