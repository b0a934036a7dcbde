"""An answer: while it is being sampled, and when it is done."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

Decode = Callable[[list[int]], str]
"""Ids to text."""


Likeliest = tuple[tuple[int, float], ...]
"""Ids and log-probabilities, the likeliest first."""


@dataclass(frozen=True)
class Completion:
    """One sampled answer: tokens without the stop token, their log-probabilities, why it ended.

    An answer that ended at a stop string has no token that holds any of it. alternatives: float32
    [steps, A], at each step the log-probabilities of the ids that `Sampling.alternatives` names,
    under the model alone: before temperature, penalty, cuts or a guide. The step that chose the
    stop token, or the first of a stop string's, is one of them. likeliest: at each step (id,
    log-probability) of the likeliest tokens, as many as `Sampling.likeliest` wants.
    """

    tokens: tuple[int, ...]
    logprobs: tuple[float, ...]
    finish: str  # "stop" | "length" | "left"
    alternatives: np.ndarray = field(
        default_factory=lambda: np.zeros((0, 0), np.float32), compare=False
    )
    likeliest: tuple[Likeliest, ...] = field(default=(), compare=False)


@dataclass
class Answer:
    """One that is being sampled, step by step."""

    limit: int
    stop_ids: frozenset[int]
    tokens: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    alternatives: list[np.ndarray] = field(default_factory=list)
    likeliest: list[Likeliest] = field(default_factory=list)
    finish: str | None = None

    def add(
        self, token: int, logprob: float, alternatives: np.ndarray, likeliest: Likeliest = ()
    ) -> None:
        """The next step's choice; nothing where the answer has ended."""
        if self.finish is not None:
            return
        self.alternatives.append(alternatives)
        self.likeliest.append(likeliest)
        if token in self.stop_ids:
            self.finish = "stop"
            return
        self.tokens.append(token)
        self.logprobs.append(logprob)
        if len(self.tokens) == self.limit:
            self.finish = "length"

    def look_for(self, stops: Sequence[str], decode: Decode) -> None:
        """End the answer where the first stop string begins, if one has come to be in it."""
        text = decode(self.tokens)
        found = [at for at in map(text.find, stops) if at >= 0]
        if not found:
            return
        kept = len(self.tokens)
        while kept and len(decode(self.tokens[:kept])) > min(found):
            kept -= 1
        del self.tokens[kept:], self.logprobs[kept:]
        del self.alternatives[kept + 1 :], self.likeliest[kept + 1 :]
        self.finish = "stop"

    def completion(self, alternatives: int) -> Completion:
        """The answer that is done, with the first of the `alternatives` that were worked out."""
        assert self.finish is not None
        rows = np.asarray(self.alternatives, np.float32)[:, :alternatives]
        tokens, logprobs = tuple(self.tokens), tuple(self.logprobs)
        return Completion(tokens, logprobs, self.finish, rows, tuple(self.likeliest))
