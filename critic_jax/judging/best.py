"""The best of several answers to a prompt, as a judge ranks them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from critic_jax.judging.ask import pair_asks
from critic_jax.judging.critic import Critic
from critic_jax.judging.judgment import Judgment
from critic_jax.judging.rank import DEFAULT_RANKING, ordered_pairs
from critic_jax.judging.rank_lines import rank_fields
from critic_jax.judging.templates import get_template

PROMPTS = 8
"""Prompts whose answers are ranked at a time: for 5 answers, 160 questions."""


@dataclass(frozen=True)
class Candidates:
    """A prompt, its pictures, and the answers to choose from."""

    images: tuple[Path | bytes, ...]
    text: str
    responses: tuple[str, ...]


def choose_best(critic: Critic, candidates: Sequence[Candidates]) -> Iterator[dict[str, Any]]:
    """Rank the answers to each prompt: yields the fields for its line, in the order given.

    `state` (value, tie or unparsed), and unless it is unparsed `best` (a place in `responses`, the
    first of equals), `response` (that answer) and `rewards` (one for each answer); `judge` and
    `judge_fingerprint`; `judgments` and `unparsed`, how many were asked and how many of them held
    no verdict. Equal answers are asked about once and share their reward.
    """
    for at in range(0, len(candidates), PROMPTS):
        yield from _ranked(critic, candidates[at : at + PROMPTS])


def _ranked(critic: Critic, candidates: Sequence[Candidates]) -> list[dict[str, Any]]:
    distinct = [tuple(dict.fromkeys(one.responses)) for one in candidates]
    template = get_template(DEFAULT_RANKING)
    asks = [
        pair_asks(
            critic.visuals(list(one.images) or None, "field 'image'"),
            template,
            {"question": one.text},
            answers,
            ordered_pairs(len(answers)) if len(answers) > 1 else [],
        )
        for one, answers in zip(candidates, distinct, strict=True)
    ]
    judged = iter(critic.judge([ask for of_one in asks for ask in of_one]))
    return [
        {
            **_fields(one, answers, [next(judged) for _ in of_one]),
            "judge": critic.name,
            "judge_fingerprint": critic.fingerprint,
        }
        for one, answers, of_one in zip(candidates, distinct, asks, strict=True)
    ]


def _fields(
    one: Candidates, answers: Sequence[str], judgments: Sequence[Judgment]
) -> dict[str, Any]:
    asked = {
        "judgments": len(judgments),
        "unparsed": sum(judgment.state == "unparsed" for judgment in judgments),
    }
    if len(answers) == 1:  # nothing to choose
        rewards, best = dict.fromkeys(answers, 0.0), answers[0]
        fields: dict[str, Any] = {"state": "tie"}
    else:
        found = rank_fields(judgments, len(answers))
        fields = {"state": found["state"]}
        if found["state"] == "unparsed":
            return fields | asked
        rewards = dict(zip(answers, found["rewards"], strict=True))
        best = answers[found["ranking"][0]]
    return {
        **fields,
        "best": one.responses.index(best),
        "response": best,
        "rewards": [rewards[text] for text in one.responses],
        **asked,
    }
