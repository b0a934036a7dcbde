"""The stage between rollouts and training: answers in, preference pairs out."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from critic_jax.alignment.answers import Answers, RewardSource
from critic_jax.alignment.choice import Choice, Drop, Limits, Rewards, choose, counted
from critic_jax.alignment.given import GivenFile
from critic_jax.data import read_json_lines
from critic_jax.data.records import shown
from critic_jax.errors import InputError
from critic_jax.files import write_json, write_json_lines
from critic_jax.hosts import on_first
from critic_jax.judging.lines import image_field
from critic_jax.judging.prompts import Prompt, read_prompts


def pairs_file(
    input: Path, rollouts: Path, output: Path, source: RewardSource, limits: Limits
) -> dict[str, Any]:
    """Make pairs of the `rollouts` of the prompts in `input`; returns the summary.

    Beside `output` stand `dropped.jsonl` (prompts that gave no pair, why, and their rewards),
    `summary.json`, and `judged/` with what the source keeps; a call that was killed goes on from
    there. On several processes all call this, and the first reads and writes. Raises InputError for
    a wrong line, and for an output that is a folder or one of the files that are read.
    """
    read = [input, rollouts, *([source.path] if isinstance(source, GivenFile) else [])]
    if output.absolute() in (path.absolute() for path in read):
        raise InputError(f"{output}: is read, and would be written over; name another output")
    if output.is_dir():
        raise InputError(f"{output}: a folder; the output is a file of pairs")
    answers = on_first(lambda: read_rollouts(rollouts, read_prompts(input)[0]))
    folder = output.parent / "judged"
    rewards = source.rewards(answers, folder)
    found = [choose(o.responses, r, limits) for o, r in zip(answers, rewards, strict=True)]
    pairs, dropped = [], []
    for one, worth, choice in zip(answers, rewards, found, strict=True):
        if isinstance(choice, Choice):
            pairs.append(_pair(one, worth, choice, output.parent))
        else:
            said = {"id": one.prompt.id, "why": choice, "rewards": list(worth.values)}
            dropped.append(said)

    def write() -> dict[str, Any]:
        write_json_lines(output.with_name("dropped.jsonl"), dropped)
        write_json_lines(output, pairs)
        summary = {"source": source.told(folder), **summarise(answers, rewards, found)}
        write_json(output.with_name("summary.json"), summary)
        return summary

    return on_first(write)


def read_rollouts(path: Path, prompts: Sequence[Prompt]) -> list[Answers]:
    """The answers to prompts, in the order of the file, which `critic-jax rollout` wrote.

    Raises InputError for a line that is not about one of the prompts, or has no two answers.
    """
    of_id = {prompt.id: prompt for prompt in prompts}
    answers: list[Answers] = []
    seen: set[str] = set()
    for number, fields in read_json_lines(path):
        where, name = f"{path} line {number}", fields.get("id")
        prompt = of_id.get(name) if isinstance(name, str) else None
        if prompt is None or fields.get("prompt") != prompt.text:
            raise InputError(
                f"{where}: is no answer to a prompt of the input (id {shown(name)}); "
                "give the file of prompts that the answers were made of"
            )
        if prompt.id in seen:
            raise InputError(f"{where}: id {name!r} is taken by an earlier line")
        responses = fields.get("responses")
        if not isinstance(responses, list) or not all(isinstance(r, str) for r in responses):
            raise InputError(f"{where}: field 'responses' should be a list of texts")
        if len(responses) < 2:
            raise InputError(f"{where}: field 'responses' should hold two answers or more")
        seen.add(prompt.id)
        answers.append(Answers(prompt, tuple(responses)))
    return answers


def summarise(
    answers: Sequence[Answers], rewards: Sequence[Rewards], found: Sequence[Choice | Drop]
) -> dict[str, Any]:
    """Counts, drops by reason, margins, position bias, and what an answer was given on average.

    position_bias: what an answer gains by being shown first, in units of relative scores.
    """
    margins = sorted(one.margin for one in found if isinstance(one, Choice))
    gains = [gain for one in rewards for gain in one.place_gains]
    levels = [one.level for one in rewards if one.level is not None]
    asked, unparsed = sum(one.asked for one in rewards), sum(one.unparsed for one in rewards)
    return {
        "prompts": len(answers),
        "answers": sum(len(one.responses) for one in answers),
        "distinct_answers": sum(len(set(one.responses)) for one in answers),
        "judgments": asked,
        "unparsed_rate": unparsed / asked if asked else None,
        "pairs": len(margins),
        "dropped": counted(found),
        "margin_mean": _mean(margins),
        "margin_least": margins[0] if margins else None,
        "margin_most": margins[-1] if margins else None,
        "position_bias": _mean(gains),
        "score_mean": _mean(levels),
    }


def _mean(values: Sequence[float]) -> float | None:
    return math.fsum(values) / len(values) if values else None


def _pair(one: Answers, rewards: Rewards, choice: Choice, folder: Path) -> dict[str, Any]:
    return {
        "id": one.prompt.id,
        **image_field(one.prompt.images, folder),
        "prompt": one.prompt.text,
        "chosen": one.responses[choice.chosen],
        "rejected": one.responses[choice.rejected],
        "rewards": {
            "chosen": rewards.values[choice.chosen],
            "rejected": rewards.values[choice.rejected],
        },
    }
