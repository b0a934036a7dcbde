"""Where a verdict's marker stands in a judge's text, one finder for each format.

A finder yields every marker that it sees, also those that cannot be used, with the reason why.
It works on flattened text (`flatten`), whose offsets are those of the text itself.

A statement counts where it is the judge's own: at the start of a line or of a sentence, followed
by its end, and not inside a quotation. "2 images show 3 dogs", "Score: 85 or 90",
`it says "Score: 100"` and "if it named the cat, I would give a score of 95 out of 100" are none.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from critic_jax.judging.fields import (
    FIELD_OF,
    field_scores,
    judgement_labels,
    judgement_scores,
    ranks,
)
from critic_jax.judging.formats import (
    BetterFormat,
    Format,
    LabelFormat,
    RankFormat,
    ScoreFormat,
    TwoScoreFormat,
)
from critic_jax.judging.statements import BEGIN, NUMBER, SLASH, Marker, on_scale, quoted, regex


def find_markers(flat: str, form: Format) -> list[Marker]:
    """Every marker of that format in flattened text, in no particular order."""
    if isinstance(form, ScoreFormat):
        return list(_scores(flat, form))
    if isinstance(form, TwoScoreFormat):
        return list(_two_scores(flat, form))
    if isinstance(form, LabelFormat):
        return list(_labels(flat, form))
    if isinstance(form, RankFormat):
        return list(ranks(flat))
    assert isinstance(form, BetterFormat)
    return list(_overall(flat) if form.overall else _better(flat))


# Words that turn a statement into talk about statements: quotations, instructions ...
_ABOUT_MARKERS = re.compile(
    r"\b(?:contain|include|say|said|write|wrote|claim|ask|trie[sd]|try|ignor|example|such\sas"
    r"|format|form\b|placeholder|e\.g\.)",
    re.IGNORECASE,
)
# ... and suppositions and refusals.
_SUPPOSED = re.compile(
    r"\b(?:if|unless|had|would\shave|could|might|cannot|can't|won't|will\snot|do\snot|does\snot"
    r"|don't|doesn't|didn't|not|never|neither|nor|instead|rather\sthan|between|higher|lower"
    r"|maximum|perfect)\b",
    re.IGNORECASE,
)


# --- one number -------------------------------------------------------------------------------

_NAMES = {
    "score": r"(?:(?:my|the|overall|final|total)[ \t]+){0,3}score",
    "final-score": r"(?:(?:my|the|overall)[ \t]+){0,2}final[ \t]+score",
    "rating": r"(?:(?:my|the|overall|final)[ \t]+){0,3}rating",
}
_NAMED = {
    marker: regex(
        rf"""{BEGIN} (?P<all> {name} [ \t]* (?: [:=] | is\b[ \t]*:? | of\b ) [ \t]* [\[(]? [ \t]*
        (?P<n>{NUMBER}) (?P<percent>[ \t]*%)? (?: {SLASH} (?P<of>{NUMBER}) )? [ \t]*[\])]? )"""
    )
    for marker, name in _NAMES.items()
}
_NAMED["rating-brackets"] = regex(
    rf"{BEGIN} (?P<all> {_NAMES['rating']} [ \t]*:?[ \t]* \[\[ [ \t]*(?P<n>{NUMBER})[ \t]* \]\] )"
)
_NAMED["result"] = regex(
    rf"""(?P<all> \[RESULT\] [ \t]*:?\s* (?: score[ \t]*:?[ \t]* )? [\[(]? [ \t]*
    (?P<n>{NUMBER}) (?: {SLASH} (?P<of>{NUMBER}) )? [ \t]*[\])]? )"""
)
# What may follow a number: the end of its statement, a remark in brackets or behind a dash, a
# reason. Anything else makes it part of a sentence, a range or a longer number.
_AFTER_NUMBER = regex(
    r"""(?: [ \t]*points? )? [ \t]* (?: $ | [.!;\])] (?![0-9]) | [\u3002\uff1b] | \(
        | [-\u2013\u2014][ \t]+(?![0-9]) | ,?[ \t]*(?:because|since)\b )"""
)
# The MMHal benchmark's own style: `Rating: 4, somewhat informative`.
_REMARK = re.compile(r",[ \t]*[A-Za-z]")


def _scores(flat: str, form: ScoreFormat) -> Iterator[Marker]:
    if form.marker == "judgement":
        yield from judgement_scores(flat, form)
        return
    if form.marker in FIELD_OF:
        yield from field_scores(flat, form)
        return
    alone = re.fullmatch(rf"\s*({NUMBER})\s*", flat)
    if form.bare and alone:
        yield on_scale(form, *alone.span(1), alone)
        return
    for match in _NAMED[form.marker].finditer(flat):
        groups = match.groupdict()
        start, end = match.span("all")
        if quoted(flat, start):
            yield Marker(start, end, None, "malformed: the only score is quoted")
        elif form.marker == "result" and flat[end:].strip(" \t\n.\"'"):
            value = float(groups["n"])
            yield Marker(start, end, value, "malformed: [RESULT] does not end the text")
        elif form.marker in _NAMES and not (
            _AFTER_NUMBER.match(flat, end) or (form.marker == "rating" and _REMARK.match(flat, end))
        ):
            yield Marker(start, end, None, "malformed: the number is not the end of its statement")
        elif groups.get("percent") and form.high != 100:
            yield Marker(start, end, None, "malformed: a percentage on another scale")
        else:
            yield on_scale(form, start, end, match)
    if form.marker == "score":
        yield from _scores_in_prose(flat, form)


def _scores_in_prose(flat: str, form: ScoreFormat) -> Iterator[Marker]:
    """`I give it a score of 85 out of 100.`, and `85/100` alone on a line."""
    of = rf"{SLASH} (?P<of>{re.escape(f'{form.high:g}')}(?:\.0+)?) (?!\.?[0-9])"
    giving = regex(
        rf"\ban?[ \t]+(?:(?:overall|final|total)[ \t]+)?score[ \t]of[ \t]+(?P<n>{NUMBER}){of}"
    )
    for match in giving.finditer(flat):
        start, end = match.span()
        before = re.split(r"[.!?]\s|\n", flat[:start])[-1]
        after = re.split(r"[.!?](?:\s|$)|\n", flat[end:], maxsplit=1)[0]
        talk = any(words.search(before) for words in (_ABOUT_MARKERS, _SUPPOSED))
        talk = (
            talk or re.search(r"\b(?:if|unless|had|would|could|is|was|means)\b", after) is not None
        )
        if not talk and not quoted(flat, start):
            yield on_scale(form, end, end, match)
    for match in regex(rf"^[ \t]*(?P<all>(?P<n>{NUMBER}){of})[ \t]*\.?[ \t]*$").finditer(flat):
        if not quoted(flat, match.start("all")):
            yield on_scale(form, *match.span("all"), match)


# --- two numbers ------------------------------------------------------------------------------

# A comma needs a space behind it: "8,5" may be eight and a half.
_PAIR = regex(rf"\s*({NUMBER})(?:/10)?(?:[ \t]+|,[ \t]+)({NUMBER})(?:/10)?[ \t]*\.?[ \t]*(?=\n|\Z)")
_BLOCK = regex(
    rf"""^[ \t]*scores?[ \t]*:[ \t]*\n+
    [ \t]*(?:[-\u2022][ \t]+)?assistant[ \t]1[ \t]*:[ \t]*({NUMBER})(?:/10)?[ \t]*\n+
    [ \t]*(?:[-\u2022][ \t]+)?assistant[ \t]2[ \t]*:[ \t]*({NUMBER})(?:/10)?\s*\Z"""
)


def opens_with_two_scores(flat: str) -> bool:
    """Whether the first line holds two numbers and nothing else."""
    return _PAIR.match(flat) is not None


def _two_scores(flat: str, form: TwoScoreFormat) -> Iterator[Marker]:
    """The first line, or the block `Scores:` with a line for each assistant that ends the text."""
    for match in (_PAIR.match(flat), _BLOCK.search(flat)):
        if match is None:
            continue
        pair = (float(match.group(1)), float(match.group(2)))
        why = ""
        if not all(form.low <= number <= form.high for number in pair):
            scale = f"{form.low:g} to {form.high:g}"
            why = f"out of range: {pair[0]:g} and {pair[1]:g} on a scale of {scale}"
        yield Marker(match.start(), match.end(), pair, why, (match.span(1), match.span(2)))


# --- labels -----------------------------------------------------------------------------------

_LABEL = re.compile(r"\[\[[ \t]*([^\[\]\n]{1,12}?)[ \t]*\]\]")
_ANNOUNCES = re.compile(
    r"\b(?:verdict|judge?ment|decision|choice|choose|conclusion|conclude|answer\sis|result"
    r"|preference|rating|label|better|tie|tied|winner|equal\w*|about\sas\sgood)\b",
    re.IGNORECASE,
)
_HANDS_OVER = re.compile(
    r"\b(?:verdict|judge?ment|decision|choice)(?:\sis)?(?:\stie)?[ \t]*:?[ \t\"']*$", re.IGNORECASE
)


def _labels(flat: str, form: LabelFormat) -> Iterator[Marker]:
    fields = list(judgement_labels(flat, form)) if form.judgement else []
    yield from fields
    for match in _LABEL.finditer(flat):
        verdict = form.labels.get(re.sub(r"[ \t]", "", match.group(1)))
        if verdict is None or any(f.start <= match.start() < f.end for f in fields):
            continue  # such as an error mark in front of the real label
        before = re.split(r"[.!?]\s|\n", flat[: match.start()])[-1]
        ends = not flat[match.end() :].split("\n", 1)[0].strip(" \t\"').!:")
        hands_over = _HANDS_OVER.search(before) is not None
        if ends and not before.strip(" \t\"'(-\u2022"):
            stated = True  # a line of its own
        else:
            supposed = _SUPPOSED.search(before) and not before.rstrip().endswith(":")
            talk = supposed or _ABOUT_MARKERS.search(before)
            announced = _ANNOUNCES.search(before) is not None and (ends or hands_over)
            stated = announced and not talk
        if stated and not (quoted(flat, match.start()) and not hands_over):
            yield Marker(*match.span(), verdict, "", (match.span(1),))
        else:
            why = f"malformed: {match.group()} stands inside a sentence, not as the verdict"
            yield Marker(*match.span(), verdict, why)


# --- the better response ----------------------------------------------------------------------

_SIDES = {
    **dict.fromkeys(("first", "1", "a"), "A"),
    **dict.fromkeys(("second", "2", "b"), "B"),
    **dict.fromkeys(("tie", "equal", "both"), "tie"),
}
_SIDE = rf"(?:the[ \t]+)?(?:response[ \t]+)?({'|'.join(_SIDES)})(?:[ \t]+response)?"
# What makes of a named side a part of something longer: `[first] or [second]`, `[first] if ...`.
_GOES_ON = r"""[ \t]*,?[ \t]*
    (?: (?:or|and|nor|if|unless|would|could|might|but|vs|is|was|means)\b | [/?&|] )"""
_BETTER = regex(
    rf"""{BEGIN} (?P<all> (?:the[ \t]+)? better[ \t]+(?:response|answer) [ \t]*
    (?: : | is\b[ \t]*:? ) [ \t]*
    (?: \[[ \t]*{_SIDE}[ \t]*\] (?!{_GOES_ON}) | {_SIDE} (?=[ \t]*\.?[ \t]*$) ) )"""
)
_EQUAL = regex(
    rf"""{BEGIN} (?P<all>
    (?: (?:both|the[ \t]two)(?:[ \t]+of[ \t]+(?:them|the[ \t]+two))?(?:[ \t]+(?:responses|answers))?
      | they | the[ \t]+responses | the[ \t]+answers )
    [ \t]+are[ \t]+ (?: equally[ \t]+(?:good|bad|helpful|accurate) | of[ \t]+equal[ \t]+quality
      | tied | equal ) | it[ \t]+is[ \t]+a[ \t]+tie ) [ \t]* (?: [.!]+ | $ )"""
)


def _better(flat: str) -> Iterator[Marker]:
    for match in _BETTER.finditer(flat):
        if not quoted(flat, match.start("all")):
            group = next(n for n in (2, 3) if match.group(n))
            side = _SIDES[match.group(group).lower()]
            yield Marker(*match.span("all"), side, "", (match.span(group),))
    for match in _EQUAL.finditer(flat):
        start, rest = match.start("all"), flat[match.end() :].lstrip(" \t")
        opens = not flat[:start].strip() and re.match(r"\n|reasons?\b", rest, re.IGNORECASE)
        # Elsewhere the sentence is one point among others ("... But the first is shorter.").
        if (opens or not rest.strip()) and not quoted(flat, start):
            yield Marker(start, match.end(), "tie")


# Each `Overall Judgment: Answer 1 is better.`, also with a word of strength and "than Answer 2".
_OVERALL = regex(
    rf"""{BEGIN} (?P<all> (?:(?:my|the)[ \t]+)? overall[ \t]+judge?ment [ \t]*
    (?: : | is\b (?:[ \t]+that)? [ \t]*:? | (?=\n) ) \s* (?:[-\u2022\u2013\u2014][ \t]*)?
    (?: (?P<both> both[ \t]+answers[ \t]+are[ \t]+(?:equally[ \t]+good|equal) )
      | (?:the[ \t]+)? \[?[ \t]* answer[ \t]+(?P<n>[12]) [ \t]*\]? [ \t]+is [ \t]+
        (?: (?:slightly|significantly|clearly|much|marginally|overall)[ \t]+ )?
        (?: better (?:[ \t]+(?:overall|than[ \t]+answer[ \t]+[12]))?
          | the[ \t]+better[ \t]+(?:answer|one|choice|response) ) )
    ) (?=[ \t]*(?: [.!;,]+ (?:\s|$) | $ | (?:because|since|as)\b ))"""
)


def _overall(flat: str) -> Iterator[Marker]:
    for match in _OVERALL.finditer(flat):
        if not quoted(flat, match.start("all")):
            side = "tie" if match["both"] else _SIDES[match["n"]]
            places = () if match["both"] else (match.span("n"),)
            yield Marker(*match.span("all"), side, "", places)
