"""Reasons for preferences that are known, in thirty ways of asking: LLaVA-Critic, section 3.2.

The annotator is told which answer is better and asked for the reason alone. Its text is kept where
the judge's own parser reads that same verdict in it.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from critic_jax.errors import InputError
from critic_jax.judging.endpoint import Reply
from critic_jax.judging.judgment import winner
from critic_jax.judging.verdicts import parse_verdict

from ..sources.known_pairs import Choice, KnownPair, read_known_pairs
from .annotator import ANNOTATIONS, Annotator, annotated, estimated, leave
from .draw import fraction, one_of
from .packing import pack, with_pictures
from .pair_templates import PAIR_TEMPLATES, PairTemplate
from .queue import Task

LEAST_WORDS = 5
"""Of a reason; a shorter one gives none."""

_HINT = """

For this pair the verdict has been settled by other judges and is right. Write the judgment that is
asked for above, as your own: give specific reasons, from the picture and both answers, that
support the settled verdict. Do not say that a verdict was given to you. {place} with exactly the
words behind the colon:
Settled verdict: {says}"""
_GIVEN_AWAY = re.compile(
    r"settled verdict|verdict (?:was|has been|is) (?:given|settled|provided)|other judges",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Posed:
    """A known pair in one way of asking and one order. verdict: of what is shown first, "A"."""

    pair: KnownPair
    way: PairTemplate
    verdict: str

    @property
    def prompt(self) -> str:
        """What a critic is asked; the annotator is told more."""
        shown = (self.pair.better, self.pair.other)
        a, b = shown if self.verdict != "B" else shown[::-1]
        return self.way.template.render(question=self.pair.question, response_a=a, response_b=b)

    def task(self) -> Task:
        place = "Begin" if self.way.verdict_first else "End"
        if self.way.style == "json":
            place = "Write the field Judgement"
        hint = _HINT.format(place=place, says=self.way.says[self.verdict])
        return Task(self.pair.id, self.pair.images, self.prompt + hint, self.check)

    def check(self, reply: Reply) -> str:
        """Why an annotator's text cannot be kept; "" where it can."""
        template = self.way.template
        found = parse_verdict(reply.text, template, complete=reply.complete)
        if found.state == "unparsed":
            return found.why
        if winner(found.verdict) != self.verdict:
            return f"contradiction: the text says {found.verdict}, but {self.verdict} is known"
        if _GIVEN_AWAY.search(reply.text):
            return "given away: the text speaks of a verdict that was given"
        if len(found.reason.split()) < LEAST_WORDS:
            return f"no reason: {LEAST_WORDS} words would be one"
        head, _, rest = reply.text.strip().partition("\n")
        if self.way.style != "json":
            at_the_head = parse_verdict(head + "\n", template).state != "unparsed" and bool(rest)
            if at_the_head != self.way.verdict_first:
                wanted = "first" if self.way.verdict_first else "last"
                return f"order: the verdict should stand {wanted}"
        return ""


def make_pairwise(
    sources: Sequence[Path],
    output: Path,
    annotator: Annotator,
    images: Path | None = None,
    choice: Choice = Choice(),  # noqa: B008 (frozen)
    seed: int = 0,
    dry_run: bool = False,
) -> dict[str, Any]:
    """Ask for the reasons of known preferences into the folder `output`; the summary, or of a dry
    run the estimate.

    Raises InputError for a source that cannot be read or holds no pair.
    """
    if not sources:
        raise InputError("no preference set is named")
    pairs, wrong = read_known_pairs(sources, images, choice, seed)
    rejected: list[dict[str, Any]] = [vars(bad) for bad in wrong]
    posed = []
    for one in pose(pairs, seed):
        try:
            pack(one.pair.id, one.pair.source, one.pair.images, one.prompt, "A reason.")
            posed.append(one)
        except InputError as error:
            rejected.append(_rejection(one.pair, str(error)))
    queue = annotator.queue(output)
    tasks = [one.task() for one in posed]
    if dry_run:
        planned = dict(Counter(_kind(one.pair) for one in posed))
        return {"sets": planned, **estimated(queue, tasks, output / ANNOTATIONS)}
    lines = annotated(queue, tasks, output / ANNOTATIONS)
    records = []
    kept: list[Posed] = []
    for one in posed:
        pair, line = one.pair, lines[one.pair.id]
        try:
            if line["why"]:
                raise InputError(line["why"])
            text = line["text"].strip()
            fields = pack(pair.id, pair.source, pair.images, one.prompt, text)
            records.append(with_pictures(fields, pair.images, output))
            kept.append(one)
        except InputError as error:
            rejected.append(_rejection(pair, str(error)))
    counts = {
        "sets": dict(Counter(_kind(one.pair) for one in kept)),
        "criteria": dict(Counter(one.way.criterion for one in kept)),
        "templates": len({one.way.template.name for one in kept}),
        "verdicts": dict(Counter(one.verdict for one in kept)),
    }
    return leave(output, records, rejected, counts, queue)


def pose(pairs: Sequence[KnownPair], seed: int) -> list[Posed]:
    """Each pair in a drawn way of asking; of each set, the better answer stands first in half."""
    posed: dict[str, Posed] = {}
    for kind in dict.fromkeys(map(_kind, pairs)):
        same = [pair for pair in pairs if _kind(pair) == kind]
        same.sort(key=lambda pair: fraction(seed, "order", pair.id))
        for place, pair in enumerate(same):
            verdict = "tie" if pair.tie else "AB"[place % 2]
            way = one_of(PAIR_TEMPLATES, seed, "way", pair.id)
            if pair.tie and fraction(seed, "tie", pair.id) < 0.5:
                pair = KnownPair(**{**vars(pair), "better": pair.other, "other": pair.better})
            posed[pair.id] = Posed(pair, way, verdict)
    return [posed[pair.id] for pair in pairs]


def _kind(pair: KnownPair) -> str:
    return f"{pair.source} ties" if pair.tie else pair.source


def _rejection(pair: KnownPair, reason: str) -> dict[str, Any]:
    return {"line": pair.line, "id": pair.id, "reason": f"{pair.place}: {reason}"}
