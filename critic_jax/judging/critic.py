"""The judge that a user holds: load a model once, then score, compare and generate."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import jax.numpy as jnp

from critic_jax.checkpoints import Checkpoint, load_checkpoint, model_name, prescribed
from critic_jax.data.encode import prepare_pictures, prompt_path
from critic_jax.imaging import Visual
from critic_jax.judging.ask import DEFAULT_PAIRWISE, DEFAULT_POINTWISE, Ask, Judge, Pictures
from critic_jax.judging.asking import Asking, judge
from critic_jax.judging.both_orders import BothOrders
from critic_jax.judging.formats import TwoScoreFormat
from critic_jax.judging.judgment import Judgment, Order
from critic_jax.judging.rank import (
    DEFAULT_RANKING,
    Ranking,
    Relative,
    check_relative,
    ordered_pairs,
    ranking,
)
from critic_jax.judging.templates import get_template
from critic_jax.models.build import assemble
from critic_jax.sampling.choose import Sampling
from critic_jax.sampling.engine import Completion, Engine
from critic_jax.sampling.weights import WeightFormat


class Critic(Judge):
    """A loaded model that judges and answers.

    `name` is quoted in every judgment, and so is `fingerprint`, which changes with the weights, the
    tokenizer and the sampler's settings, where the name may stay. A repetition penalty that the
    checkpoint prescribes is kept, as upstream's judge keeps it, unless another is given: 1 is none.
    `settings` are others of `Sampling` to judge with; None leaves one as it is. weights: "int8"
    holds them in eight bits, a quarter of the memory; verdicts may differ, and so the fingerprint.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        name: str,
        batch: int = 32,
        watch: Callable[[int], None] | None = None,
        weights: WeightFormat = "full",
        **settings: Any,
    ) -> None:
        self.name = name
        self.geometry = checkpoint.geometry
        self.tokenizer = checkpoint.tokenizer
        self._settings = prescribed(checkpoint.meta)
        self._settings |= {name: value for name, value in settings.items() if value is not None}
        self.sampling()  # a setting that is out of range is told before the model runs
        as_held = {} if weights == "full" else {"weights": weights}
        self.fingerprint = checkpoint.fingerprint(**self._settings, **as_held)
        model = assemble(checkpoint.config, checkpoint.params, jnp.dtype(jnp.float32))
        stop_ids, decode = checkpoint.tokenizer.stop_ids, checkpoint.tokenizer.decode
        self.engine = Engine(model, stop_ids, batch, watch, decode, weights=weights)

    @classmethod
    def load(
        cls,
        path: str | os.PathLike[str],
        batch: int = 32,
        weights: WeightFormat = "full",
        **settings: Any,
    ) -> Critic:
        """Load a checkpoint of ours, a Hugging Face folder or a hub id; arguments as above.

        Raises InputError if it is none of them.
        """
        name = model_name(path)
        return cls(load_checkpoint(path), name, batch, weights=weights, **settings)

    def sampling(self, **settings: Any) -> Sampling:
        """Greedy, with what the checkpoint prescribes, then `settings`."""
        return Sampling(**{"max_new_tokens": 512, **self._settings, **settings})

    def visuals(self, image: Pictures, name: str = "image") -> tuple[Visual, ...]:
        """Pictures made ready: none, one (cut into tiles), or several (one tile each)."""
        if image is None:
            return ()
        sources: Sequence[Any] = image if isinstance(image, list | tuple) else [image]
        return prepare_pictures(sources, self.geometry, name)

    def answer(
        self, prompts: Sequence[tuple[Sequence[Visual], str]], sampling: Sampling, n: int = 1
    ) -> list[list[Completion]]:
        """`n` completions for each (pictures, text)."""
        paths = [prompt_path(text, visuals, self.tokenizer) for visuals, text in prompts]
        return self.engine.generate(paths, sampling, n)

    def text(self, completion: Completion) -> str:
        """A completion in words."""
        return self.tokenizer.decode(list(completion.tokens))

    def generate(self, image: Pictures, prompt: str, n: int = 1, **settings: Any) -> list[str]:
        """`n` answers to a prompt about a picture; `settings` as in `Sampling`."""
        completions = self.answer([(self.visuals(image), prompt)], self.sampling(**settings), n)
        return [self.text(c) for c in completions[0]]

    def judge(
        self,
        asks: Sequence[Ask],
        asking: Asking = Asking(),  # noqa: B008 (frozen)
    ) -> list[Judgment]:
        """Judge many at once; results in the order given."""
        return judge(self, asks, asking, self.sampling())

    def score(
        self,
        image: Pictures,
        question: str,
        response: str,
        *,
        template: str = DEFAULT_POINTWISE,
        reference: str | None = None,
        criteria: str | None = None,
        asking: Asking = Asking(),  # noqa: B008 (frozen)
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
        asking: Asking = Asking(),  # noqa: B008 (frozen)
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
        asking: Asking = Asking(),  # noqa: B008 (frozen)
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
        known = get_template(template)
        relative = check_relative(known, relative)
        chosen = ordered_pairs(len(responses), pairs)
        if asking is None:
            asking = Asking(verdict_only=isinstance(known.format, TwoScoreFormat))
        if relative == "probability":
            asking = replace(asking, probabilities=True)
        visuals = self.visuals(image)
        texts = {"question": question, "reference": reference, "criteria": criteria}
        asks = [
            Ask(visuals, known, {**texts, "response_a": responses[i], "response_b": responses[j]})
            for i, j in chosen
        ]
        return ranking(len(responses), chosen, self.judge(asks, asking), relative)
