"""Draws that depend on a seed and a name alone: the same on every machine, in any order."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from hashlib import blake2b
from typing import TypeVar

T = TypeVar("T")


def fraction(seed: int, *name: Hashable) -> float:
    """A number from 0 up to 1, evenly spread over names."""
    said = repr((seed, *name)).encode()
    return int.from_bytes(blake2b(said, digest_size=8).digest(), "big") / 2**64


def one_of(options: Sequence[T], seed: int, *name: Hashable) -> T:
    """One of several."""
    return options[int(fraction(seed, *name) * len(options))]


def shuffled(options: Sequence[T], seed: int, *name: Hashable) -> list[T]:
    """All of them in an order of their own for each name."""
    order = sorted(range(len(options)), key=lambda place: fraction(seed, *name, place))
    return [options[place] for place in order]
