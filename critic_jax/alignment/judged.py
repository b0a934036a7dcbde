"""Rewards by a judge that compares every ordered pair of a prompt's answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from critic_jax.alignment.answers import Answers
from critic_jax.alignment.choice import Rewards
from critic_jax.data import read_json_lines
from critic_jax.errors import InputError
from critic_jax.files import write_json_lines
from critic_jax.hosts import on_first
from critic_jax.judging.batch import judge_file, judgments_folder
from critic_jax.judging.judgment import Judgment
from critic_jax.judging.lines import image_field
from critic_jax.judging.rank import (
    check_relative,
    matrix_rewards,
    place_gains,
    relative_score,
    with_repeats,
)
from critic_jax.judging.templates import get_template

RESULTS = "judgments.jsonl"


@dataclass(frozen=True)
class JudgeRewards:
    """A critic, or with an `endpoint` the model of that name there.

    Equal answers are asked about once. They count as often as they were given: the reward is that
    of all K (K - 1) ordered pairs (LLaVA-Critic, arXiv 2410.02712), as in `rank.Ranking`.
    """

    judge: str
    endpoint: str | None
    template: str
    memory: int | None = None
    any_answer: bool = field(default=True, init=False)

    @property
    def name(self) -> str:
        """The judge, and where it is."""
        return f"{self.judge} at an endpoint" if self.endpoint else self.judge

    def rewards(self, answers: Sequence[Answers], folder: Path) -> list[Rewards]:
        distinct = {one.prompt.id: tuple(dict.fromkeys(one.responses)) for one in answers}
        asked = [one for one in answers if len(distinct[one.prompt.id]) > 1]
        found: dict[str, dict[str, Any]] = {}
        if asked:
            lines = [
                {
                    "id": one.prompt.id,
                    **image_field(one.prompt.images, folder),
                    "question": one.prompt.text,
                    "responses": list(distinct[one.prompt.id]),
                    "template": self.template,
                }
                for one in asked
            ]
            source = folder / "answers.jsonl"
            on_first(lambda: _check(source, lines))
            on_first(partial(write_json_lines, source, lines))
            judge_file(
                self.judge,
                source,
                folder / RESULTS,
                skip_bad=self.endpoint is not None,  # which may refuse some
                cache=judgments_folder(None, False),
                endpoint=self.endpoint,
                memory=self.memory,
            )
            results = on_first(lambda: [one for _, one in read_json_lines(folder / RESULTS)])
            found = {fields["id"]: fields for fields in results}
        return [_rewards(one.responses, found.get(one.prompt.id)) for one in answers]

    def told(self, folder: Path) -> dict[str, Any]:
        said = {"judge": self.judge, "template": self.template}
        if self.endpoint is not None:
            said["endpoint"] = "yes"  # its address may hold a key
        if (folder / RESULTS).exists():
            for _, fields in read_json_lines(folder / RESULTS):
                return said | {"fingerprint": fields["fingerprint"]}
        return said


def _check(path: Path, lines: Sequence[Mapping[str, Any]]) -> None:
    """Raises InputError where what was judged before are other answers: results go by ids alone."""
    if not path.exists():
        return
    before = {fields["id"]: fields for _, fields in read_json_lines(path)}
    for line in lines:
        earlier = before.get(line["id"], line)
        if any(earlier.get(name) != line[name] for name in ("question", "responses", "template")):
            raise InputError(
                f"{path}: holds other answers to prompt {line['id']!r}, or another template, and "
                f"{path.with_name(RESULTS).name} what was said of them; name another output, or "
                "remove this folder"
            )


def _rewards(responses: Sequence[str], result: Mapping[str, Any] | None) -> Rewards:
    """Of answers and the line that judges the distinct ones; None: they were not judged."""
    distinct = tuple(dict.fromkeys(responses))
    if result is None:
        alone = len(distinct) == 1
        return Rewards((0.0 if alone else None,) * len(responses))
    template = get_template(result["template"])
    relative = check_relative(template, None)
    said = {(pair["first"], pair["second"]): _judgment(pair) for pair in result["pairs"]}
    known = {pair: relative_score(one, relative) for pair, one in said.items()}
    places = [distinct.index(text) for text in responses]
    scores = [score for one in said.values() if one.scores for score in one.scores]
    return Rewards(
        matrix_rewards(len(responses), with_repeats(known, places))[0],
        len(known),
        sum(a is None for a in known.values()),
        tuple(place_gains(known)),
        sum(scores) / len(scores) if scores else None,
    )


def _judgment(pair: Mapping[str, Any]) -> Judgment:
    """A pair of a result's line as the judgment that it was."""
    scores = pair.get("scores")
    return Judgment(
        pair["state"],
        None,
        pair.get("verdict"),
        None if scores is None else (scores[0], scores[1]),
        pair.get("reason", ""),
        pair.get("why", ""),
        pair.get("raw", ""),
        "",
        "",
    )
