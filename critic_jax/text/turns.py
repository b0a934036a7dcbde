"""Conversations: turns, the places of their pictures, and how LLaVA's records become turns."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any, Literal

from critic_jax.errors import InputError

Role = Literal["system", "user", "assistant"]


class ImagePart(Enum):
    """The type of `IMAGE`, of which there is one."""

    IMAGE = "image"

    def __repr__(self) -> str:
        return "IMAGE"


IMAGE = ImagePart.IMAGE
"""The part of a turn that stands for one picture or one clip."""

Part = str | ImagePart


@dataclass(frozen=True)
class Turn:
    """What one speaker says: texts, taken literally, and places of pictures, in order."""

    role: Role
    parts: tuple[Part, ...]


SYSTEM_TURN = Turn("system", ("You are a helpful assistant.",))
"""The system turn of every LLaVA-OneVision conversation. It ends in a full stop."""

MARKER = "<image>"
_LEADING = re.compile(rf"\s*(?:{MARKER}\s*)+")
_ROLES: dict[str, Role] = {
    "human": "user",
    "user": "user",
    "gpt": "assistant",
    "assistant": "assistant",
    "system": "system",
}


def record_turns(conversations: Sequence[Mapping[str, Any]], pictures: int) -> list[Turn]:
    """The turns of a LLaVA record `[{"from": ..., "value": ...}, ...]`, the system turn in front.

    A system turn of the record's own replaces the default one. `<image>` stands for a picture only
    in these places; anywhere else it is plain text:

    - One picture: the marker that leads the first human turn. If none leads and there is just one
      in that turn, it moves to the front, as upstream trains. One newline parts it from the text.
    - Several pictures: every marker in a human turn, where it stands; there must be one for each.
    - No picture: none may lead.

    Raises InputError for markers that do not match `pictures`, for an unknown speaker, turns that
    do not alternate from a human one on, a value that is no text, or no turns.
    """
    turns = _checked(conversations)
    system, rest = SYSTEM_TURN, turns
    if turns[0][0] == "system":
        system, rest = Turn("system", (turns[0][1],)), turns[1:]
    if pictures > 1:
        total = sum(value.count(MARKER) for role, value in rest if role == "user")
        if total != pictures:
            raise InputError(_mismatch(total, pictures))
        return [system, *(Turn(r, _in_place(v) if r == "user" else (v,)) for r, v in rest)]
    first = Turn("user", _first_parts(rest[0][1], pictures))
    return [system, first, *(Turn(role, (value,)) for role, value in rest[1:])]


def leading_markers(text: str, pictures: int) -> str:
    """The text without the `<image>` markers in front of it, if there are any.

    For a question that may or may not carry the markers of its own pictures. Raises InputError when
    markers lead the text and their number is not that of the pictures, or when the text holds more
    markers than there are pictures: a question about a picture that is not there.
    """
    lead = _LEADING.match(text)
    count = lead.group().count(MARKER) if lead else 0
    if count not in (0, pictures):
        raise InputError(_mismatch(count, pictures))
    if text.count(MARKER) > pictures:
        raise InputError(_mismatch(text.count(MARKER), pictures))
    return text[lead.end() :] if lead else text


def _checked(conversations: Sequence[Mapping[str, Any]]) -> list[tuple[Role, str]]:
    """(role, text) of each turn, once speakers, types and order are found right."""
    if not isinstance(conversations, list | tuple):
        raise InputError('conversations should be a list of {"from": ..., "value": ...}')
    turns: list[tuple[Role, str]] = []
    for number, turn in enumerate(conversations, 1):
        where = f"conversations turn {number}"
        if not isinstance(turn, Mapping):
            raise InputError(f'{where} is {type(turn).__name__}; it should be {{"from", "value"}}')
        speaker, value = turn.get("from"), turn.get("value")
        role = _ROLES.get(speaker) if isinstance(speaker, str) else None
        if role is None:
            raise InputError(f"{where} is from {speaker!r}; it should be human, gpt or system")
        if not isinstance(value, str):
            raise InputError(f"{where} has a {type(value).__name__} as value; it should be a text")
        if role == "system":
            expected: tuple[Role, ...] = ("system",) if number == 1 else ()
        else:
            expected = ("assistant",) if turns and turns[-1][0] == "user" else ("user",)
        if role not in expected:
            before = f"after one from {turns[-1][0]}" if turns else "at the start"
            raise InputError(
                f"{where} is from {speaker} {before}; "
                "human and gpt should take turns, human first, system at most in front"
            )
        turns.append((role, value))
    if not any(role == "user" for role, _ in turns):
        raise InputError("conversations has no human turn; it should begin with one")
    return turns


def _first_parts(value: str, pictures: int) -> tuple[Part, ...]:
    """The first human turn of a record with one picture or none."""
    lead = _LEADING.match(value)
    leading = lead.group().count(MARKER) if lead else 0
    if pictures == 0:
        if leading:
            raise InputError(_mismatch(leading, 0))
        return (value,)
    if lead is not None and leading == 1:
        text = value[lead.end() :]
    elif leading == 0 and value.count(MARKER) == 1:
        text = value.replace(MARKER, "").strip()
    else:
        raise InputError(_mismatch(leading or value.count(MARKER), pictures))
    return (IMAGE, "\n" + text) if text else (IMAGE,)


def _in_place(value: str) -> tuple[Part, ...]:
    """The text cut at its markers, each replaced by a picture; empty texts left out."""
    parts: list[Part] = []
    for number, text in enumerate(value.split(MARKER)):
        if number:
            parts.append(IMAGE)
        if text:
            parts.append(text)
    return tuple(parts)


def _mismatch(markers: int, pictures: int) -> str:
    def counted(count: int, noun: str) -> str:
        return f"{count} {noun}" + ("" if count == 1 else "s")

    found = f"{counted(markers, '<image> marker')} and {counted(pictures, 'picture')}"
    return f"{found}; there should be one marker for each picture, in front of the first question"
