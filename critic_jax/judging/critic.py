"""The judge that a user holds: load a model once, then score, compare and generate."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any

import jax.numpy as jnp

from critic_jax.checkpoints import Checkpoint, load_checkpoint, model_name, prescribed
from critic_jax.data.encode import prepare_pictures, prompt_path
from critic_jax.imaging import Visual
from critic_jax.judging.ask import DEFAULT_PAIRWISE, DEFAULT_POINTWISE, Ask, Pictures
from critic_jax.judging.judgment import Judgment, Order, judgment
from critic_jax.judging.templates import get_template
from critic_jax.judging.verdicts import parse_verdict
from critic_jax.models.build import assemble
from critic_jax.sampling.choose import Sampling
from critic_jax.sampling.engine import Completion, Engine


class Critic:
    """A loaded model that judges and answers.

    `name` is quoted in every judgment, and so is `fingerprint`, which changes with the weights, the
    tokenizer and the sampler's settings, where the name may stay. A repetition penalty that the
    checkpoint prescribes is kept, as upstream's judge keeps it, unless another is given: 1 is none.
    `settings` are others of `Sampling` to judge with; None leaves one as it is.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        name: str,
        batch: int = 32,
        watch: Callable[[int], None] | None = None,
        **settings: Any,
    ) -> None:
        self.name = name
        self.geometry = checkpoint.geometry
        self.tokenizer = checkpoint.tokenizer
        self._settings = prescribed(checkpoint.meta)
        self._settings |= {name: value for name, value in settings.items() if value is not None}
        self.sampling()  # a setting that is out of range is told before the model runs
        self.fingerprint = checkpoint.fingerprint(**self._settings)
        model = assemble(checkpoint.config, checkpoint.params, jnp.dtype(jnp.float32))
        self.engine = Engine(model, checkpoint.tokenizer.stop_ids, batch, watch)

    @classmethod
    def load(
        cls,
        path: str | os.PathLike[str],
        batch: int = 32,
        **settings: Any,
    ) -> Critic:
        """Load a checkpoint of ours, a Hugging Face folder or a hub id.

        Raises InputError if it is none of them.
        """
        name = model_name(path)
        return cls(load_checkpoint(path), name, batch, **settings)

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

    def judge(self, asks: Sequence[Ask]) -> list[Judgment]:
        """Judge many at once; results in the order given."""
        prompts = [(a.visuals, a.prompt()) for a in asks]
        answers = self.answer(prompts, self.sampling())
        results = []
        for ask, (completion,) in zip(asks, answers, strict=True):
            complete = completion.finish == "stop"
            verdict = parse_verdict(self.text(completion), ask.template, complete=complete)
            results.append(judgment(verdict, ask.template.name, self.name, ask.order))
        return results

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
        return self.judge([self._ask(image, template, texts, reference, criteria, "ab")])[0]

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
        order: Order,
    ) -> Ask:
        return Ask(
            self.visuals(image),
            get_template(template),
            {**texts, "reference": reference, "criteria": criteria},
            order,
        )
