"""How a critic is asked: for a verdict alone, again, within limits, with its probabilities."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from hashlib import blake2b
from typing import TYPE_CHECKING, Any

import numpy as np

from critic_jax.data.encode import prompt_path
from critic_jax.judging.ask import REASK_TEMPERATURE, REASK_TOP_P, Ask, Asking
from critic_jax.judging.formats import Format, TwoScoreFormat
from critic_jax.judging.guide import VerdictGuide, verdict_guide
from critic_jax.judging.judgment import Judgment, judgment, swapped_probabilities
from critic_jax.judging.reading import read_probabilities, watched_tokens
from critic_jax.judging.verdicts import Verdict, parse_verdict
from critic_jax.sampling.choose import Sampling
from critic_jax.sampling.completion import Completion
from critic_jax.tree import Path

if TYPE_CHECKING:
    from critic_jax.judging.critic import Critic

_LINE_TOKENS = 16
"""Tokens of a first line with two scores, at most."""


@dataclass(eq=False)
class _Asked:
    """One question on its way to a judgment."""

    ask: Ask
    path: Path
    verdict: Verdict | None = None
    asks: int = 0
    first: Verdict | None = None
    constrained: bool = False
    lead: str = ""  # what was written before a constrained verdict
    probabilities: dict[str, float] | None = field(default=None)

    @property
    def form(self) -> Format:
        return self.ask.template.format

    @property
    def answers(self) -> int | None:
        given = self.ask.texts.get("responses")
        return None if given is None else len(given)


def judge(
    critic: Critic, asks: Sequence[Ask], asking: Asking, sampling: Sampling
) -> list[Judgment]:
    """The judgments, in the order given; `sampling` is that of a free answer."""
    return _Judging(critic, asking, sampling).judgments(asks)


class _Judging:
    """One call of `judge`."""

    def __init__(self, critic: Critic, asking: Asking, sampling: Sampling) -> None:
        self.critic, self.asking, self.sampling = critic, asking, sampling
        self.tokenizer = critic.tokenizer
        self._watched: tuple[int, ...] = ()

    def judgments(self, asks: Sequence[Ask]) -> list[Judgment]:
        asked = [_Asked(a, prompt_path(a.prompt(), a.visuals, self.tokenizer)) for a in asks]
        if self.asking.probabilities:
            self._watched = watched_tokens({one.form for one in asked}, self.tokenizer)
            self.sampling = replace(self.sampling, alternatives=self._watched)
        self._first(asked)
        for attempt in range(1, self.asking.reasks + 1):
            self._free(_unread(asked), _again(self.sampling, attempt))
        if self.asking.constrained:
            self._constrained(_unread(asked))
        return [self._judgment(one) for one in asked]

    def _first(self, asked: Sequence[_Asked]) -> None:
        forced = [
            one for one in asked if self._brief(one) and not isinstance(one.form, TwoScoreFormat)
        ]
        self._free([one for one in asked if one not in forced], self.sampling)
        self._constrained(forced)

    def _brief(self, one: _Asked) -> bool:
        return self.asking.verdict_only or one.ask.verdict_only

    def _free(self, asked: Sequence[_Asked], sampling: Sampling) -> None:
        brief = [one for one in asked if self._brief(one)]
        line = replace(sampling, stop=("\n",), max_new_tokens=_LINE_TOKENS)
        self._answer(brief, line, [None] * len(brief))
        whole = [one for one in asked if not self._brief(one)]
        self._answer(whole, sampling, [None] * len(whole))

    def _constrained(self, asked: Sequence[_Asked]) -> None:
        """Answers of which only a verdict is allowed, or a verdict and then a reason."""
        guides: list[VerdictGuide] = []
        for one in asked:
            one.constrained = True
            one.lead = self._lead(one)
            guides.append(self._guide(one))
        for free in (False, True):
            chosen = [n for n, one in enumerate(asked) if self._then_free(one) == free]
            if not chosen:
                continue
            most = max(guides[n].most_tokens for n in chosen)
            room = most + (self.sampling.max_new_tokens if free else 0)
            sampling = replace(self.sampling, max_new_tokens=room)
            self._answer([asked[n] for n in chosen], sampling, [guides[n] for n in chosen])

    def _then_free(self, one: _Asked) -> bool:
        return isinstance(one.form, TwoScoreFormat) and not self._brief(one)

    def _lead(self, one: _Asked) -> str:
        """The reason that a constrained verdict goes on from: a free text that only lacks it."""
        first = one.first
        if first is None or isinstance(one.form, TwoScoreFormat):
            return ""
        lacks = first.why.split(":")[0] in ("missing", "cut off")
        return f"{first.raw.rstrip()}\n\n" if lacks else ""

    def _guide(self, one: _Asked) -> VerdictGuide:
        return verdict_guide(one.form, one.answers, self.tokenizer, self._then_free(one))

    def _answer(
        self,
        asked: Sequence[_Asked],
        sampling: Sampling,
        guides: Sequence[VerdictGuide | None],
    ) -> None:
        if not asked:
            return
        paths = [self._path(one) for one in asked]
        guided: dict[str, Any] = {"guides": guides} if any(guides) else {}
        answers = self.critic.engine.generate(paths, sampling, **guided)
        for one, (completion,) in zip(asked, answers, strict=True):
            one.asks += 1
            one.verdict = self._read(one, completion)
            if one.first is None:
                one.first = one.verdict
            if self.asking.probabilities and one.verdict.state != "unparsed":
                one.probabilities = read_probabilities(
                    completion, one.verdict.places, one.form, self._watched, self.tokenizer
                )

    def _path(self, one: _Asked) -> Path:
        if not one.lead:
            return one.path
        more = np.asarray(self.tokenizer.encode(one.lead), np.int32)
        return replace(
            one.path,
            tokens=np.concatenate([one.path.tokens, more]),
            weights=np.concatenate([one.path.weights, np.zeros(len(more), np.float32)]),
        )

    def _read(self, one: _Asked, completion: Completion) -> Verdict:
        """The verdict; its places are those in the completion's own text."""
        text = self.tokenizer.decode(list(completion.tokens))
        complete = completion.finish == "stop"
        return parse_verdict(text, one.ask.template, complete=complete, answers=one.answers)

    def _judgment(self, one: _Asked) -> Judgment:
        assert one.verdict is not None and one.first is not None
        verdict, probabilities = one.verdict, one.probabilities
        if one.lead and verdict.state != "unparsed":
            verdict = replace(verdict, reason=one.lead.strip(), raw=one.lead + verdict.raw)
        if probabilities is not None and one.ask.order == "ba":
            probabilities = swapped_probabilities(probabilities)
        return replace(
            judgment(verdict, one.ask.template.name, self.critic.name, one.ask.order),
            asks=one.asks,
            first_why=one.first.why if one.asks > 1 else "",
            constrained=one.constrained,
            probabilities=probabilities,
        )


def _unread(asked: Sequence[_Asked]) -> list[_Asked]:
    return [
        one
        for one in asked
        if one.verdict is not None and one.verdict.state == "unparsed" and not one.constrained
    ]


def _again(sampling: Sampling, attempt: int) -> Sampling:
    """Settings of a further attempt: never greedy, and with a seed of its own."""
    words = f"{sampling.seed} {attempt}".encode()
    seed = int.from_bytes(blake2b(words, digest_size=4).digest(), "little")
    if sampling.temperature > 0:
        return replace(sampling, seed=seed)
    return replace(sampling, seed=seed, temperature=REASK_TEMPERATURE, top_p=REASK_TOP_P)
