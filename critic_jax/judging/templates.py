"""The questions that a judge is asked, by name: those of the library, and users' own files.

A template turns a question and one answer (pointwise), two (pairwise) or several (batch) into the
text of the user's turn, and says in which format the verdict comes back;
`verdicts.parse_verdict` reads that format.
"""

from __future__ import annotations

import os

from critic_jax.errors import InputError
from critic_jax.judging.formats import Template
from critic_jax.judging.library import TABLE
from critic_jax.judging.template_file import read_template

__all__ = ["Template", "get_template", "template_names"]

_BY_NAME = {template.name: template for template in TABLE}


def template_names() -> tuple[str, ...]:
    """The names of the library, in the order of its table."""
    return tuple(_BY_NAME)


def get_template(name: str | os.PathLike[str]) -> Template:
    """The template of that name, or that of a file: a path, with a `/` in it or a suffix.

    Raises InputError, with the known names, when there is none, and for a file that is wrong.
    """
    text = os.fspath(name)
    if text in _BY_NAME:
        return _BY_NAME[text]
    if os.sep in text or "/" in text or os.path.splitext(text)[1]:
        return read_template(text)
    raise InputError(
        f"no template is called {text!r}; there are {', '.join(_BY_NAME)}; "
        "a file of your own is named by its path, such as ./mine.txt"
    )
