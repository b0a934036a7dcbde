"""Preference pairs: a prompt, the answer that was chosen and the one that was rejected.

    {"id": "p1", "image": "pictures/1.png", "prompt": "Which digit is this?",
     "chosen": "It is a 7.", "rejected": "It is a 1."}

The row of LLaVA-NeXT's DPO. `image` is what `critic_jax.data.records` takes: one picture, several
or none. `<image>` markers in front of the prompt are left out. A pair may carry what a reference
model says of its answers: `"reference_logprobs": {"chosen": -3.25, "rejected": -9.5}`, and beside
them the label rule and the model that they were taken with (`labels`, `model`, `fingerprint`).
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from critic_jax.data.json_lines import read_json_lines
from critic_jax.data.records import picture_sources, record_id, shown
from critic_jax.errors import InputError
from critic_jax.text import leading_markers

ANSWERS = ("chosen", "rejected")


@dataclass(frozen=True)
class Reference:
    """Summed log-probabilities of both answers by a reference model.

    labels, model, fingerprint: the label rule that says which tokens are summed, and whose they
    are; "" where the file does not tell.
    """

    chosen: float
    rejected: float
    labels: str = ""
    model: str = ""
    fingerprint: str = ""


@dataclass(frozen=True)
class Pair:
    """One preference pair, well-formed as far as its own fields tell.

    Attributes:
        id: not empty, unique within its file.
        images: a path, or the bytes of a picture file, for each picture.
        prompt: without markers for the pictures in front.
        reference: what its line carries of a reference model.
        fields: the line as it was read.
        line: line of the file on which the pair begins.
        place: file and line in words, for messages.
    """

    id: str
    images: tuple[Path | bytes, ...]
    prompt: str
    chosen: str
    rejected: str
    reference: Reference | None
    fields: Mapping[str, Any]
    line: int
    place: str


def read_pairs(path: str | os.PathLike[str]) -> list[Pair]:
    """The pairs of a JSONL or JSON array file, in order; relative pictures from the file's folder.

    Raises InputError for the first line that is wrong, and for a file without any.
    """
    folder = Path(path).parent
    pairs: list[Pair] = []
    first_line: dict[str, int] = {}
    for line, fields in read_json_lines(path):
        place = f"{os.fspath(path)} line {line}"
        try:
            pair = make_pair(fields, folder, line, place)
            if pair.id in first_line:
                raise InputError(f"field 'id': {pair.id!r} is taken by line {first_line[pair.id]}")
            first_line[pair.id] = line
            pairs.append(pair)
        except InputError as error:
            raise InputError(f"{place}: {error}") from None
    if not pairs:
        raise InputError(f"{os.fspath(path)}: holds no pairs")
    return pairs


def make_pair(fields: Mapping[str, Any], folder: Path, line: int, place: str) -> Pair:
    """The pair of a line's fields, relative picture paths taken from `folder`.

    line, place: as in `Pair`. Raises InputError that names the field, not the place.
    """
    name = record_id(fields)
    for field in ("prompt", *ANSWERS):
        if not isinstance(fields.get(field), str):
            said = shown(fields[field]) if field in fields else "missing"
            raise InputError(
                f"field '{field}' is {said}; it should be a text "
                "(a pair has id, image, prompt, chosen and rejected)"
            )
    images = picture_sources(fields, folder)
    try:
        prompt = leading_markers(fields["prompt"], len(images))
    except InputError as error:
        raise InputError(f"field 'prompt': {error}") from None
    reference = _reference(fields.get("reference_logprobs"))
    answers = fields["chosen"], fields["rejected"]
    return Pair(name, images, prompt, *answers, reference, fields, line, place)


def _reference(value: Any) -> Reference | None:
    if value is None:
        return None
    if not isinstance(value, dict):
        raise InputError(
            f"field 'reference_logprobs' is {shown(value)}; it should be an object with a number "
            "for chosen and one for rejected"
        )
    for answer in ANSWERS:
        number = value.get(answer)
        if isinstance(number, bool) or not isinstance(number, int | float):
            said = shown(number) if answer in value else "missing"
            raise InputError(
                f"field 'reference_logprobs.{answer}' is {said}; it should be a number"
            )
        if not (math.isfinite(number) and number <= 0):
            raise InputError(
                f"field 'reference_logprobs.{answer}' is {number}; a sum of log-probabilities is "
                "0 or below"
            )
    told = {name: value.get(name, "") for name in ("labels", "model", "fingerprint")}
    for name, text in told.items():
        if not isinstance(text, str):
            raise InputError(
                f"field 'reference_logprobs.{name}' is {shown(text)}; it should be a text"
            )
    return Reference(float(value["chosen"]), float(value["rejected"]), **told)


def with_reference(pair: Pair, reference: Reference, folder: Path) -> dict[str, Any]:
    """The pair's line with a reference; relative pictures as they are found from `folder`."""
    line = dict(pair.fields)
    image = line.get("image")
    if image is not None:
        found = [
            os.path.relpath(source, folder) if isinstance(source, Path) else given
            for source, given in zip(
                pair.images, image if isinstance(image, list) else [image], strict=True
            )
        ]
        line["image"] = found if isinstance(image, list) else found[0]
    told = {name: getattr(reference, name) for name in ("labels", "model", "fingerprint")}
    line["reference_logprobs"] = {
        "chosen": reference.chosen,
        "rejected": reference.rejected,
        **{name: text for name, text in told.items() if text},
    }
    return line
