"""What a judge is asked, and the methods that every judge has. Imports no JAX."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from PIL import Image

from critic_jax.judging.judgment import Judgment, Order
from critic_jax.judging.templates import Template, get_template

Picture = str | os.PathLike[str] | bytes | Image.Image
Pictures = Picture | Sequence[Picture] | None

DEFAULT_POINTWISE = "critic-pointwise"
DEFAULT_PAIRWISE = "critic-pairwise"


@dataclass(frozen=True)
class Ask:
    """One question to the judge: pictures made ready, and the texts that fill the template.

    `visuals` are what the judge's own `visuals` returned; each has a `key`, a hash of its content.
    `texts` are the arguments of `Template.render`; order "ba" shows the second answer first.
    `verdict_only`: no reason is wanted; a critic stops behind the verdict (see `Asking`), another
    judge may go on.
    """

    visuals: tuple[Any, ...]
    template: Template
    texts: dict[str, Any]
    order: Order = "ab"
    verdict_only: bool = False

    def prompt(self) -> str:
        """The user's turn."""
        texts = dict(self.texts)
        if self.order == "ba":
            texts["response_a"], texts["response_b"] = texts["response_b"], texts["response_a"]
        given: dict[str, Any] = {k: v for k, v in texts.items() if v is not None}
        return self.template.render(**given)


class Judge(ABC):
    """The face of a judge: of `Critic`, and of those that are no model of ours.

    `name` and `fingerprint` stand in every judgment; the fingerprint changes with the settings.
    """

    name: str
    fingerprint: str

    @abstractmethod
    def visuals(self, image: Pictures, name: str = "image") -> tuple[Any, ...]:
        """Pictures made ready. Raises InputError for what is no picture; `name` stands for it."""

    @abstractmethod
    def judge(self, asks: Sequence[Ask]) -> list[Judgment]:
        """Judge many at once; results in the order given."""

    @abstractmethod
    def generate(self, image: Pictures, prompt: str, n: int = 1) -> list[str]:
        """`n` answers to a prompt about a picture."""

    def score(
        self,
        image: Pictures,
        question: str,
        response: str,
        *,
        template: str = DEFAULT_POINTWISE,
        reference: str | None = None,
        criteria: str | None = None,
    ) -> Judgment:
        """Score one answer on the template's scale."""
        texts = {"question": question, "response": response}
        return self.judge([self._ask(image, template, texts, reference, criteria)])[0]

    def compare(
        self,
        image: Pictures,
        question: str,
        response_a: str,
        response_b: str,
        *,
        template: str = DEFAULT_PAIRWISE,
        reference: str | None = None,
        criteria: str | None = None,
        order: Order = "ab",
    ) -> Judgment:
        """Which of two answers is better.

        Order "ba" shows b first; the verdict still calls a "A" and b "B".
        """
        texts = {"question": question, "response_a": response_a, "response_b": response_b}
        return self.judge([self._ask(image, template, texts, reference, criteria, order)])[0]

    def _ask(
        self,
        image: Pictures,
        template: str,
        texts: dict[str, str],
        reference: str | None,
        criteria: str | None,
        order: Order = "ab",
    ) -> Ask:
        filled = {**texts, "reference": reference, "criteria": criteria}
        return Ask(self.visuals(image), get_template(template), filled, order)
