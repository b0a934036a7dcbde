"""Real handwritten digits: scikit-learn's 1,797 scans of 8x8 pixels, split by picture.

The scans come with the scikit-learn wheel (UCI Optical Recognition of Handwritten Digits), so
nothing is downloaded. scikit-learn is imported inside a function: it takes a second to load and
only the demo needs it.
"""

import io
import os
import random
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, cast

import numpy as np
from PIL import Image

HELD_OUT_PER_DIGIT = 30
SIDE = 32
Smoothing = Literal["nearest", "bicubic"]


@dataclass(frozen=True)
class Scan:
    """One handwritten digit.

    number: its place in scikit-learn's set, 0..1796, which names it for good.
    digit: what it shows, 0..9.
    ink: uint8 [8, 8], 0 (paper) .. 16 (full ink).
    """

    number: int
    digit: int
    ink: np.ndarray

    @property
    def name(self) -> str:
        """File name of the picture, the same in every run."""
        return f"{self.number:04d}.png"


@dataclass(frozen=True)
class Digits:
    """The scans of one run: no scan is in both parts."""

    train: tuple[Scan, ...]
    heldout: tuple[Scan, ...]


def make_digits(seed: int = 0) -> Digits:
    """Load the scans and hold out 30 of each digit (300), leaving 1,497 to learn from.

    Holding out the same number of each digit makes every digit equally likely among the held-out
    pictures, which the chance level of the blank-picture control rests on.
    """
    from sklearn.datasets import load_digits

    bunch = load_digits()
    scans = [
        Scan(number, int(digit), np.asarray(ink, dtype=np.uint8))
        for number, (digit, ink) in enumerate(zip(bunch.target, bunch.images, strict=True))
    ]
    draw = random.Random(f"digits split {seed}")
    held: set[int] = set()
    for digit in range(10):
        held.update(draw.sample([s.number for s in scans if s.digit == digit], HELD_OUT_PER_DIGIT))
    return Digits(
        train=tuple(s for s in scans if s.number not in held),
        heldout=tuple(s for s in scans if s.number in held),
    )


def picture(scan: Scan, side: int = SIDE, smoothing: Smoothing = "bicubic") -> Image.Image:
    """The scan as a grey picture, dark ink on white paper.

    side: pixels, a multiple of 8 so that every pixel of the scan grows by the same factor.
    Raises ValueError for another side.
    """
    if side < 8 or side % 8:
        raise ValueError(f"side must be a multiple of 8, not {side}")
    grey = np.rint(255.0 - scan.ink.astype(np.float64) * (255.0 / 16.0)).astype(np.uint8)
    how = Image.Resampling.NEAREST if smoothing == "nearest" else Image.Resampling.BICUBIC
    return Image.fromarray(grey).resize((side, side), how)


def png(image: Image.Image) -> bytes:
    """The bytes of a picture as a PNG file."""
    buffer = io.BytesIO()
    image.save(buffer, format="PNG")
    return buffer.getvalue()


def varied_picture(scan: Scan, draw: random.Random) -> Image.Image:
    """`picture(scan)` turned by up to 8 degrees, moved by up to 2 pixels."""
    # Pillow moves by fractions of a pixel too, though its type says whole ones.
    moved = cast(tuple[int, int], (draw.uniform(-2, 2), draw.uniform(-2, 2)))
    return picture(scan).rotate(
        draw.uniform(-8, 8), Image.Resampling.BICUBIC, translate=moved, fillcolor=255
    )


def write_pictures(scans: tuple[Scan, ...], folder: str | os.PathLike[str]) -> None:
    """Write every scan as `folder/<name>` (PNG); existing files are replaced."""
    target = Path(folder)
    target.mkdir(parents=True, exist_ok=True)
    for scan in scans:
        (target / scan.name).write_bytes(png(picture(scan)))
