"""Answers of the policy before and after, held against each other."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from critic_jax.alignment.answers import Answers, RewardSource
from critic_jax.alignment.choice import EQUAL, Rewards
from critic_jax.data import read_json_lines
from critic_jax.files import write_json_lines
from critic_jax.hosts import on_first
from critic_jax.judging.lines import image_field
from critic_jax.judging.prompts import Prompt, read_prompts

Outcome = str
"""won, lost or tie, as the later answer did; unknown where a reward is missing."""


def write_examples(prompts: Sequence[Prompt], count: int, path: Path) -> Path:
    """A file of `count` of the prompts, evenly spread; of all, where there are no more."""
    every = max(1.0, len(prompts) / count)
    chosen = [prompts[math.floor(n * every)] for n in range(min(count, len(prompts)))]
    lines = [
        {"id": one.id, **image_field(one.images, path.parent), "prompt": one.text} for one in chosen
    ]
    return write_json_lines(path, lines)


def compare_files(
    examples: Path, before: Path, after: Path, output: Path, source: RewardSource, folder: Path
) -> dict[str, Any]:
    """Which answers are better, those in `after` or those in `before`, by the source's rewards.

    `output` gets a line for each prompt: its id, both answers, the outcome for the later one.
    Returns how many were won, lost, tied or not known, and the share won, a tie being half of one.
    folder: for what the source keeps. On several processes all call this, and the first reads and
    writes.
    """

    def read() -> list[Answers]:
        said = [
            {fields["id"]: fields["responses"][0] for _, fields in read_json_lines(path)}
            for path in (before, after)
        ]
        return [
            Answers(prompt, (said[0][prompt.id], said[1][prompt.id]))
            for prompt in read_prompts(examples)[0]
        ]

    both = on_first(read)
    outcomes = [_outcome(rewards) for rewards in source.rewards(both, folder)]
    lines = [
        {
            "id": one.prompt.id,
            **image_field(one.prompt.images, output.parent),
            "prompt": one.prompt.text,
            "before": one.responses[0],
            "after": one.responses[1],
            "outcome": outcome,
        }
        for one, outcome in zip(both, outcomes, strict=True)
    ]
    on_first(partial(write_json_lines, output, lines))
    counts = {name: outcomes.count(name) for name in ("won", "lost", "tie", "unknown")}
    known = len(outcomes) - counts["unknown"]
    rate = (counts["won"] + counts["tie"] / 2) / known if known else None
    return {"prompts": len(both), **counts, "win_rate": rate}


def _outcome(rewards: Rewards) -> Outcome:
    before, after = rewards.values
    if before is None or after is None:
        return "unknown"
    if abs(after - before) <= EQUAL:
        return "tie"
    return "won" if after > before else "lost"
