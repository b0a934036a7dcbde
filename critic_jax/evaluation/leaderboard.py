"""A leaderboard of models from battles, counted as WildVision-Bench counts its own.

Facts from show_results.py of WildVision-Bench (github.com/WildVision-AI/WildVision-Bench).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from critic_jax.data import read_json_lines
from critic_jax.errors import InputError
from critic_jax.evaluation.bradley_terry import Array, scores, win_probability
from critic_jax.evaluation.statistics import DEFAULT, Bootstrap
from critic_jax.judging.judgment import swapped
from critic_jax.progress import progress

REWARDS = {"A>>B": 100.0, "A>B": 50.0, "A=B": 0.0, "B>A": -50.0, "B>>A": -100.0}
"""What a verdict gives to model A; B gets the opposite. A missing one counts as a tie."""

STRONG = 3
"""How many battles a strong preference counts for in the fit."""

_NAMES = {
    "much_better": "A>>B",
    "better": "A>B",
    "tie": "A=B",
    "worse": "B>A",
    "much_worse": "B>>A",
}
_PLAIN = {"A": "A>B", "B": "B>A", "tie": "A=B"}


@dataclass(frozen=True)
class Battle:
    """One vote on two models' answers to one question; None for a verdict that is missing."""

    question_id: str
    model_a: str
    model_b: str
    verdict: str | None


def read_battles(path: Path) -> list[Battle]:
    """Battles, one a line: question_id, model_a, model_b and verdict, which is one of A>>B, A>B,
    A=B, B>A, B>>A or null. A, B and tie, as judges without strength say, are A>B, B>A and A=B.

    Or the verdict files of WildVision-Bench, one of them or their folder: lines of question_id,
    model and games, beside the reference model that the folder's name ends in.

    Raises InputError for a file that is missing, is empty or holds something else.
    """
    battles: list[Battle] = []
    for file in sorted(path.glob("*.jsonl")) if path.is_dir() else [path]:
        for number, fields in read_json_lines(file):
            where = f"{file} line {number}"
            if "games" in fields:
                battles += _published(fields, file, where)
            else:
                battles.append(_battle(fields, where))
    if not battles:
        raise InputError(f"{path}: holds no battles")
    return battles


def _battle(fields: Mapping[str, Any], where: str) -> Battle:
    for name in ("question_id", "model_a", "model_b", "verdict"):
        if name not in fields:
            raise InputError(
                f"{where}: field '{name}' is missing; "
                "a battle holds question_id, model_a, model_b and verdict"
            )
    for name in ("model_a", "model_b"):
        if not isinstance(fields[name], str) or not fields[name]:
            raise InputError(f"{where}: field '{name}' should be a model's name")
    said = fields["verdict"]
    verdict = _PLAIN.get(said, said) if isinstance(said, str) else said
    if verdict is not None and verdict not in (*REWARDS,):
        raise InputError(
            f"{where}: field 'verdict' is {said!r}; it should be one of {' '.join(REWARDS)} or null"
        )
    return Battle(str(fields["question_id"]), fields["model_a"], fields["model_b"], verdict)


def _published(fields: Mapping[str, Any], file: Path, where: str) -> list[Battle]:
    """A line of WildVision-Bench: in its first game the reference is A, in a second one B. What is
    no label there, such as a text without one, is a verdict that is missing."""
    found = re.search(r"_reference_(.+)$", file.parent.name)
    if found is None:
        raise InputError(
            f"{file}: lies in {file.parent.name!r}; the folder of WildVision-Bench's verdicts is "
            "named judge_JUDGE_reference_MODEL"
        )
    model, games = fields.get("model"), fields["games"]
    if not isinstance(model, str) or not model or "question_id" not in fields:
        raise InputError(f"{where}: field 'model' or 'question_id' is missing")
    if not isinstance(games, list) or not all(isinstance(game, dict) for game in games):
        raise InputError(f"{where}: field 'games' should be a list of objects with score")
    battles = []
    for number, game in enumerate(games):
        a, b = (model, found.group(1)) if number else (found.group(1), model)
        score = game.get("score")
        verdict = score if isinstance(score, str) and score in REWARDS else None
        battles.append(Battle(str(fields["question_id"]), a, b, verdict))
    return battles


def leaderboard(
    battles: Sequence[Battle], anchor: str, bootstrap: Bootstrap = DEFAULT
) -> list[dict[str, Any]]:
    """Rows of models, the best score first.

    score: the probability of winning against the anchor, in percent, by Bradley-Terry: a strong
        preference counts three times, a tie as one win each way beside two for a win, a missing
        verdict not at all; None where nothing leads from one to the other.
    elo: the same on the scale of Elo, the anchor at 1000; None where it is infinite.
    interval: of the score, drawing battles anew.
    win_rate: share of the model's votes with a reward above 0. reward: the mean of 100, 50, 0, -50
        and -100. A missing verdict is a vote, and counts there as a tie.
    votes: how many there are; `counts` by kind, `missing` among the ties.
    Raises InputError where the anchor fought no battle.
    """
    names = sorted({name for b in battles for name in (b.model_a, b.model_b)})
    if anchor not in names:
        raise InputError(f"anchor {anchor!r} is in no battle; the models are {', '.join(names)}")
    number = {name: n for n, name in enumerate(names)}
    a = np.array([number[b.model_a] for b in battles])
    b = np.array([number[b.model_b] for b in battles])
    won, lost = (np.array([_points(x.verdict)[side] for x in battles]) for side in (0, 1))

    def fitted(of: Array) -> Array:
        wins = np.zeros((len(names), len(names)))
        np.add.at(wins, (a[of], b[of]), won[of])
        np.add.at(wins, (b[of], a[of]), lost[of])
        np.fill_diagonal(wins, 0.0)  # a model beside itself tells nothing
        return scores(wins, number[anchor])

    elo = fitted(np.arange(len(battles)))
    score = 100.0 * win_probability(elo)
    draw = np.random.default_rng(bootstrap.seed)
    again = np.empty((bootstrap.resamples, len(names)))
    with progress() as bar:
        for n in bar.track(range(bootstrap.resamples), description="resampling"):
            drawn = draw.integers(0, len(battles), len(battles))
            again[n] = 100.0 * win_probability(fitted(drawn))
    rows = []
    for n, name in enumerate(names):
        ends = bootstrap.ends(again[:, n]) if bootstrap.resamples else None
        row: dict[str, Any] = {
            "model": name,
            "score": float(score[n]) if np.isfinite(score[n]) else None,
            "elo": float(elo[n]) if np.isfinite(elo[n]) else None,
            "interval": None if ends is None else list(ends),
        }
        rows.append(row | _votes(battles, name))
    return sorted(rows, key=lambda row: -(row["score"] if row["score"] is not None else -1.0))


def _points(verdict: str | None) -> tuple[float, float]:
    """What a battle adds to A's wins over B and to B's over A."""
    if verdict is None:
        return 0.0, 0.0
    if verdict == "A=B":
        return 1.0, 1.0
    weight = 2.0 * (STRONG if ">>" in verdict else 1)
    return (weight, 0.0) if verdict[0] == "A" else (0.0, weight)


def _votes(battles: Sequence[Battle], name: str) -> dict[str, Any]:
    """The votes on one model's answers; one beside itself is a vote on it as model B."""
    said = [
        None if b.verdict is None else swapped(b.verdict) if b.model_b == name else b.verdict
        for b in battles
        if name in (b.model_a, b.model_b)
    ]
    rewards = [REWARDS[verdict or "A=B"] for verdict in said]
    counts = {kind: sum(v == verdict for v in said) for kind, verdict in _NAMES.items()}
    missing = said.count(None)
    counts["tie"] += missing
    return {
        "win_rate": sum(reward > 0 for reward in rewards) / len(said),
        "reward": sum(rewards) / len(said),
        "votes": len(said),
        "counts": counts | {"missing": missing},
    }
