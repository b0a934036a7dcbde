"""A user's own template: a plain text file with the sections role, criteria, scale, output format.

    # role
    You judge captions for people who cannot see the picture.

    # criteria
    Is everything there that such a reader needs?

    # scale
    1 to 5 in whole numbers
    1 is of no use, 5 leaves nothing to ask.

    # output format
    Explain first, then close with the line Score: N.

The output format says in the judge's own words how the verdict is written, and must hold one of the
marks that the parser reads; the mark tells whether one answer is scored or two are compared.
"""

from __future__ import annotations

import math
import os
import re
from pathlib import Path
from typing import cast

from critic_jax.errors import InputError
from critic_jax.judging.formats import (
    BRACKET_CRITERIA,
    BRACKET_REFERENCE,
    BetterFormat,
    Format,
    Kind,
    LabelFormat,
    ScoreFormat,
    ScoreMarker,
    Template,
    TwoScoreFormat,
)

SECTIONS = ("role", "criteria", "scale", "output format")
_NEEDED = ("role", "output format")

_HEADING = re.compile(r"#[ \t]*([A-Za-z][A-Za-z _-]*?)[ \t]*:?")
_SLOT = re.compile(r"\{\w*\}")

# How the output format writes the verdict -> the marker of a score, or a form for two answers.
_MARKS = {
    r"final score: N\b": "final-score",
    r"(?<!final )\bscore: N\b": "score",
    r"\brating: N\b": "rating",
    r"\brating: \[\[N\]\]": "rating-brackets",
    r"\[RESULT\] N\b": "result",
    r"\bjudgement: (?:\[\[N\]\]|N\b)": "judgement",
    r"(?<!: )\bN N\b": "two scores",
    r"\bthe better response: \[": "better",
    r"\[\[(?!N\]\])[^\[\]\n]+\]\]": "labels",
}
_SHOWN = (
    "Score: N, Final Score: N, Rating: N, Rating: [[N]], [RESULT] N or Judgement: N for one "
    "answer; N N, The better response: [first] or labels such as [[A]] for two"
)
_RANGE = re.compile(
    r"(?P<low>-?[0-9.]+)[ \t]*(?:to|-|\u2013)[ \t]*(?P<high>-?[0-9.]+)"
    r"(?P<whole>,?[ \t]*(?:in[ \t]+)?whole(?:[ \t]+numbers?)?)?[ \t]*[.]?"
)
_LABEL = re.compile(r"\[\[[ \t]*([^\[\]\n]{1,12}?)[ \t]*\]\][ \t]*[=:][ \t]*(\S+)[ \t]*")
_MEANINGS = {"first": "A", "second": "B", "tie": "tie"} | {
    verdict: verdict for verdict in ("A>>B", "A>B", "A=B", "B>A", "B>>A", "A", "B")
}

_ONE = """
[Question]
{question}
[End of Question]

{reference}[Response]
{response}
[End of Response]"""

_TWO = """
[Question]
{question}
[End of Question]

{reference}[The first response]
{response_a}
[End of the first response]

[The second response]
{response_b}
[End of the second response]"""


def read_template(path: str | os.PathLike[str]) -> Template:
    """The template of a file; its name is the path as given.

    Raises InputError that names the file and the section, what is wrong and what would be right.
    """
    name = os.fspath(path)
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is no UTF-8 text"
        raise InputError(f"template {name} cannot be read: {why}") from None
    try:
        sections = _sections(text)
        form, kind = _form(sections)
    except InputError as error:
        raise InputError(f"template {name}: {error}") from None
    said = [sections["role"], sections.get("scale", ""), sections["output format"]]
    words = "\n".join(part for part in said if part)
    return Template(
        name,
        kind,
        form,
        words + "\n\n{criteria}" + (_ONE if kind == "pointwise" else _TWO).lstrip("\n"),
        BRACKET_CRITERIA,
        BRACKET_REFERENCE,
        sections.get("criteria"),
    )


def _sections(text: str) -> dict[str, str]:
    """The text of each section; empty ones are left out."""
    found: dict[str, list[str]] = {}
    lines: list[str] | None = None
    for number, line in enumerate(text.lstrip("\ufeff").splitlines(), 1):
        heading = _HEADING.fullmatch(line.rstrip())
        if heading:
            title = re.sub(r"[ \t_-]+", " ", heading[1].lower())
            if title not in SECTIONS:
                raise InputError(
                    f"line {number}: no section is called {heading[1]!r}; "
                    f"there are {', '.join(SECTIONS)}"
                )
            if title in found:
                raise InputError(f"line {number}: section {title!r} stands twice; join the two")
            lines = found[title] = []
        elif lines is not None:
            if slot := _SLOT.search(line):
                raise InputError(
                    f"section {list(found)[-1]!r}, line {number}: {slot[0]} is not filled in; "
                    "question and answers are put behind the sections by themselves"
                )
            lines.append(line)
        elif line.strip():
            raise InputError(
                f"line {number}: {line.strip()[:40]!r} stands before the first section; "
                "begin with the line # role"
            )
    texts = {title: "\n".join(found[title]).strip() for title in found}
    for title in _NEEDED:
        if not texts.get(title):
            raise InputError(f"section {title!r} is missing or empty; write it below # {title}")
    return {title: text for title, text in texts.items() if text}


def _form(sections: dict[str, str]) -> tuple[Format, Kind]:
    output = re.sub(r"[*`]", "", sections["output format"])
    marks = [mark for words, mark in _MARKS.items() if re.search(words, output, re.IGNORECASE)]
    if len(marks) != 1:
        said = "holds no mark" if not marks else f"holds several marks ({', '.join(marks)})"
        raise InputError(f"section 'output format' {said}; it should hold one: {_SHOWN}")
    (mark,) = marks
    if mark == "better":
        return BetterFormat(), "pairwise"
    if mark == "labels":
        return LabelFormat(_labels(sections, output)), "pairwise"
    low, high, whole = _range(sections)
    if mark == "two scores":
        if whole:
            raise InputError("section 'scale': two scores may be halves; leave out 'whole numbers'")
        return TwoScoreFormat(low, high), "pairwise"
    bare = mark == "score"
    return ScoreFormat(cast(ScoreMarker, mark), low, high, whole, bare), "pointwise"


def _range(sections: dict[str, str]) -> tuple[float, float, bool]:
    right = "it should be LOW to HIGH, such as 0 to 100 or 1 to 5 in whole numbers"
    if "scale" not in sections:
        raise InputError(f"section 'scale' is missing or empty; {right}")
    first = sections["scale"].split("\n", 1)[0].strip()
    match = _RANGE.fullmatch(first)
    try:
        if match is None:
            raise ValueError
        low, high = float(match["low"]), float(match["high"])
    except ValueError:
        raise InputError(f"section 'scale': its first line is {first!r}; {right}") from None
    if not (math.isfinite(low) and low < high):
        raise InputError(f"section 'scale': {low:g} is not below {high:g}; {right}")
    return low, high, match["whole"] is not None


def _labels(sections: dict[str, str], output: str) -> dict[str, str]:
    """What the scale says of each label that the output format names."""
    right = "it should have a line for each label, such as [[A]] = first, [[B]] = second"
    labels: dict[str, str] = {}
    for line in sections.get("scale", "").splitlines():
        if match := _LABEL.fullmatch(line.strip()):
            if match[2] not in _MEANINGS:
                raise InputError(
                    f"section 'scale': label [[{match[1]}]] means {match[2]!r}; "
                    f"it should mean one of {', '.join(_MEANINGS)}"
                )
            labels[re.sub(r"[ \t]", "", match[1])] = _MEANINGS[match[2]]
    if len(set(labels.values())) < 2:
        raise InputError(f"section 'scale' explains {len(labels)} labels; {right}")
    named = re.findall(r"\[\[[ \t]*([^\[\]\n]+?)[ \t]*\]\]", output)
    for label in (re.sub(r"[ \t]", "", name) for name in named):
        if label not in labels:
            raise InputError(f"section 'scale' does not explain the label [[{label}]]; {right}")
    return labels
