"""Critic records out of questions and answers, their pictures as a file beside them finds them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from hashlib import sha256
from pathlib import Path
from typing import Any

from PIL import Image, UnidentifiedImageError

from critic_jax.data.records import make_record
from critic_jax.errors import InputError
from critic_jax.judging.lines import image_field

from ..check import text_fault

Picture = Path | bytes


def pack(
    name: str, source: str, images: Sequence[Picture], prompt: str, answer: str, **told: str
) -> dict[str, Any]:
    """The fields of a record but `image`; `told` are texts such as response_model, "" for none.

    Raises InputError for texts that training would not take.
    """
    marks = "<image>\n" * len(images)
    fields: dict[str, Any] = {
        "id": name,
        "source": source,
        "conversations": [
            {"from": "human", "value": marks + prompt},
            {"from": "gpt", "value": answer},
        ],
        **{key: value for key, value in told.items() if value},
    }
    stand_ins = ["picture"] * len(images)
    record = make_record(fields | ({"image": stand_ins} if images else {}), Path(), 0, name)
    if (fault := text_fault(record)) is not None:
        raise InputError(fault)
    return fields


def with_pictures(
    fields: Mapping[str, Any], images: Sequence[Picture], folder: Path
) -> dict[str, Any]:
    """The fields with `image`, as it is found from `folder`.

    Contents of picture files are written there, to `pictures/`, each once.
    """
    try:
        return {**fields, **image_field(images, folder)}
    except (UnidentifiedImageError, Image.DecompressionBombError) as error:
        raise InputError(f"field 'image': no picture ({error})") from None


def picture_key(images: Sequence[Picture]) -> str:
    """What the records of the same pictures share, wherever their files are: their contents.

    Raises InputError for a file that cannot be read.
    """
    return " ".join(_digest(i) if isinstance(i, Path) else sha256(i).hexdigest() for i in images)


@lru_cache(maxsize=4096)
def _digest(path: Path) -> str:
    try:
        return sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise InputError(f"field 'image': {path} cannot be read ({error.strerror})") from None
