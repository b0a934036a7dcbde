"""Judge input: one JSON object a line, checked before any model is loaded."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from critic_jax.data import BadRecord, scan_json_lines
from critic_jax.data.records import picture_sources
from critic_jax.errors import InputError
from critic_jax.judging.critic import DEFAULT_PAIRWISE, DEFAULT_POINTWISE
from critic_jax.judging.templates import Template, get_template
from critic_jax.text import leading_markers

_FIELDS = "question and response, or question, response_a and response_b"
_TEXTS = ("question", "response", "response_a", "response_b", "reference", "criteria")


@dataclass(frozen=True)
class JudgeLine:
    """One line to judge. `where` names it in messages; `texts` fill the template."""

    id: str
    where: str
    line: int
    images: tuple[Path | bytes, ...]
    template: Template
    texts: dict[str, str | None]

    @property
    def pairwise(self) -> bool:
        """Whether two answers are compared."""
        return self.template.kind == "pairwise"

    def shown(self, folder: Path) -> dict[str, Any]:
        """What a page about this line's judgment shows: `image`, `question` and the answers.

        Paths of pictures are written as seen from `folder`, that of the results, so that they are
        found from there as the input's are from the input. Pictures given as bytes are left out.
        """
        fields: dict[str, Any] = {}
        paths = [_seen_from(folder, i) for i in self.images if isinstance(i, Path)]
        if paths and len(paths) == len(self.images):
            fields["image"] = paths[0] if len(paths) == 1 else paths
        named = ("question", "response", "response_a", "response_b")
        return fields | {n: self.texts[n] for n in named if self.texts[n] is not None}


def _seen_from(folder: Path, image: Path) -> str:
    """The path of a picture from a folder; either may stand behind a symbolic link."""
    return os.path.relpath(image.parent.resolve() / image.name, folder.resolve())


def read_judge_lines(path: Path) -> Iterator[JudgeLine | BadRecord]:
    """Each line of a file, checked; a BadRecord for each wrong one.

    Raises InputError for a file that is missing or unreadable.
    """
    seen: dict[str, int] = {}
    for number, found in scan_json_lines(path):
        if isinstance(found, InputError):
            yield BadRecord(number, None, str(found))
            continue
        where = f"{path} line {number}"
        try:
            line = _line(found, where, number, path.parent)
            if line.id in seen:
                raise InputError(f"id {line.id!r} is taken by line {seen[line.id]}")
            seen[line.id] = number
        except InputError as e:
            name = found.get("id")
            yield BadRecord(number, None if name is None else str(name), f"{where}: {e}")
        else:
            yield line


def _line(fields: dict[str, Any], where: str, number: int, folder: Path) -> JudgeLine:
    name = fields.get("id")
    if isinstance(name, bool) or not isinstance(name, str | int) or name == "":
        raise InputError("field 'id' is missing or no text; every line needs one of its own")
    texts: dict[str, str | None] = {}
    for field in _TEXTS:
        value = fields.get(field)
        if value is not None and not isinstance(value, str):
            raise InputError(f"field '{field}' is {type(value).__name__}; it should be a text")
        texts[field] = value
    pair = texts["response_a"] is not None or texts["response_b"] is not None
    wanted = ("response_a", "response_b") if pair else ("response",)
    absent = [f for f in ("question", *wanted) if texts[f] is None]
    if absent:
        raise InputError(f"field '{absent[0]}' is missing; a line holds {_FIELDS}")
    template = fields.get("template") or (DEFAULT_PAIRWISE if pair else DEFAULT_POINTWISE)
    if not isinstance(template, str):
        raise InputError("field 'template' should be the name of a template")
    images = picture_sources(fields, folder)
    # A question may carry the placeholders of its own pictures; answers are taken literally.
    texts["question"] = leading_markers(texts["question"] or "", len(images))
    known = get_template(template)
    known.render(**{k: v for k, v in texts.items() if v is not None})
    return JudgeLine(str(name), where, number, images, known, texts)
