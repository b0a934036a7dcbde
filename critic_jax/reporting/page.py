"""A page: a title and pieces below it, in one file that needs nothing else."""

import base64
import hashlib
import os
from collections.abc import Sequence
from importlib import resources
from pathlib import Path

from critic_jax.files import write_atomically
from critic_jax.reporting.html import Html, element, join


class Page:
    """A page that grows from top to bottom.

    `page.add(paragraph("..."), table(...))`, then `page.write(path)`. Its content policy allows
    no network and no script or style but the page's own, so even markup that slipped in is inert.
    """

    def __init__(self, title: str, lead: str = "") -> None:
        self.title = title
        self._pieces: list[Html] = [
            element("h1", title, dir="auto"),
            *([element("p", lead, class_="lead", dir="auto")] if lead else []),
        ]

    def add(self, *pieces: str) -> None:
        """Append pieces; a plain string becomes a paragraph."""
        for piece in pieces:
            self._pieces.append(piece if isinstance(piece, Html) else paragraph(piece))

    def render(self) -> str:
        """The whole document."""
        style, script = _part("page.css"), _part("page.js")
        policy = (
            "default-src 'none'; img-src data:; base-uri 'none'; form-action 'none'; "
            f"style-src '{_digest(style)}'; script-src '{_digest(script)}'"
        )
        head = element(
            "head",
            element("meta", charset="utf-8"),
            Html(f'<meta http-equiv="Content-Security-Policy" content="{policy}">'),
            element("meta", name_="viewport", content="width=device-width, initial-scale=1"),
            element("meta", name_="color-scheme", content="light dark"),
            element("link", rel="icon", href="data:,"),
            element("title", self.title),
            element("style", Html(style)),
        )
        body = element("body", element("main", join(self._pieces)), element("script", Html(script)))
        return f"<!doctype html>\n{element('html', head, body, lang='en')}\n"

    def write(self, path: str | os.PathLike[str]) -> Path:
        """Write the page; an older one at `path` is replaced in one step. Returns the path."""
        return write_atomically(path, self.render())


def paragraph(text: str) -> Html:
    """Text as a paragraph."""
    return element("p", text, dir="auto")


def section(heading: str, *pieces: str) -> Html:
    """Pieces under a heading; a plain string becomes a paragraph."""
    parts: Sequence[Html] = [p if isinstance(p, Html) else paragraph(p) for p in pieces]
    return element("section", element("h2", heading, dir="auto"), *parts)


def _part(name: str) -> str:
    return resources.files(__package__).joinpath(name).read_text(encoding="utf-8")


def _digest(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode("ascii")
