"""In which form a judge gives its verdict, and what a template is that asks for it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from critic_jax.errors import InputError

Kind = Literal["pointwise", "pairwise", "batch"]

ScoreMarker = Literal[
    "score",
    "final-score",
    "rating",
    "rating-brackets",
    "result",
    "judgement",
    "rating-field",
    "score-field",
]

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
"""What the answers of a batch are called, in the order in which they are shown."""


@dataclass(frozen=True)
class ScoreFormat:
    """One number between `low` and `high` behind a marker.

    Markers: "score" is `Score: N` and its usual spellings, "final-score" is `Final Score: N`,
    "rating" is `Rating: N`, "rating-brackets" is `Rating: [[N]]`, "result" is `[RESULT] N`,
    "judgement" is `Judgement: [[N]]`, also as a field of a JSON object; "rating-field" and
    "score-field" are `Rating: N` and `Score: N`, as such fields or alone.
    `whole`: only whole numbers are on the scale. `bare`: a text that is just the number counts.
    """

    marker: ScoreMarker
    low: float
    high: float
    whole: bool = False
    bare: bool = False


@dataclass(frozen=True)
class TwoScoreFormat:
    """Two numbers between `low` and `high` on the first line: answer A's, then answer B's."""

    low: float
    high: float


@dataclass(frozen=True)
class LabelFormat:
    """A label in double square brackets. `labels` maps what stands inside to the verdict.

    `judgement`: it may also stand, with brackets or without, as the field Judgement.
    """

    labels: Mapping[str, str] = field(hash=False)
    judgement: bool = False


@dataclass(frozen=True)
class BetterFormat:
    """`The better response: [first]`, or a statement that both are equally good.

    With `overall` it is `Overall Judgment: Answer 1 is better.`
    """

    overall: bool = False


@dataclass(frozen=True)
class RankFormat:
    """All answers from best to worst, `[[B]], [[A]], [[C]]`, as the field Judgement or alone."""


Format = ScoreFormat | TwoScoreFormat | LabelFormat | BetterFormat | RankFormat

_SLOT = re.compile(r"\{(question|response_a|response_b|responses|response|criteria|reference)\}")
_OPEN_BATCH = "[The Start of Assistant {}'s Answer]"
_CLOSE_BATCH = "[The End of Assistant {}'s Answer]"
BRACKET_CRITERIA = "[Criteria]\n{}\n[End of Criteria]\n\n"
BRACKET_REFERENCE = "[Reference Answer]\n{}\n[End of Reference Answer]\n\n"


@dataclass(frozen=True)
class Template:
    """One way of asking for a verdict.

    In `body`, `{question}`, `{response}`, `{response_a}`, `{response_b}` and, of a batch,
    `{responses}` stand for the texts, `{criteria}` and `{reference}` for optional sections:
    `criteria_section` and `reference_section` are inserted, with their text, only when that text is
    given. `default_criteria` is used where a format makes no sense without criteria.
    """

    name: str
    kind: Kind
    format: Format
    body: str
    criteria_section: str
    reference_section: str
    default_criteria: str | None = None

    def render(
        self,
        *,
        question: str,
        response: str | None = None,
        response_a: str | None = None,
        response_b: str | None = None,
        responses: Sequence[str] | None = None,
        reference: str | None = None,
        criteria: str | None = None,
    ) -> str:
        """The text of the user's turn, without the picture's placeholder.

        Every given text stands in the result exactly as it is: braces, markers and line ends in it
        are not looked at. Raises InputError when the answers do not suit the template's kind.
        """
        self._check(response, (response_a, response_b), responses)
        if criteria is None:
            criteria = self.default_criteria
        texts: dict[str, str] = {
            "question": question,
            "response": response or "",
            "response_a": response_a or "",
            "response_b": response_b or "",
            "responses": "\n\n".join(
                f"{_OPEN_BATCH.format(letter)}\n{text}\n{_CLOSE_BATCH.format(letter)}"
                for letter, text in zip(LETTERS, responses or (), strict=False)
            ),
            "criteria": ""
            if criteria is None
            else self.criteria_section.replace("{}", criteria, 1),
            "reference": ""
            if reference is None
            else self.reference_section.replace("{}", reference, 1),
        }
        return _SLOT.sub(lambda slot: texts[slot.group(1)], self.body)

    def _check(
        self,
        single: str | None,
        pair: tuple[str | None, str | None],
        batch: Sequence[str] | None,
    ) -> None:
        given = {
            "response": single is not None,
            "response_a": pair[0] is not None,
            "response_b": pair[1] is not None,
            "responses": batch is not None,
        }
        named = [name for name, there in given.items() if there]
        if self.kind == "pointwise" and named != ["response"]:
            raise InputError(
                f"template {self.name} judges one answer: "
                "give response, and neither response_a nor response_b nor responses"
            )
        if self.kind == "pairwise" and named != ["response_a", "response_b"]:
            raise InputError(
                f"template {self.name} compares two answers: "
                "give response_a and response_b, and no response or responses"
            )
        if self.kind != "batch":
            return
        if named != ["responses"] or batch is None or isinstance(batch, str):
            raise InputError(
                f"template {self.name} ranks several answers at once: give responses, a list of "
                "texts, and no response, response_a or response_b"
            )
        if not 2 <= len(batch) <= len(LETTERS):
            raise InputError(
                f"template {self.name} got {len(batch)} answers in responses; "
                f"it ranks 2 to {len(LETTERS)}"
            )

    def fixed_lines(self) -> tuple[str, ...]:
        """The template's own words line by line, in order, cut where a text is inserted."""
        fragments = re.split(_SLOT.pattern.replace("(", "(?:"), self.body)
        lines = (line.strip() for fragment in fragments for line in fragment.split("\n"))
        return tuple(line for line in lines if len(line) > 5)

    def openers(self) -> tuple[str, ...]:
        """The words on the line before each judged answer, such as `The LMM response: [`."""
        if self.kind == "batch":
            return tuple(_OPEN_BATCH.format(letter) for letter in LETTERS)
        found = re.finditer(r"([^\n{}]+)\n?\{response(?:_a|_b)?\}", self.body)
        return tuple(match.group(1).strip() for match in found)
