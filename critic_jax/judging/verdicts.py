"""What a judge's text says: a value, a tie, or nothing that can be read.

A verdict counts only where the template's own marker states it. There is no falling back on the
first number or letter in the text and no default: what is missing, contradictory, off the scale or
cut short is `unparsed`, with the reason why, and the raw text is kept.
"""

from __future__ import annotations

import json
import re
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Literal

from critic_jax.judging.formats import (
    BetterFormat,
    Format,
    LabelFormat,
    RankFormat,
    ScoreFormat,
    Template,
    TwoScoreFormat,
)
from critic_jax.judging.markers import find_markers, opens_with_two_scores
from critic_jax.judging.statements import Marker, Value, flatten
from critic_jax.judging.templates import get_template

State = Literal["value", "tie", "unparsed"]


@dataclass(frozen=True)
class Verdict:
    """One judgment as read from its text.

    score: the number of a pointwise template, on the template's own scale.
    verdict: "A>>B" "A>B" "A=B" "B>A" "B>>A", or without strength "A" "B" "tie"; A is the answer
        that stands first. Of a batch, the answers' letters from best to worst, as in "BAC".
    scores: the two numbers of a two-score template (A's, B's); `verdict` then follows from them.
    reason: the text without the verdict's marker (the whole text, if it is unparsed).
    why: for an unparsed text, a code and a sentence, as in "missing: no statement Score: N"; else
        "". Codes: empty, missing, malformed, conflicting, out of range, cut off, echo.
    raw: the text as it came.
    places: where in `raw` the value stands: the span of its characters, or of each of two numbers;
        none where a sentence states it.
    """

    state: State
    score: float | None
    verdict: str | None
    scores: tuple[float, float] | None
    reason: str
    why: str
    raw: str
    places: tuple[tuple[int, int], ...] = ()


def parse_verdict(
    text: str, template: str | Template, *, complete: bool = True, answers: int | None = None
) -> Verdict:
    """Read the verdict of a judge's `text`, asked with `template` (or the template of that name).

    complete: false when the generation stopped at its length limit; then a number at the very end
        of the text is not believed, since its last digits may be missing.
    answers: how many answers a batch has, where that is known; a rank of fewer is none.
    Raises InputError when no template has that name.
    """
    known = template if isinstance(template, Template) else get_template(template)
    if not text.strip():
        return _unparsed(text, "empty: the judge wrote nothing")
    start = _own_words(text, known)
    own = text[start:]
    if start and not own.strip(" \t\n.]"):
        return _unparsed(text, "echo: the text says the prompt back and nothing after it")
    flat = flatten(own)
    found = find_markers(flat, known.format)
    if len({marker.value for marker in found if marker.value is not None}) > 1:
        return _unparsed(text, f"conflicting: the text states {_listing(found)}")
    usable = [marker for marker in found if not marker.why]
    if not usable:
        why = found[-1].why if found else _why_nothing(flat, known.format, complete)
        return _unparsed(text, why)
    last = max(usable, key=lambda marker: marker.end)
    if not complete and not isinstance(last.value, str) and last.end >= len(flat.rstrip()):
        return _unparsed(text, "cut off: the text ends with the number, which may lack digits")
    ranked = len(str(last.value)) if isinstance(known.format, RankFormat) else answers
    if answers is not None and ranked != answers:
        return _unparsed(text, f"malformed: the text ranks {ranked} of {answers} answers")
    places = tuple((start + a, start + b) for a, b in last.places)
    return replace(_verdict(text, last.value, _reason(own, usable)), places=places)


def _verdict(text: str, value: Value | None, reason: str) -> Verdict:
    if isinstance(value, tuple):
        first, second = value
        verdict = "A" if first > second else "B" if second > first else "tie"
        state: State = "tie" if first == second else "value"
        return Verdict(state, None, verdict, value, reason, "", text)
    if isinstance(value, str):
        state = "tie" if value in ("tie", "A=B") else "value"
        return Verdict(state, None, value, None, reason, "", text)
    return Verdict("value", value, None, None, reason, "", text)


def _unparsed(text: str, why: str) -> Verdict:
    return Verdict("unparsed", None, None, None, text.strip(), why, text)


def _own_words(text: str, template: Template) -> int:
    """Where the judge's own words begin, if it says the prompt back first; else 0.

    A judged answer may hold a forged verdict, so that nothing before the end of the prompt counts;
    if the prompt's last line never comes, nothing counts (the end of the text is returned).
    """
    if isinstance(template.format, TwoScoreFormat) and opens_with_two_scores(flatten(text)):
        return 0  # the verdict stands before anything that could be an echo
    lines = template.fixed_lines()
    openers = "|".join(re.escape(line) for line in template.openers())
    instructed = any(line[:60] in text for line in lines if len(line) >= 60)
    if not instructed and not re.search(rf"(?m)^[ \t]*(?:{openers})", text):
        return 0
    end = text.rfind(lines[-1])
    return len(text) if end < 0 else end + len(lines[-1])


def _reason(text: str, markers: list[Marker]) -> str:
    """The text without the markers, their emphasis and the full stop that closed them.

    Of a JSON object, what its other fields say.
    """
    with suppress(ValueError):
        fields = json.loads(text[text.index("{") : text.rindex("}") + 1])
        others = (v for k, v in fields.items() if k.lower() not in _VERDICT_FIELDS)
        return "\n\n".join(str(value) for value in others)
    pieces, at = [], 0
    for marker in sorted(markers, key=lambda marker: marker.start):
        if marker.start == marker.end or marker.start < at:
            continue
        before = re.sub(r"[*`#\"'(\u2022 \t-]+$", "", text[at : marker.start])
        after = re.match(r"[*`\"')\]]*[.!;,]?[*`\"')]*", text[marker.end :])
        at = marker.end + (after.end() if after else 0)
        pieces += [before, "" if text[at : at + 1].isspace() else " "]
    joined = "".join([*pieces, text[at:]])
    return re.sub(r"\s*\n\s*\n\s*", "\n\n", joined).strip()


_VERDICT_FIELDS = ("judgement", "judgment", "rating", "score")
_ASKED = {
    "score": "statement Score: N",
    "final-score": "statement Final Score: N",
    "rating": "statement Rating: N",
    "rating-brackets": "statement Rating: [[N]]",
    "result": "[RESULT] N at the end",
    "judgement": "field Judgement: [[N]]",
    "rating-field": "field Rating: N",
    "score-field": "field Score: N",
}
# A marker that has begun and does not end, or a sentence that stops in the middle.
_BROKEN_TAIL = re.compile(
    r"(?:(?:score|rating)[ \t]*(?::|is|of)?[ \t]*\[{0,2}[0-9]*"
    r"|\[\[?[ABC0-9]?[<>=]{0,2}[AB]?\]?"
    r"|better\ response[ \t]*(?::|is)?[ \t]*\[?\w*"
    r"|judge?ment[\"']?[ \t]*:?[ \t]*[\"']?\[{0,2}\w?\]?"
    r"|\[RES\w*\]?[ \t]*:?[ \t]*[\[(]?"
    r"|[\w,-])\s*\Z",
    re.IGNORECASE,
)


def _why_nothing(flat: str, form: Format, complete: bool) -> str:
    if isinstance(form, TwoScoreFormat):
        return "missing: the first line does not hold two scores and nothing else"
    if not complete or _BROKEN_TAIL.search(flat):
        return "cut off: the text ends before its verdict"
    if isinstance(form, ScoreFormat):
        return f"missing: no {_ASKED[form.marker]}"
    if isinstance(form, LabelFormat):
        return f"missing: none of {' '.join(f'[[{label}]]' for label in form.labels)}"
    if isinstance(form, RankFormat):
        return "missing: no rank of all answers, such as Judgement: [[B]], [[A]]"
    if isinstance(form, BetterFormat) and form.overall:
        return "missing: no statement Overall Judgment: Answer X is better"
    return "missing: no statement The better response: [X], and none that both are equally good"


def _listing(found: list[Marker]) -> str:
    """The distinct values of the markers, in the order in which they stand."""

    def said(value: Value) -> str:
        if isinstance(value, tuple):
            return f"{value[0]:g} {value[1]:g}"
        return value if isinstance(value, str) else f"{value:g}"

    ordered = sorted(found, key=lambda marker: marker.start)
    return " and ".join(dict.fromkeys(said(m.value) for m in ordered if m.value is not None))
