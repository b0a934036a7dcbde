"""Answers to be judged, as `critic-data answers` writes them: JSONL, one answer a line."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from critic_jax.data import BadRecord, picture_sources, scan_json_lines
from critic_jax.data.records import record_id
from critic_jax.errors import InputError
from critic_jax.text import leading_markers

from .packing import Picture

_TEXTS = ("question", "response")
_MAY_BE = ("pair", "reference", "template", "source", "domain", "response_model")


@dataclass(frozen=True)
class Case:
    """One answer. pair: the id that all answers to one question about one picture share.

    Texts that a line does not hold are "".
    """

    id: str
    line: int
    images: tuple[Picture, ...]
    question: str
    response: str
    pair: str
    reference: str = ""
    template: str = ""
    source: str = ""
    domain: str = ""
    response_model: str = ""


def read_cases(path: Path) -> tuple[list[Case], list[BadRecord]]:
    """The answers of a file, and its wrong lines.

    Raises InputError for a file that is missing, unreadable or holds no answer.
    """
    cases: dict[str, Case] = {}
    wrong: list[BadRecord] = []
    for line, found in scan_json_lines(path):
        name = None
        try:
            if isinstance(found, InputError):
                wrong.append(BadRecord(line, None, str(found)))
                continue
            name = record_id(found)
            if name in cases:
                raise InputError(f"field 'id': {name!r} is taken by line {cases[name].line}")
            cases[name] = _case(found, name, line, path.parent)
        except InputError as error:
            wrong.append(BadRecord(line, name, f"{path} line {line}: {error}"))
    if not cases:
        raise InputError(wrong[0].reason if wrong else f"{path}: holds no answer")
    return list(cases.values()), wrong


def _case(fields: Mapping[str, Any], name: str, line: int, folder: Path) -> Case:
    texts = {}
    for field in (*_TEXTS, *_MAY_BE):
        value = fields.get(field)
        if value is None and field in _MAY_BE:
            continue
        if not isinstance(value, str) or (field in _TEXTS and not value.strip()):
            said = "missing" if value is None else repr(value)[:40]
            raise InputError(f"field '{field}' is {said}; it should be a text that is not empty")
        texts[field] = value
    images = picture_sources(fields, folder)
    texts["question"] = leading_markers(texts["question"], len(images)).strip()
    return Case(name, line, images, **{"pair": name, **texts})
