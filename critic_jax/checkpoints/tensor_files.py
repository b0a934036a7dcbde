"""The safetensors files of a folder as one table of tensors, read piece by piece."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import ml_dtypes
import numpy as np
from safetensors import SafetensorError, safe_open

from critic_jax.checkpoints.hf_config import read_json
from critic_jax.errors import InputError

INDEX = "model.safetensors.index.json"
DTYPES = {
    "BF16": np.dtype(ml_dtypes.bfloat16),
    "F16": np.dtype(np.float16),
    "F32": np.dtype(np.float32),
}


def shards(folder: Path) -> list[Path]:
    """The safetensors files of a folder.

    Raises InputError if there are none, or if the index names one that is not there.
    """
    index = folder / INDEX
    if index.exists():
        listed = read_json(index).get("weight_map")
        if not isinstance(listed, dict) or not listed:
            raise InputError(f"{index}: field 'weight_map' should name the file of each tensor")
        names = sorted(set(map(str, listed.values())))
        for name in names:
            if not (folder / name).exists():
                raise InputError(f"{index}: names {name}, which is not in the folder")
        return [folder / n for n in names]
    found = sorted(folder.glob("*.safetensors"))
    if not found:
        raise InputError(f"{folder}: holds no .safetensors weights (pickled ones are not read)")
    return found


@dataclass(frozen=True)
class Stored:
    """Where a tensor is, and what."""

    file: Path
    dtype: str  # as safetensors names it
    shape: tuple[int, ...]


class TensorFiles:
    """Names, types and shapes from the files' headers; contents only when asked for.

    A file is mapped only while a piece of it is read: pages of a mapping that stays open count as
    this process's memory until the machine runs short of it.
    """

    def __init__(self, folder: Path) -> None:
        """Raises InputError for a file that is damaged, or a tensor that two files hold."""
        self.files = shards(folder)
        self.tensors: dict[str, Stored] = {}
        for file in self.files:
            for name, stored in _header(file):
                if name in self.tensors:
                    raise InputError(f"{file}: tensor {name} is in another shard too")
                self.tensors[name] = stored

    def dtype(self, name: str) -> np.dtype:
        """Raises InputError for a tensor that is no float of 16 or 32 bits."""
        stored = self.tensors[name]
        if stored.dtype not in DTYPES:
            known = ", ".join(DTYPES)
            raise InputError(
                f"{stored.file}: tensor {name} is of type {stored.dtype}; {known} are read"
            )
        return DTYPES[stored.dtype]

    def read(self, name: str, *index: slice) -> np.ndarray:
        """A tensor, or the part of it that `index` cuts out: always a copy in memory."""
        file = self.tensors[name].file
        try:
            with safe_open(file, framework="numpy") as opened:
                if not index:
                    return opened.get_tensor(name)
                return opened.get_slice(name)[index if len(index) > 1 else index[0]]
        except (SafetensorError, OSError) as e:
            raise InputError(f"{file}: tensor {name} cannot be read ({e})") from None


def _header(file: Path) -> Iterator[tuple[str, Stored]]:
    try:
        with safe_open(file, framework="numpy") as opened:
            for name in opened.keys():  # noqa: SIM118 (not a mapping)
                piece = opened.get_slice(name)
                yield name, Stored(file, piece.get_dtype(), tuple(piece.get_shape()))
    except (SafetensorError, OSError) as e:
        raise InputError(f"{file}: not a readable safetensors file ({e})") from None
