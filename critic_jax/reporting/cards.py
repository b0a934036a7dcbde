"""Cards of judged pictures, and a deck of cards that filters."""

import base64
import io
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image, ImageOps

from critic_jax.reporting.html import Html, element, join

Picture = Image.Image | bytes | str | os.PathLike[str]

# Pixels of the longer side: twice what a card shows, for dense screens.
THUMBNAIL_SIDE = 384


@dataclass(frozen=True)
class Ruling:
    """One verdict on what a card shows.

    label: which asking this was, such as "A first"; right: whether the verdict is the true one,
    None where nobody knows; raw: what the judge wrote, word for word.
    """

    verdict: str
    reason: str = ""
    raw: str = ""
    right: bool | None = None
    label: str = ""


@dataclass(frozen=True)
class Card:
    """A picture or several, a question, the answers to it and what the judge said about them.

    answers: (label, text) each; best: the place in `answers` of the one that should win, if any;
    truth: what the right verdict is; tags: what the deck's filters look for.
    """

    picture: Picture | tuple[Picture, ...] | None
    question: str
    answers: tuple[tuple[str, str], ...]
    rulings: tuple[Ruling, ...]
    truth: str = ""
    best: int | None = None
    tags: tuple[str, ...] = ()
    name: str = ""


def thumbnail(picture: Picture, side: int = THUMBNAIL_SIDE) -> str | None:
    """The picture as a data URI, at most `side` pixels long; None where it cannot be read."""
    try:
        if isinstance(picture, Image.Image):
            image = picture
        else:
            source = io.BytesIO(picture) if isinstance(picture, bytes) else picture
            with Image.open(source) as opened:
                opened.draft("RGB", (side, side))
                image = ImageOps.exif_transpose(opened)
        small = image.copy() if image.mode in ("L", "RGB") else image.convert("RGBA")
        small.thumbnail((side, side))
        buffer = io.BytesIO()
        small.save(buffer, format="PNG", optimize=True)
        if buffer.tell() > 40_000 and small.mode != "RGBA":  # a photograph
            buffer = io.BytesIO()
            small.save(buffer, format="JPEG", quality=85)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return None
    kind = "jpeg" if buffer.getvalue()[:2] == b"\xff\xd8" else "png"
    return f"data:image/{kind};base64,{base64.b64encode(buffer.getvalue()).decode('ascii')}"


def card(content: Card) -> Html:
    """One card as an article."""
    answers = [
        element(
            "div",
            element(
                "h4", label, element("span", "best", class_="badge") if n == content.best else ""
            ),
            element("p", text, dir="auto"),
            class_="answer best" if n == content.best else "answer",
        )
        for n, (label, text) in enumerate(content.answers)
    ]
    return element(
        "article",
        element(
            "header",
            _figure(content.picture),
            element(
                "div",
                element("p", content.name, class_="name") if content.name else None,
                element("h3", content.question, dir="auto"),
                element("p", join([element("span", tag, class_="tag") for tag in content.tags]))
                if content.tags
                else None,
            ),
        ),
        element("div", join(answers), class_="answers"),
        element("p", "True verdict: ", element("b", content.truth)) if content.truth else None,
        join([_ruling(ruling) for ruling in content.rulings]),
        class_="card",
        data_tags=json.dumps(content.tags),
    )


def deck(cards: Sequence[Card], filters: Sequence[Sequence[str]] = ()) -> Html:
    """Cards under a bar of filters.

    filters: groups of tags; of each group one tag, or all, is chosen, and a card is shown when it
    has all chosen tags and holds the searched text. The bar appears only where scripts run.
    """
    groups = [
        element(
            "div",
            element("button", "all", type="button", data_tag="", aria_pressed="true"),
            *(
                element("button", tag, type="button", data_tag=tag, aria_pressed="false")
                for tag in group
            ),
            role="group",
            class_="choice",
        )
        for group in filters
    ]
    bar = element(
        "div",
        *groups,
        element(
            "input", type="search", placeholder="Search the text", aria_label="Search the text"
        ),
        element("output", f"{len(cards):,} shown"),
        class_="filters",
        hidden=True,
    )
    return element(
        "div", bar, element("div", join([card(c) for c in cards]), class_="cards"), class_="deck"
    )


def _figure(picture: Picture | tuple[Picture, ...] | None) -> Html | None:
    if picture is None:
        return None
    if isinstance(picture, tuple):
        return element("div", *map(_image, picture), class_="pictures")
    return _image(picture)


def _image(picture: Picture) -> Html:
    uri = thumbnail(picture)
    if uri is None:
        return element("p", "This picture cannot be read.", class_="unreadable")
    return element("img", src=uri, alt="The judged picture", loading="lazy", decoding="async")


def _ruling(ruling: Ruling) -> Html:
    tone = {True: "right", False: "wrong", None: "open"}[ruling.right]
    mark = {True: "✓", False: "✗", None: ""}[ruling.right]
    return element(
        "div",
        element(
            "p",
            element("span", ruling.label, class_="label") if ruling.label else None,
            element("b", f"{mark} {ruling.verdict}".strip(), class_="verdict"),
            element("span", tone, class_="sr") if mark else None,
        ),
        element("p", ruling.reason, class_="reason", dir="auto") if ruling.reason else None,
        element("details", element("summary", "Raw text"), element("pre", ruling.raw, dir="auto"))
        if ruling.raw
        else None,
        class_=f"ruling {tone}",
    )
