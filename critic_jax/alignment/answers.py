"""What an answer is worth: a critic's judgment, or something else behind the same small face."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from critic_jax.alignment.choice import Rewards
from critic_jax.judging.prompts import Prompt


@dataclass(frozen=True)
class Answers:
    """A prompt and the answers to it."""

    prompt: Prompt
    responses: tuple[str, ...]


class RewardSource(Protocol):
    """Gives answers their rewards."""

    @property
    def name(self) -> str:
        """What it is, in words."""

    @property
    def any_answer(self) -> bool:
        """Whether it can tell of answers that nobody has seen yet."""

    def rewards(self, answers: Sequence[Answers], folder: Path) -> list[Rewards]:
        """Of the answers to each prompt, in the order given; several processes all ask.

        folder: for what it wants to keep; a call that was killed goes on from there. Raises
        InputError for answers that it cannot tell of.
        """

    def told(self, folder: Path) -> dict[str, Any]:
        """What a manifest says of it, once `rewards` is done there."""
