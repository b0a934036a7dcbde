"""The third step of an import: shards of pictures and of records, each by one process."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from critic_jax.data import Record
from critic_jax.data.lengths import group_lengths, joined, text_key
from critic_jax.errors import InputError
from critic_jax.files import told_if_full
from critic_jax.imaging import (
    ImageGeometry,
    picture_in_set_token_count,
    picture_tile_count,
    picture_token_count,
    read_picture,
)
from critic_jax.text import ChatTokenizer

from .merge import Kept, Needed
from .shards import PICTURES, RECORDS, write_shard
from .sources import Unit, rows

INDEX = pa.schema(
    [
        *(pa.field(n, pa.string()) for n in ("id", "config", "source", "kind", "template", "task")),
        *(pa.field(n, pa.string()) for n in ("domain", "response_model")),
        ("score", pa.float32()),
        ("scale", pa.float32()),
        ("verdict", pa.string()),
        ("turns", pa.int32()),
        ("prompt_characters", pa.int32()),
        ("answer_characters", pa.int32()),
        *(pa.field(n, pa.list_(pa.int32())) for n in ("pictures", "widths", "heights")),
        pa.field("hashes", pa.list_(pa.string())),
        ("tiles", pa.int32()),
        ("picture_tokens", pa.int32()),
        ("text_tokens", pa.int32()),
    ]
)
"""The index, a row a record. `hashes` are the first 16 digits of each picture's SHA-256; `tiles`
and `picture_tokens` are those of LLaVA-OneVision's geometry; `text_tokens` is null where the import
was given no tokenizer."""


def write_pictures(path: Path, wanted: Sequence[Needed], units: Mapping[int, Unit]) -> None:
    """Write a shard of pictures: their bytes are read from the sources again.

    Raises InputError where a source has changed since it was scanned.
    """
    write_shard(path, PICTURES, _pictures(wanted, units))


def _pictures(wanted: Sequence[Needed], units: Mapping[int, Unit]) -> Iterator[dict[str, Any]]:
    for number, group in groupby(wanted, key=lambda need: need.unit):
        unit, needs = units[number], list(group)
        places = {need.place for need in needs}
        found: dict[tuple[int, int], Path | bytes] = {}
        for place, record in enumerate(rows(unit)):
            if isinstance(record, Record) and place in places:
                found |= {(place, n): image for n, image in enumerate(record.images)}
        for need in needs:
            image = found.get((need.place, need.number), b"")
            content = read_picture(image) if isinstance(image, Path) else image
            if hashlib.sha256(content).hexdigest() != need.hash:
                raise InputError(
                    f"{unit.source.path}: a picture of it changed while it was imported; "
                    "run the same command again, it starts afresh"
                )
            yield {"hash": need.hash, "image": content}


def write_records(
    path: Path,
    index: Path,
    groups: Sequence[Sequence[Kept]],
    scans: Mapping[int, tuple[Path, str]],
    tokenizer: Path | None,
) -> None:
    """Write a shard of records, and their part of the index before it.

    scans: by unit, its scanned lines and its config. With a tokenizer the records of one picture
    are put in the order of their tree's leaves, and `index` gets their lengths beside it (.npz).
    """
    known = ChatTokenizer.load(tokenizer) if tokenizer is not None else None
    examples: list[dict[str, Any]] = []
    entries: list[dict[str, Any]] = []
    lengths = []
    for group in groups:
        lines = _lines(group, scans)
        if known is not None:
            pictures = len(group[0].pictures)
            keys = [text_key(line["conversations"], pictures, known) for line in lines]
            order = group_lengths(keys).order.tolist()
            lines, group = [lines[n] for n in order], [group[n] for n in order]
            lengths.append(group_lengths([keys[n] for n in order]))
        for place, (kept, line) in enumerate(zip(group, lines, strict=True)):
            config = scans[kept.unit][1]
            examples.append(
                {
                    "id": kept.id,
                    "source": line["source"],
                    "config": config,
                    "conversations": line["conversations"],
                    "pictures": list(kept.pictures),
                }
            )
            tokens = int(lengths[-1].tokens[place]) if known is not None else None
            entries.append(_entry(kept, line, config, tokens))
    with told_if_full(index.parent):
        part = index.with_name(f".{index.name}.part")
        pq.write_table(pa.Table.from_pylist(entries, INDEX), part)
        if known is not None:
            whole = joined(lengths)
            np.savez(index.with_suffix(".npz"), **vars(whole))
        part.replace(index)
    write_shard(path, RECORDS, examples)


def _lines(group: Sequence[Kept], scans: Mapping[int, tuple[Path, str]]) -> list[dict[str, Any]]:
    """The scanned lines of a picture's records."""
    lines = []
    for kept in group:
        with scans[kept.unit][0].open("rb") as file:
            file.seek(kept.start)
            lines.append(json.loads(file.readline()))
    return lines


def _entry(kept: Kept, line: Mapping[str, Any], config: str, tokens: int | None) -> dict[str, Any]:
    sizes = [(p["width"], p["height"]) for p in line["pictures"]]
    geometry = ImageGeometry()
    if len(sizes) == 1:
        tiles = picture_tile_count(*sizes[0], geometry)
        picture_tokens = picture_token_count(*sizes[0], geometry)
    else:
        tiles = len(set(kept.pictures))
        picture_tokens = len(sizes) * picture_in_set_token_count(geometry)
    return {
        "id": kept.id,
        "config": config,
        "source": line["source"],
        **line["about"],
        "pictures": list(kept.pictures),
        "widths": [width for width, _ in sizes],
        "heights": [height for _, height in sizes],
        "hashes": [p["hash"][:16] for p in line["pictures"]],
        "tiles": tiles,
        "picture_tokens": picture_tokens,
        "text_tokens": tokens,
    }
