"""Pictures that look alike, however they are stored: other sizes, other compression.

The hash is the difference hash of N. Krawetz ("Kind of Like That", 2013): 64 signs of differences
between neighbours in a small grey copy. Flat pictures have like hashes, so that a small coloured
copy has the last word.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from PIL import Image

from critic_jax.imaging import open_picture

from ..making.packing import Picture

NEAR_BITS = 6
"""Hashes of pictures that look alike differ in so many of 64 bits at most."""

NEAR_LEVELS = 12.0
"""Small copies of pictures that look alike differ by so much of 255 on average, at most."""

_SIDE = 8
_BANDS = NEAR_BITS + 1  # of so many parts of the hash, two that are near have one the same
_EDGES = [round(64 * band / _BANDS) for band in range(_BANDS + 1)]


@dataclass(frozen=True, eq=False)
class Look:
    """What a picture looks like: its hash, and a copy of 8 x 8 pixels, uint8 [8, 8, 3]."""

    hash: int
    small: np.ndarray

    def near(self, other: Look) -> bool:
        """Whether the two look alike."""
        if (self.hash ^ other.hash).bit_count() > NEAR_BITS:
            return False
        apart = np.abs(self.small.astype(np.int16) - other.small.astype(np.int16))
        return float(apart.mean()) <= NEAR_LEVELS


def look(picture: Picture, name: str) -> Look:
    """The look of a picture. Raises PictureError for what is none; `name` stands for contents."""
    image = open_picture(picture, name if isinstance(picture, bytes) else None).convert("RGB")
    grey = image.convert("L").resize((_SIDE + 1, _SIDE), Image.Resampling.BOX)
    levels = np.asarray(grey, np.int16)
    signs = (levels[:, 1:] > levels[:, :-1]).reshape(-1)
    number = int.from_bytes(np.packbits(signs).tobytes(), "big")
    return Look(number, np.asarray(image.resize((_SIDE, _SIDE), Image.Resampling.BOX)))


class Looks:
    """Many looks, among which those that are near another are found without comparing all."""

    def __init__(self, looks: Sequence[Look]) -> None:
        self.looks = looks
        self._bands: dict[tuple[int, int], list[int]] = defaultdict(list)
        for place, one in enumerate(looks):
            for band in _parts(one.hash):
                self._bands[band].append(place)

    def near(self, one: Look) -> Iterator[int]:
        """The places of those that look like this one, in order; itself too, if it is there."""
        places = {place for band in _parts(one.hash) for place in self._bands.get(band, ())}
        return (place for place in sorted(places) if self.looks[place].near(one))

    def groups(self) -> list[list[int]]:
        """Places of those that look alike, each group in order; only groups of two and more."""
        group = list(range(len(self.looks)))

        def first(place: int) -> int:
            while group[place] != place:
                group[place] = group[group[place]]
                place = group[place]
            return place

        for place, one in enumerate(self.looks):
            for other in self.near(one):
                group[max(first(place), first(other))] = min(first(place), first(other))
        found: dict[int, list[int]] = defaultdict(list)
        for place in range(len(self.looks)):
            found[first(place)].append(place)
        return [places for places in found.values() if len(places) > 1]


def _parts(number: int) -> Iterator[tuple[int, int]]:
    for band, (start, stop) in enumerate(pairwise(_EDGES)):
        yield band, (number >> start) & ((1 << (stop - start)) - 1)
