"""What a judge is asked, and the methods that every judge has. Imports no JAX."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, get_args

from PIL import Image

from critic_jax.errors import InputError
from critic_jax.judging.both_orders import BothOrders
from critic_jax.judging.formats import TwoScoreFormat
from critic_jax.judging.judgment import Judgment, Order, judgment
from critic_jax.judging.rank import (
    DEFAULT_RANKING,
    Ranking,
    Relative,
    check_relative,
    ordered_pairs,
    ranking,
)
from critic_jax.judging.templates import Template, get_template
from critic_jax.judging.verdicts import parse_verdict

Picture = str | os.PathLike[str] | bytes | Image.Image
Pictures = Picture | Sequence[Picture] | None

DEFAULT_POINTWISE = "critic-pointwise"
DEFAULT_PAIRWISE = "critic-pairwise"

REASK_TEMPERATURE, REASK_TOP_P = 0.7, 0.9
"""How an answer that could not be read is sampled anew, where the judge is greedy."""


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


@dataclass(frozen=True)
class Asking:
    """How a judge is asked. By default: once, for a verdict with its reason.

    verdict_only: for no reason. Two scores end with their line; in the other formats, where the
        verdict stands last, nothing but a verdict is allowed from the start.
    probabilities: with the reading of `reading.read_probabilities`, at no further decoding.
    reasks: how often an answer that cannot be read is sampled anew, at most.
    constrained: an answer that still cannot be read is gone on with, or begun again, with nothing
        but a verdict allowed where the template wants it. So the free text's unparsed rate stays
        known (`summary.answers_read`).
    """

    verdict_only: bool = False
    probabilities: bool = False
    reasks: int = 0
    constrained: bool = False

    def __post_init__(self) -> None:
        if self.reasks < 0:
            raise InputError(f"reasks is {self.reasks}; it must be 0 or more")

    def wishes(self) -> dict[str, Any]:
        """What is not as by default, by name."""
        return {name: value for name, value in asdict(self).items() if value}


def pair_asks(
    visuals: tuple[Any, ...],
    template: Template,
    texts: Mapping[str, str | None],
    responses: Sequence[str],
    pairs: Sequence[tuple[int, int]],
    verdict_only: bool | None = None,
) -> list[Ask]:
    """What a judge is asked to rank answers: a question for each of the ordered pairs.

    verdict_only: for no reason; by default where two scores open the judge's own answer.
    """
    brief = isinstance(template.format, TwoScoreFormat) if verdict_only is None else verdict_only
    filled = [{**texts, "response_a": responses[i], "response_b": responses[j]} for i, j in pairs]
    return [Ask(visuals, template, of_pair, verdict_only=brief) for of_pair in filled]


def ask_until_read(
    ask: Ask, model: str, reasks: int, say: Callable[[int], tuple[str, bool]]
) -> Judgment:
    """What a judge that gives whole texts says of this: the first text that can be read, or the
    last of `reasks` further ones.

    say: from the number of the attempt, from 0, to a text and whether it came to its end.
    """
    first_why = ""
    for attempt in range(reasks + 1):
        text, complete = say(attempt)
        verdict = parse_verdict(text, ask.template, complete=complete)
        if verdict.state != "unparsed" or attempt == reasks:
            break
        first_why = first_why or verdict.why
    found = judgment(verdict, ask.template.name, model, ask.order)
    return replace(found, asks=attempt + 1, first_why=first_why)


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
    def judge(
        self,
        asks: Sequence[Ask],
        asking: Asking = Asking(),
    ) -> list[Judgment]:
        """Judge many at once; results in the order given.

        Raises InputError for a way of asking that this judge doesn't know.
        """

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
        asking: Asking = Asking(),
    ) -> Judgment:
        """Score one answer on the template's scale."""
        texts = {"question": question, "response": response}
        ask = self._ask(image, template, texts, reference, criteria, "ab")
        return self.judge([ask], asking)[0]

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
        asking: Asking = Asking(),
    ) -> Judgment:
        """Which of two answers is better.

        Order "ba" shows b first; the verdict still calls a "A" and b "B".
        """
        texts = {"question": question, "response_a": response_a, "response_b": response_b}
        ask = self._ask(image, template, texts, reference, criteria, order)
        return self.judge([ask], asking)[0]

    def compare_both_orders(
        self,
        image: Pictures,
        question: str,
        response_a: str,
        response_b: str,
        *,
        template: str = DEFAULT_PAIRWISE,
        reference: str | None = None,
        criteria: str | None = None,
        asking: Asking = Asking(),
    ) -> BothOrders:
        """Two answers compared twice, each shown first once."""
        texts = {"question": question, "response_a": response_a, "response_b": response_b}
        ask = self._ask(image, template, texts, reference, criteria, "ab")
        return BothOrders(*self.judge([ask, replace(ask, order="ba")], asking))

    def rank(
        self,
        image: Pictures,
        question: str,
        responses: Sequence[str],
        *,
        pairs: Sequence[tuple[int, int]] | None = None,
        template: str = DEFAULT_RANKING,
        relative: Relative | None = None,
        reference: str | None = None,
        criteria: str | None = None,
        asking: Asking | None = None,
    ) -> Ranking:
        """K answers from best to worst, by all K(K-1) ordered pairs or some, as (first, second).

        relative: what a pair's relative score is made of (`rank.relative_score`); by default the
        two scores where the template asks for two, else the verdict. asking: by default for the
        verdict alone where two scores open the answer, else with reasons. Raises InputError for
        answers or pairs that are no such.
        """
        if isinstance(responses, str):
            raise InputError("responses is a text; it should be a list of the answers' texts")
        known = get_template(template)
        relative = check_relative(known, relative)
        chosen = ordered_pairs(len(responses), pairs)
        brief = None if asking is None else False  # what is asked says it itself
        how = asking or Asking()
        if relative == "probability":
            how = replace(how, probabilities=True)
        texts = {"question": question, "reference": reference, "criteria": criteria}
        asks = pair_asks(self.visuals(image), known, texts, responses, chosen, brief)
        return ranking(len(responses), chosen, self.judge(asks, how), relative)

    def _ask(
        self,
        image: Pictures,
        template: str,
        texts: dict[str, str],
        reference: str | None,
        criteria: str | None,
        order: Order,
    ) -> Ask:
        if order not in get_args(Order):
            raise InputError(f"order is {order!r}; it should be 'ab' or 'ba'")
        filled = {**texts, "reference": reference, "criteria": criteria}
        return Ask(self.visuals(image), get_template(template), filled, order)
