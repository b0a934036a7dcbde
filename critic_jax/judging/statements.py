"""What every finder of markers shares: a marker, and how a judge's own statement looks."""

from __future__ import annotations

import re
from dataclasses import dataclass

from critic_jax.judging.formats import ScoreFormat

Value = float | str | tuple[float, float]


@dataclass(frozen=True)
class Marker:
    """One marker: its span in the text, what it states, and why that cannot be used (or "").

    `value` is None where the marker states nothing definite. A span of length 0 means that the
    marker is part of a sentence, which stays in the reason. `places` are the spans of the value
    itself: of a number, of each of two numbers, of what stands in the brackets of a label.
    """

    start: int
    end: int
    value: Value | None
    why: str = ""
    places: tuple[tuple[int, int], ...] = ()


def flatten(text: str) -> str:
    """The text with emphasis marks blanked and wide colons narrowed; every offset stays true."""
    return re.sub(r"[*`#\u00a0]", " ", text.replace("\r", "\n")).replace("\uff1a", ":")


NUMBER = r"[+-]?(?:[0-9]+(?:\.[0-9]+)?|\.[0-9]+)"
SLASH = r"[ \t]*(?:/|out[ \t]of)[ \t]*"

# A statement begins a line, after a bullet at most, or follows the end of a sentence; then it may
# open with a word such as "Overall,".
BEGIN = r"""
    (?: ^ | (?<=[\w)\]"'][.!?]) (?<!\be\.g\.) (?<!\bi\.e\.) (?=\s)
          | (?<=[.!?]["')\]]) (?=\s) | (?<=[\u3002\uff01\uff1f]) )
    \s* (?: [-\u2022][ \t]+ )?
    (?: (?: overall | therefore | thus | so | hence | finally
          | in[ \t](?:conclusion|summary|short) | to[ \t](?:conclude|sum[ \t]up) ) ,? [ \t]+ )?
"""


def regex(pattern: str) -> re.Pattern[str]:
    """A verbose pattern, in any case, whose ^ and $ are those of a line."""
    return re.compile(pattern, re.IGNORECASE | re.MULTILINE | re.VERBOSE)


def quoted(flat: str, at: int) -> bool:
    """Whether `at` lies between two quotation marks of one paragraph."""
    before = flat[flat.rfind("\n\n", 0, at) + 1 : at]
    straight = before.count('"') % 2 == 1 and '"' in flat[at:]
    return straight or before.count("\u201c") > before.count("\u201d")


def on_scale(form: ScoreFormat, start: int, end: int, match: re.Match[str]) -> Marker:
    """The marker of a match whose group `n`, or only group, is the number; `of` is its scale."""
    groups = match.groupdict()
    group: int | str = "n" if "n" in groups else 1
    number, of = match.group(group), groups.get("of")
    value = float(number)
    why = ""
    if of is not None and float(of) != form.high:
        why = f"out of range: a score out of {of}, but the scale ends at {form.high:g}"
    elif not form.low <= value <= form.high:
        why = f"out of range: {number} is not between {form.low:g} and {form.high:g}"
    elif form.whole and value != int(value):
        why = f"out of range: {number} is no whole number from {form.low:g} to {form.high:g}"
    return Marker(start, end, value, why, (match.span(group),))
