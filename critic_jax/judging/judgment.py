"""A judgment: what a judge said of one answer, or of two."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from critic_jax.judging.verdicts import State, Verdict

Order = Literal["ab", "ba"]

_SWAPPED = str.maketrans("AB", "BA")


@dataclass(frozen=True)
class Judgment:
    """A verdict with where it comes from.

    `verdict` speaks of the answers as the caller named them, whichever was shown first (`order`).
    The unparsed keep `why`; nothing is filled in for them.

    asks: how often the judge was asked; more than once if its first answer could not be read, which
        `first_why` tells.
    constrained: only a verdict was allowed where it stands.
    probabilities: if they were asked for, what `reading.read_probabilities` gives, of the answers
        as the caller named them.
    """

    state: State
    score: float | None
    verdict: str | None
    scores: tuple[float, float] | None
    reason: str
    why: str
    raw: str
    template: str
    model: str
    order: Order = "ab"
    asks: int = 1
    first_why: str = ""
    constrained: bool = False
    probabilities: dict[str, float] | None = field(default=None, hash=False)

    def to_dict(self) -> dict[str, Any]:
        """The fields that a results line holds; those that don't apply are left out."""
        fields: dict[str, Any] = {"state": self.state}
        if self.score is not None:
            fields["score"] = self.score
        if self.verdict is not None:
            fields["verdict"] = self.verdict
        if self.scores is not None:
            fields["scores"] = list(self.scores)
        fields["reason"] = self.reason
        if self.state == "unparsed":
            fields["why"] = self.why
        if self.asks > 1:
            fields |= {"asks": self.asks, "first_why": self.first_why}
        if self.constrained:
            fields["constrained"] = True
        if self.probabilities is not None:
            fields["probabilities"] = self.probabilities
        return fields | {"raw": self.raw, "template": self.template, "model": self.model}


def swapped(verdict: str) -> str:
    """The verdict when A and B change names: "A>>B" becomes "B>>A"; "A=B" and "tie" stay."""
    return verdict if verdict in ("tie", "A=B") else verdict.translate(_SWAPPED)


def winner(verdict: str | None) -> str | None:
    """A verdict without its strength: "A", "B" or "tie"; None for that of an unparsed judgment."""
    if verdict is None or verdict in ("A", "B", "tie"):
        return verdict
    return "tie" if verdict == "A=B" else verdict[0]


def swapped_probabilities(read: dict[str, float]) -> dict[str, float]:
    """A reading when A and B change names."""
    names = {"A": "B", "B": "A", "expected_a": "expected_b", "expected_b": "expected_a"}
    turned = {names.get(name, name): value for name, value in read.items()}
    if "preference" in turned:
        turned["preference"] = 1.0 - turned["preference"]
    return turned


def judgment(verdict: Verdict, template: str, model: str, order: Order) -> Judgment:
    """A parsed verdict as a judgment; one given on swapped answers is turned back."""
    named, scores = verdict.verdict, verdict.scores
    if order == "ba":
        named = swapped(named) if named else None
        scores = (scores[1], scores[0]) if scores else None
    return Judgment(
        verdict.state,
        verdict.score,
        named,
        scores,
        verdict.reason,
        verdict.why,
        verdict.raw,
        template,
        model,
        order,
    )
