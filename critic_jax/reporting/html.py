"""Markup from Python: everything is escaped unless it is markup already."""

import html
import re
from collections.abc import Iterable

_VOID = frozenset({"br", "img", "input", "link", "meta"})

# What a page cannot hold: control characters other than tab and line ends, halves of surrogate
# pairs (UTF-8 has no bytes for them), and code points that are no characters.
_UNWRITABLE = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufdd0-\ufdef\ufffe\uffff]"
)


class Html(str):
    """A piece of markup: `element` puts it in as it is, while it escapes every other string."""

    __slots__ = ()


def escape(value: object) -> Html:
    """The value as text that stays text in an element and in a quoted attribute.

    Characters that a page cannot hold become U+FFFD, so that their place stays visible.
    """
    if isinstance(value, Html):
        return value
    return Html(html.escape(_UNWRITABLE.sub("\ufffd", str(value)), quote=True))


def element(name: str, *children: object, **attributes: object) -> Html:
    """`<name attributes>children</name>`.

    Attributes: a trailing underscore is dropped (`class_`), other underscores become dashes
    (`data_tag`); True writes the bare name; None and False leave the attribute out. Children that
    are None are left out.
    """
    opening = [name]
    for key, value in attributes.items():
        if value is None or value is False:
            continue
        key = key.removesuffix("_").replace("_", "-")
        # str() of an Html value is a plain string: an attribute quotes markup like any text.
        opening.append(key if value is True else f'{key}="{escape(str(value))}"')
    start = f"<{' '.join(opening)}>"
    if name in _VOID:
        return Html(start)
    inner = "".join(escape(child) for child in children if child is not None)
    return Html(f"{start}{inner}</{name}>")


def join(pieces: Iterable[object]) -> Html:
    """Pieces of markup or text, one after the other."""
    return Html("".join(escape(piece) for piece in pieces))
