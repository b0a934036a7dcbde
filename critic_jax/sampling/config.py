"""What an engine serves, as one dataclass: to be compiled for a slice before there is one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from critic_jax.errors import InputError


@dataclass(frozen=True)
class SamplingConfig:
    """A replica: one model on one mesh, with room for prompts and for answers to them.

    Raises InputError for sizes that make no sense.
    """

    init: str
    """checkpoint folder, ours or Hugging Face's, or a hub id"""
    batch: int = 32
    """branches: answers that are worked on at a time"""
    row_tokens: int = 16384
    """context: tokens of prompts that are held, and the most that are read at once"""
    row_tiles: int = 40
    """tiles of the pictures that are read with them"""
    new_tokens: int = 512
    """the longest answer"""
    dtype: Literal["float32", "bfloat16"] = "bfloat16"
    """of weights, of keys and values, and of the computation"""
    fsdp: int = 0
    """along the mesh axis fsdp: weights are shared; 0: as many as tensor leaves"""
    tensor: int = 1
    """along tensor: heads, their keys and values, ffn and vocabulary are shared"""

    data_parallel: ClassVar[int] = 1
    """A replica holds one copy of the weights."""
    rows: ClassVar[int] = 1
    """Prompts are read one trunk at a time."""

    def __post_init__(self) -> None:
        least = {"batch": 1, "row_tokens": 1, "row_tiles": 0, "new_tokens": 1}
        least |= {"fsdp": 0, "tensor": 1}
        for name, number in least.items():
            value = getattr(self, name)
            if not isinstance(value, int) or value < number:
                raise InputError(f"{name} {value!r}: it should be a whole number, {number} or more")
