"""For tests of programs that use a critic: one that says what the test wants. Imports no JAX."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

from critic_jax.errors import InputError
from critic_jax.imaging import open_picture
from critic_jax.judging.ask import Ask, Judge, Pictures
from critic_jax.judging.judgment import Judgment, judgment
from critic_jax.judging.verdicts import parse_verdict


@dataclass(frozen=True)
class FakePicture:
    """A picture of a fake critic: a hash of its pixels."""

    key: str


class FakeCritic(Judge):
    """The face of `Critic` without a model: the same words go in, what you say comes out.

    say: the text of every answer; or the texts one after the other, an InputError when they are
        used up; or a function from the prompt to the text. The texts are read by the real parser,
        so "Score: 70" is a score and "hm" is unparsed. Pictures are opened and checked.
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

    def judge(self, asks: Sequence[Ask]) -> list[Judgment]:
        verdicts = [parse_verdict(self._answer(ask.prompt()), ask.template) for ask in asks]
        return [
            judgment(verdict, ask.template.name, self.name, ask.order)
            for ask, verdict in zip(asks, verdicts, strict=True)
        ]

    def generate(self, image: Pictures, prompt: str, n: int = 1, **settings: object) -> list[str]:
        """`n` answers; settings of the sampler are taken and change nothing."""
        self.visuals(image)
        return [self._answer(prompt) for _ in range(n)]

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
