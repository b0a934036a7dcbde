"""The page of a data set: what it is made of, as plots and tables."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from critic_jax.reporting import Html, Page, bar_plot, facts, histogram, section, table

from .statistics import Columns, scores_by_scale

_LARGEST = 12  # bars of a plot; the table below has all

# Key of the statistics -> its heading and what one line of it is.
_TABLES = (
    ("tasks", "By evaluation task", "task"),
    ("templates", "By template", "template"),
    ("kinds", "By kind of verdict", "kind"),
    ("sources", "By source", "source"),
    ("domains", "By domain", "domain"),
    ("response_models", "By response model", "model"),
    ("configs", "By config", "config"),
    ("verdicts", "Verdicts on two answers", "verdict"),
)
_LENGTHS = (
    ("prompt_characters", "Prompts", "characters"),
    ("answer_characters", "Judgments", "characters"),
    ("text_tokens", "Text", "tokens"),
    ("picture_tokens", "Pictures of a record", "tokens"),
    ("tiles", "Pictures of a record", "tiles"),
)


def write_page(path: Path, found: Columns, summary: Mapping[str, Any]) -> Path:
    """Write the page of `statistics` and the columns that they count. Returns the path."""
    page = Page(f"Critic data: {Path(summary['file']).name}", str(summary["file"]))
    per_picture = _per_picture(found)
    shared = sum(per_picture) / len(per_picture) if per_picture else None
    page.add(
        facts(
            [
                ("records", summary["records"], "judgments that can be trained on"),
                ("rejected", summary["rejected"], "told one by one in rejected.jsonl of an import"),
                ("pictures", summary["distinct_pictures"], "different ones"),
                ("judgments a picture", shared, "those share their trunk in training"),
            ]
        )
    )
    for key, heading, what in _TABLES:
        counts: dict[str, int] = summary[key]
        if counts and set(counts) != {"(none)"}:
            page.add(section(heading, _bars(counts, heading, what), _table(counts, what)))
    scores = scores_by_scale(found)
    if scores:
        plots = [
            histogram({"scores": values}, f"Scores {scale}", f"score {scale}", "records")
            for scale, values in scores.items()
        ]
        page.add(section("Scores of single answers", *plots))
    page.add(section("Lengths", *_lengths(found, summary), *_per_picture_plot(per_picture)))
    return page.write(path)


def _bars(counts: Mapping[str, int], title: str, what: str) -> Html:
    largest = list(counts.items())[:_LARGEST]
    labels = [name for name, _ in largest]
    return bar_plot(labels, {"records": [n for _, n in largest]}, title, what, "records")


def _table(counts: Mapping[str, int], what: str) -> Html:
    total = sum(counts.values())
    rows = [(name, n, f"{100 * n / total:.1f} %") for name, n in counts.items()]
    return table((what, "records", "share"), rows)


def _lengths(found: Columns, summary: Mapping[str, Any]) -> list[Html]:
    pieces, rows = [], []
    for key, name, unit in _LENGTHS:
        values = [float(v) for v in found.get(key, ()) if v is not None]
        if values:
            pieces.append(histogram({"records": values}, f"{name}, {unit}", unit, "records"))
            spread = summary[key]
            rows.append((f"{name}, {unit}", *(spread[n] for n in _SPREAD)))
    return [*pieces, table(("length", *_SPREAD), rows)]


_SPREAD = ("minimum", "median", "p95", "maximum", "total")


def _per_picture(found: Columns) -> Sequence[int]:
    """How many records each picture, or set of pictures, has."""
    return list(Counter(tuple(p) for p in found["pictures"] if p).values())


def _per_picture_plot(per_picture: Sequence[int]) -> list[Html]:
    if not per_picture:
        return []
    values = [float(n) for n in per_picture]
    return [histogram({"pictures": values}, "Judgments a picture", "judgments", "pictures")]
