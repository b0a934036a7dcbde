"""From options to the one source of rewards that they ask for."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from critic_jax.alignment.answers import RewardSource
from critic_jax.alignment.function import FunctionRewards
from critic_jax.alignment.given import PreferenceFile, ScoreFile
from critic_jax.alignment.judged import JudgeRewards
from critic_jax.checkpoints.store import find_model
from critic_jax.errors import InputError
from critic_jax.judging.rank import DEFAULT_RANKING, check_relative
from critic_jax.judging.templates import get_template


@dataclass(frozen=True)
class Wish:
    """Which source is wanted: one of judge (at an endpoint, if one is named), scores, preferences
    and reward_function. memory: bytes, for a judge of ours.
    """

    judge: str = ""
    endpoint: str = ""
    template: str = DEFAULT_RANKING
    scores: str = ""
    preferences: str = ""
    reward_function: str = ""
    memory: int | None = None


def make_source(wish: Wish) -> RewardSource:
    """The source that is wished for. Raises InputError unless it is one, and one that works."""
    named = ("judge", "scores", "preferences", "reward_function")
    given = [name for name in named if getattr(wish, name)]
    if len(given) != 1:
        said = " and ".join(given) if given else "none of them"
        raise InputError(f"what is an answer worth? Give one of {', '.join(named)}, not {said}")
    if wish.endpoint and not wish.judge:
        raise InputError(f"endpoint {wish.endpoint}: give the name of its model as judge")
    if wish.scores:
        return ScoreFile(Path(wish.scores))
    if wish.preferences:
        return PreferenceFile(Path(wish.preferences))
    if wish.reward_function:
        return FunctionRewards(wish.reward_function)
    check_relative(get_template(wish.template), None)
    if not wish.endpoint:
        find_model(wish.judge)  # now, and not after hours of sampling
    return JudgeRewards(wish.judge, wish.endpoint or None, wish.template, wish.memory)
