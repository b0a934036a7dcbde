"""Writing safetensors files of any size, with a block of one tensor in memory at a time.

The safetensors library takes whole tensors, all of a file at once. The format is plain: the length
of a header, the header (JSON: type, shape and place of each tensor), the tensors end to end
(https://github.com/huggingface/safetensors, "Format").
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from critic_jax.checkpoints.tensor_files import DTYPES, INDEX

_CODES = {dtype: code for code, dtype in DTYPES.items()}
_ALIGN = 8


@dataclass(frozen=True)
class Planned:
    """A tensor that is to be written."""

    name: str
    dtype: np.dtype
    shape: tuple[int, ...]

    @property
    def nbytes(self) -> int:
        """Its size in a file."""
        return math.prod(self.shape) * self.dtype.itemsize


def plan_shards(tensors: Iterable[Planned], limit: int) -> dict[str, list[Planned]]:
    """Which file holds which tensors, in order: each at most `limit` bytes, one tensor at least."""
    shards: list[list[Planned]] = []
    room = 0
    for tensor in tensors:
        if not shards or tensor.nbytes > room:
            shards.append([])
            room = limit
        shards[-1].append(tensor)
        room -= tensor.nbytes
    if len(shards) == 1:
        return {"model.safetensors": shards[0]}
    count = len(shards)
    return {f"model-{n:05}-of-{count:05}.safetensors": s for n, s in enumerate(shards, start=1)}


def write_index(folder: Path, shards: dict[str, list[Planned]]) -> None:
    """The file that says where each tensor is; a single file needs none."""
    if len(shards) == 1:
        return
    index = {
        "metadata": {"total_size": sum(t.nbytes for shard in shards.values() for t in shard)},
        "weight_map": {t.name: file for file, shard in shards.items() for t in shard},
    }
    (folder / INDEX).write_text(json.dumps(index, indent=2) + "\n")


class ShardWriter:
    """Writes one file front to back. A context; on a good end the file is complete and on disk."""

    def __init__(self, path: Path, tensors: list[Planned]) -> None:
        header: dict[str, object] = {"__metadata__": {"format": "pt"}}  # what torch tools ask for
        at = 0
        for tensor in tensors:
            header[tensor.name] = {
                "dtype": _CODES[tensor.dtype],
                "shape": tensor.shape,
                "data_offsets": [at, at + tensor.nbytes],
            }
            at += tensor.nbytes
        text = json.dumps(header, separators=(",", ":")).encode()
        text += b" " * (-len(text) % _ALIGN)
        self._expected = 8 + len(text) + at
        self._file = path.open("wb")
        self._file.write(len(text).to_bytes(8, "little") + text)

    def __enter__(self) -> ShardWriter:
        return self

    def write(self, values: np.ndarray) -> None:
        """Append the next values, in the tensors' order."""
        self._file.write(np.ascontiguousarray(values).reshape(-1).view(np.uint8).data)

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        with self._file:
            if kind is None:
                assert self._file.tell() == self._expected, "more or less was written than planned"
                self._file.flush()
                os.fsync(self._file.fileno())
