"""LLaVA-Critic-113k as published, and how an import of it compares.

The row counts are those of the data set's page; the count of "Final Score" is a user's
(thread 461 of LLaVA-NeXT), the pictures are the "46k" of the project's page.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from critic_jax.data.corpus import Corpus
from critic_jax.progress import progress

ROWS = {"pointwise": 72_782, "pairwise": 40_154}
FINAL_SCORES = 5_277
PICTURES = 46_000


@dataclass(frozen=True)
class Count:
    """One published figure and what an import has; `within` is what rounding leaves open."""

    name: str
    published: int
    found: int
    within: int = 0

    @property
    def agrees(self) -> bool:
        return abs(self.found - self.published) <= self.within


def compare(folder: Path) -> list[Count]:
    """The published figures beside those of an import. Raises InputError where it is none.

    A rejected record is missing from the counts. "Final Score" is looked for in pointwise answers.
    """
    corpus = Corpus(folder)
    configs = corpus.index["config"].to_pylist()
    counts = [
        Count(f"rows, {config}", published, configs.count(config))
        for config, published in ROWS.items()
    ]
    others = sum(config not in ROWS for config in configs)
    counts.append(Count("rows, other", 0, others))
    scores = 0
    pointwise = [number for number, config in enumerate(configs) if config == "pointwise"]
    with progress() as bar:
        for number in bar.track(pointwise, description="reading answers"):
            turns = corpus.example(number)["conversations"]
            scores += b"Final Score" in turns["value"][-1]
    counts.append(Count("answers with Final Score, pointwise", FINAL_SCORES, scores))
    counts.append(Count("pictures (46k)", PICTURES, corpus.summary["pictures"], within=500))
    return counts
