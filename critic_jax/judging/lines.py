"""Judge input: the rows of a file, checked before any model is loaded."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from PIL import Image

from critic_jax.data import BadRecord
from critic_jax.data.records import picture_sources
from critic_jax.errors import InputError
from critic_jax.judging.ask import DEFAULT_PAIRWISE, DEFAULT_POINTWISE
from critic_jax.judging.input_rows import scan_rows
from critic_jax.judging.rank import DEFAULT_RANKING
from critic_jax.judging.templates import Template, get_template
from critic_jax.text import leading_markers

_FIELDS = "question and response, or response_a and response_b, or responses"
_TEXTS = ("question", "response", "response_a", "response_b", "reference", "criteria")


@dataclass(frozen=True)
class JudgeLine:
    """One line to judge. `where` names it in messages; `texts` fill the template.

    responses: the answers to rank; of other lines none.
    """

    id: str
    where: str
    line: int
    images: tuple[Path | bytes, ...]
    template: Template
    texts: dict[str, str | None]
    responses: tuple[str, ...] = ()

    @property
    def pairwise(self) -> bool:
        """Whether two answers are compared."""
        return self.template.kind == "pairwise" and not self.responses

    def shown(self, folder: Path) -> dict[str, Any]:
        """What a page about this line's judgment shows: `image`, `question` and the answers.

        folder: that of the results, as in `image_field`.
        """
        fields = image_field(self.images, folder)
        named = ("question", "response", "response_a", "response_b")
        if self.responses:
            return fields | {"question": self.texts["question"], "responses": list(self.responses)}
        return fields | {n: self.texts[n] for n in named if self.texts[n] is not None}


def image_field(images: Sequence[Path | bytes], folder: Path) -> dict[str, Any]:
    """The field `image` of a line that stands in `folder`; empty without pictures.

    Paths are written as seen from the folder, so that they are found from there. Pictures given as
    bytes are written to a folder `pictures` there, each once.
    """
    paths = [
        _seen_from(folder, i) if isinstance(i, Path) else write_picture(folder, i) for i in images
    ]
    return {"image": paths[0] if len(paths) == 1 else paths} if paths else {}


def write_picture(folder: Path, picture: bytes) -> str:
    """The path from a folder of a picture that is written there as a file of its own, once."""
    with Image.open(io.BytesIO(picture)) as image:
        kind = (image.format or "picture").lower()
    name = f"pictures/{sha256(picture).hexdigest()[:24]}.{kind}"
    path = folder / name
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(f".{path.name}.{os.getpid()}.part")
        part.write_bytes(picture)
        part.replace(path)
    return name


def _seen_from(folder: Path, image: Path) -> str:
    """The path of a picture from a folder; either may stand behind a symbolic link."""
    return os.path.relpath(image.parent.resolve() / image.name, folder.resolve())


def read_judge_lines(path: Path) -> Iterator[JudgeLine | BadRecord]:
    """Each line of a JSONL, CSV or parquet file, checked; a BadRecord for each wrong one.

    Raises InputError for a file that is missing or unreadable.
    """
    seen: dict[str, str] = {}
    for row in scan_rows(path):
        if isinstance(row.found, InputError):
            yield BadRecord(row.number, None, str(row.found))
            continue
        try:
            line = _line(row.found, row.where, row.number, path.parent)
            if line.id in seen:
                raise InputError(f"id {line.id!r} is taken by {seen[line.id]}")
            seen[line.id] = f"{row.word} {row.number}"
        except InputError as e:
            name = row.found.get("id")
            name = None if name is None else str(name)
            yield BadRecord(row.number, name, f"{row.where}: {e}")
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
    responses = _responses(fields)
    pair = texts["response_a"] is not None or texts["response_b"] is not None
    wanted = () if responses else ("response_a", "response_b") if pair else ("response",)
    absent = [f for f in ("question", *wanted) if texts[f] is None]
    if absent:
        raise InputError(f"field '{absent[0]}' is missing; a line holds {_FIELDS}")
    usual = DEFAULT_RANKING if responses else DEFAULT_PAIRWISE if pair else DEFAULT_POINTWISE
    template = fields.get("template") or usual
    if not isinstance(template, str):
        raise InputError("field 'template' should be the name of a template")
    images = picture_sources(fields, folder)
    # A question may carry the placeholders of its own pictures; answers are taken literally.
    texts["question"] = leading_markers(texts["question"] or "", len(images))
    known = get_template(template)
    given = {k: v for k, v in texts.items() if v is not None}
    if responses:
        if known.kind != "pairwise":
            raise InputError(
                f"template {known.name} judges "
                f"{'one answer' if known.kind == 'pointwise' else 'several answers at once'}; to "
                f"rank responses give one that compares two, such as {DEFAULT_RANKING}"
            )
        given |= {"response_a": responses[0], "response_b": responses[1]}
    known.render(**given)
    return JudgeLine(str(name), where, number, images, known, texts, responses)


def _responses(fields: dict[str, Any]) -> tuple[str, ...]:
    """The answers of a line to rank; none where it is another line."""
    value = fields.get("responses")
    if value is None:
        return ()
    if not isinstance(value, list) or not all(isinstance(text, str) for text in value):
        raise InputError("field 'responses' should be a list of texts")
    if len(value) < 2:
        raise InputError(f"field 'responses' holds {len(value)}; there should be 2 or more to rank")
    for other in ("response", "response_a", "response_b"):
        if fields.get(other) is not None:
            raise InputError(f"field '{other}' stands beside 'responses'; give one or the other")
    return tuple(value)
