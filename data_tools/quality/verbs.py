"""`critic-data quality`: its options, no logic."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tyro

from critic_jax.console import show
from critic_jax.errors import InputError
from critic_jax.verbs import Verb


@dataclass(frozen=True)
class QualityOptions:
    """Measure critic records: doubles, overlap with evaluation sets, balance, reasons."""

    files: tyro.conf.Positional[tuple[Path, ...]]
    """JSONL or JSON files of records."""
    against: tuple[Path, ...] = ()
    """Files of evaluation questions, in any layout that critic-data answers reads."""
    page: Path | None = None
    """Write a page of sampled records, with filters."""
    sample: int = 100
    """Records on that page."""
    card: Path | None = None
    """Write a data card in Markdown."""
    seed: int = 0
    """Seed of the sample."""
    json: bool = False
    """Print one JSON document."""


def quality(options: QualityOptions) -> None:
    show(run_quality(options), as_json=options.json)


def run_quality(options: QualityOptions) -> dict[str, Any]:
    """What `critic-data quality` does and tells."""
    from .measure import measure, read_judged
    from .show import summaries, write_card, write_sample

    if not options.files:
        raise InputError("no file of records is named")
    judged, rejected = read_judged(options.files)
    found = measure(judged, rejected, options.against)
    if options.page is not None:
        write_sample(options.page, judged, options.sample, options.seed)
    if options.card is not None:
        write_card(options.card, options.files, found, summaries(options.files))
    return found


VERBS: dict[str, Verb] = {
    "quality": Verb("find doubles, overlap and imbalance of records", QualityOptions, quality)
}
