"""Fields as markers of a verdict: of a JSON object, or `Judgement: ...` at the start of a line."""

from __future__ import annotations

import re
from collections.abc import Iterator

from critic_jax.judging.formats import LETTERS, LabelFormat, ScoreFormat
from critic_jax.judging.statements import BEGIN, NUMBER, Marker, on_scale, quoted, regex


def _field(name: str) -> re.Pattern[str]:
    """A field of JSON, or words that begin a line, a sentence or the part behind a comma."""
    return regex(
        rf"""(?: (?: ^[ \t]* | [{{,][ \t]*\n?[ \t]* ) (?P<quoted> ["'] {name} ["'] [ \t]*: )
           | (?: {BEGIN} | ,[ \t]+ ) (?P<plain> {name} [ \t]*: ) ) [ \t]*\n?[ \t]*"""
    )


_FIELD = _field("judge?ment")
FIELD_OF = {"rating-field": _field("rating"), "score-field": _field("score")}
_FIELD_NUMBER = re.compile(rf"[\"']?[ \t]*({NUMBER})")
_FIELD_ENDS = re.compile(r"[ \t]*[\"']?[ \t]*(?:[.,]?[ \t]*(?:\n|\Z)|[.,]?[ \t]*\}|,[ \t]*[\"'])")
_FIELD_SCORE = re.compile(rf"[\"']?[ \t]*(?:\[\[[ \t]*({NUMBER})[ \t]*\]\]|({NUMBER})(?:/5)?)")
_FIELD_LABEL = re.compile(
    r"[\"']?[ \t]*(?:\[\[[ \t]*([^\[\]\n]{1,12}?)[ \t]*\]\]|([A-Za-z<>=]{1,4})\b)"
)
_RANK = r"\[\[[A-Z]\]\](?:[ \t]*,?[ \t]*\[\[[A-Z]\]\])+"
_FIELD_RANK = re.compile(rf"[\"']?[ \t]*({_RANK})")


def _fields(
    flat: str, value: re.Pattern[str], field: re.Pattern[str] = _FIELD
) -> Iterator[tuple[int, re.Match[str] | None]]:
    """Each such field: where it begins, and its value if that is well-formed to its end."""
    for match in field.finditer(flat):
        group = "quoted" if match["quoted"] else "plain"
        start = match.start(group)
        empty = not flat[match.end() :].strip(" \t\n\"'[")
        if empty or (group == "plain" and quoted(flat, start)):
            continue
        found = value.match(flat, match.end())
        yield start, found if found and _FIELD_ENDS.match(flat, found.end()) else None


def field_scores(flat: str, form: ScoreFormat) -> Iterator[Marker]:
    for start, match in _fields(flat, _FIELD_NUMBER, FIELD_OF[form.marker]):
        if match is None:
            yield Marker(start, start, None, "malformed: the field states no number and its end")
        else:
            number = re.compile(f"({NUMBER})").match(flat, match.start(1))
            assert number is not None
            yield on_scale(form, start, match.end(), number)


def judgement_scores(flat: str, form: ScoreFormat) -> Iterator[Marker]:
    found = list(_fields(flat, _FIELD_SCORE))
    for start, match in found:
        if match is None:
            yield Marker(start, start, None, "malformed: Judgement states no number and its end")
        else:
            group = 1 if match[1] else 2
            number = re.compile(f"({NUMBER})").match(flat, match.start(group))
            assert number is not None
            yield on_scale(form, start, match.end(), number)
    alone = rf"(?m)^[ \t]*(?P<all>\[\[[ \t]*(?P<n>{NUMBER})[ \t]*\]\])[ \t.]*$"
    for match in re.finditer(alone, flat):
        if not quoted(flat, match.start("all")) and not any(
            m and m.start() <= match.start("all") < m.end() for _, m in found
        ):
            yield on_scale(form, *match.span("all"), match)


def judgement_labels(flat: str, form: LabelFormat) -> Iterator[Marker]:
    for start, match in _fields(flat, _FIELD_LABEL):
        if match is not None:
            group = 1 if match[1] else 2
            verdict = form.labels.get(re.sub(r"[ \t]", "", match[group]))
            if verdict is not None:
                yield Marker(start, match.end(), verdict, "", (match.span(group),))


def ranks(flat: str) -> Iterator[Marker]:
    """Each rank as the letters from best to worst; one that is no rank of all says why."""
    spans: list[tuple[int, int, re.Match[str]]] = []
    for start, match in _fields(flat, _FIELD_RANK):
        if match is None:
            yield Marker(start, start, None, "malformed: Judgement holds no rank and its end")
        else:
            spans.append((start, match.end(), match))
    for alone in re.finditer(rf"(?m)^[ \t]*({_RANK})[ \t.]*$", flat):
        if not any(start <= alone.start(1) < end for start, end, _ in spans):
            spans.append((*alone.span(1), alone))
    for start, end, match in spans:
        letters = "".join(re.findall(r"[A-Z]", match[1]))
        why = ""
        if sorted(letters) != sorted(LETTERS[: len(letters)]):
            why = f"malformed: {' '.join(letters)} does not name each answer once"
        yield Marker(start, end, letters, why)
