"""What the sampler is asked: a prompt, how to answer it, and how far the answers are."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from critic_jax.errors import InputError
from critic_jax.sampling.choose import Sampling
from critic_jax.sampling.completion import Answer, Completion
from critic_jax.sampling.guide import Guide
from critic_jax.sampling.trees import identities
from critic_jax.tree import Path


@dataclass(eq=False)
class Request:
    """`n` answers to a prompt.

    identity: what random keys are made from, beside the settings' seed and an answer's number; by
    default `trees.identities` of the prompt alone. watch: called with the request whenever its
    answers have grown, by whoever samples. left: nobody wants the answers any more. error: why
    there are none.
    """

    prompt: Path
    sampling: Sampling
    n: int = 1
    guide: Guide | None = None
    identity: tuple[int, int] | None = None
    watch: Callable[[Request], None] | None = None
    answers: dict[int, Answer] = field(default_factory=dict)
    left: bool = False
    error: Exception | None = None

    def __post_init__(self) -> None:
        if self.identity is None:
            (self.identity,) = identities([self.prompt])

    @property
    def done(self) -> bool:
        """Whether all its answers have ended, one way or another."""
        if self.left or self.error is not None:
            return True
        return self.ended == self.n

    @property
    def ended(self) -> int:
        """How many of its answers have."""
        return sum(answer.finish is not None for answer in self.answers.values())

    def leave(self) -> None:
        """Nobody wants the answers any more; those that are done stay."""
        self.left = True

    def completions(self) -> list[Completion]:
        """Its answers, which are all done, in the order of their numbers. Raises its error."""
        if self.error is not None:
            raise self.error
        asked = len(self.sampling.alternatives)
        return [self.answers[number].completion(asked) for number in range(self.n)]


def requests_of(
    prompts: Sequence[Path],
    sampling: Sampling,
    n: int,
    guides: Sequence[Guide | None] | None,
    watch: Callable[[Request], None] | None = None,
) -> list[Request]:
    """The requests of one call: prompts that are equal get different answers.

    Raises InputError for fewer than one answer to each.
    """
    if n < 1:
        raise InputError(f"n is {n}; it must be at least 1")
    guided = guides or [None] * len(prompts)
    return [
        Request(prompt, sampling, n, guide, identity, watch)
        for prompt, guide, identity in zip(prompts, guided, identities(prompts), strict=True)
    ]
