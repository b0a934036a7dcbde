"""For tests of programs that use a critic: one that says what the test wants. Imports no JAX."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from hashlib import sha256
from typing import Any

from critic_jax.errors import InputError
from critic_jax.imaging import open_picture
from critic_jax.judging.ask import Ask, Asking, Judge, Pictures, ask_until_read
from critic_jax.judging.judgment import Judgment, winner
from critic_jax.judging.templates import Template


@dataclass(frozen=True)
class FakePicture:
    """A picture of a fake critic: a hash of its pixels."""

    key: str


class FakeCritic(Judge):
    """The face of `Critic` without a model: the same words go in, what you say comes out.

    say: the text of every answer; or the texts one after the other, an InputError when they are
        used up; or a function from the prompt to the text. The texts are read by the real parser,
        so "Score: 70" is a score and "hm" is unparsed. Pictures are opened and checked.
    Of `Asking`, it is asked again and its probabilities are those of one who is certain; nothing
    else changes what it says.
    asked: the prompts so far.
    """

    def __init__(
        self, say: str | Sequence[str] | Callable[[str], str], name: str = "fake-critic"
    ) -> None:
        self.name = name
        self.fingerprint = sha256(name.encode()).hexdigest()[:16]
        self.asked: list[str] = []
        self._say = say

    def visuals(self, image: Pictures, name: str = "image") -> tuple[FakePicture, ...]:
        if image is None:
            return ()
        sources: Sequence[Any] = image if isinstance(image, list | tuple) else [image]
        pictures = [open_picture(s, name if isinstance(s, bytes) else None) for s in sources]
        return tuple(FakePicture(sha256(p.tobytes()).hexdigest()) for p in pictures)

    def judge(
        self,
        asks: Sequence[Ask],
        asking: Asking = Asking(),  # noqa: B008 (frozen)
    ) -> list[Judgment]:
        found = []
        for ask in asks:
            say = partial(self._say_whole, ask.prompt())
            one = ask_until_read(ask, self.name, asking.reasks, say)
            certain = _certain(one, ask.template) if asking.probabilities else None
            found.append(replace(one, probabilities=certain))
        return found

    def generate(self, image: Pictures, prompt: str, n: int = 1, **settings: object) -> list[str]:
        """`n` answers; settings of the sampler are taken and change nothing."""
        self.visuals(image)
        return [self._answer(prompt) for _ in range(n)]

    def _say_whole(self, prompt: str, _attempt: int) -> tuple[str, bool]:
        return self._answer(prompt), True

    def _answer(self, prompt: str) -> str:
        self.asked.append(prompt)
        if callable(self._say):
            return self._say(prompt)
        if isinstance(self._say, str):
            return self._say
        if len(self.asked) > len(self._say):
            raise InputError(
                f"{self.name}: asked {len(self.asked)} times, but given {len(self._say)} texts"
            )
        return self._say[len(self.asked) - 1]


def _certain(one: Judgment, template: Template) -> dict[str, float] | None:
    """The reading of a judge to whom nothing but its verdict is possible."""
    sure = {"valid": 1.0, "known": 1.0}
    if one.score is not None:
        return {"expected": one.score} | sure
    side = winner(one.verdict)
    if template.kind != "pairwise" or side is None:
        return None
    read = {"preference": {"A": 1.0, "tie": 0.5, "B": 0.0}[side]} | sure
    if one.scores is not None:
        return {"expected_a": one.scores[0], "expected_b": one.scores[1]} | read
    return {name: float(name == side) for name in ("A", "B", "tie")} | read
