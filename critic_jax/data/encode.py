"""From a record to a path of the token tree.

Pictures become tiles and taps, the conversation becomes tokens and weights.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from PIL import Image

from critic_jax.data.pairs import Pair
from critic_jax.data.records import Record
from critic_jax.errors import InputError
from critic_jax.imaging import ImageGeometry, Visual, open_picture, picture, picture_in_set
from critic_jax.text import (
    IMAGE,
    SYSTEM_TURN,
    ChatTokenizer,
    Encoded,
    Part,
    Turn,
    encode_chat,
    record_turns,
)
from critic_jax.tree import Path

PictureSource = str | os.PathLike[str] | bytes | Image.Image
LabelRule = Literal["answer", "upstream-sft", "upstream-dpo"]


def as_path(encoded: Encoded, visuals: Sequence[Visual], tokenizer: ChatTokenizer) -> Path:
    """An encoded conversation and its pictures as a path; each supervised token weighs 1."""
    places = np.flatnonzero(encoded.tokens == tokenizer.image)
    lengths = [len(v.tap_index) for v in visuals]
    firsts = np.cumsum([0, *lengths])[:-1]
    starts = tuple(int(places[f]) for f in firsts)
    weights = encoded.supervised.astype(np.float32)
    return Path(encoded.tokens.astype(np.int32), weights, tuple(visuals), starts)


def prepare_pictures(
    sources: Sequence[PictureSource], geometry: ImageGeometry, name: str
) -> tuple[Visual, ...]:
    """Open and tile pictures: one is cut into tiles at its resolution, several take one each.

    name: what messages call a picture that has no path.
    """
    images = [open_picture(s, name=name if isinstance(s, bytes) else None) for s in sources]
    if len(images) == 1:
        return (picture(images[0], geometry),)
    return tuple(picture_in_set(i, geometry) for i in images)


def prompt_path(
    text: str, visuals: Sequence[Visual], tokenizer: ChatTokenizer, system: Turn | None = None
) -> Path:
    """One question about some pictures, up to where the answer begins; `text` stays text."""
    lengths = [len(v.tap_index) for v in visuals]
    turns = [system or SYSTEM_TURN, _question(text, len(visuals))]
    return as_path(
        encode_chat(tokenizer, turns, lengths, generation_prompt=True), visuals, tokenizer
    )


def _question(text: str, pictures: int) -> Turn:
    """A user's turn: the pictures in front, a newline behind each, then the text as it is."""
    parts: list[Part] = []
    for _ in range(pictures):
        parts += [IMAGE, "\n"]
    return Turn("user", (*parts[:-1], "\n" + text) if pictures else (text,))


@dataclass(frozen=True)
class Encoder:
    """Everything that decides how a record becomes tokens."""

    tokenizer: ChatTokenizer
    geometry: ImageGeometry
    labels: LabelRule = "answer"
    loss_mean: Literal["record", "token"] = "record"

    def record(self, record: Record, visuals: Sequence[Visual]) -> Path:
        """A training record as a path, each supervised token weighing 1 / (their number).

        The weights of a record's targets then sum to 1: the mean over its tokens, as upstream's
        batch of one takes it. With `loss_mean` "token" each weighs 1. Raises InputError that names
        the record if a turn is wrong, or if nothing in it is supervised.
        """
        try:
            turns = record_turns(record.conversations, len(visuals))
            lengths = [len(v.tap_index) for v in visuals]
            encoded = encode_chat(self.tokenizer, turns, lengths, self.labels)
            path = as_path(encoded, visuals, self.tokenizer)
            count = int(np.count_nonzero(path.weights[1:]))
            if not count:
                raise InputError("no token is supervised; the last turn must be gpt's")
        except InputError as e:
            raise _of_record(record, e) from None
        return path.scaled(1.0 / count) if self.loss_mean == "record" else path

    def question(self, record: Record, visuals: Sequence[Visual]) -> Path:
        """A record up to where its last answer begins: what a critic is asked."""
        turns = record_turns(record.conversations, len(visuals))[:-1]
        lengths = [len(v.tap_index) for v in visuals]
        encoded = encode_chat(self.tokenizer, turns, lengths, generation_prompt=True)
        return as_path(encoded, visuals, self.tokenizer)

    def answer(self, prompt: str, answer: str, visuals: Sequence[Visual]) -> Path:
        """A prompt as `prompt_path` has it, with an answer; each supervised token weighs 1."""
        turns = [SYSTEM_TURN, _question(prompt, len(visuals)), Turn("assistant", (answer,))]
        lengths = [len(v.tap_index) for v in visuals]
        encoded = encode_chat(self.tokenizer, turns, lengths, self.labels)
        return as_path(encoded, visuals, self.tokenizer)

    def visuals(self, record: Record | Pair) -> tuple[Visual, ...]:
        """Its pictures, tiled. Raises InputError that names the record."""
        try:
            return prepare_pictures(record.images, self.geometry, "field 'image'")
        except InputError as e:
            raise _of_record(record, e) from None


def _of_record(record: Record | Pair, error: InputError) -> InputError:
    return InputError(f"{record.place}, record {record.id!r}: {error}")
