"""A picture or a clip made ready for a row: its tiles, its tap plan and its content hash."""

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b

import numpy as np
from PIL import Image

from .decode import PictureError, open_picture
from .geometry import ImageGeometry
from .taps import TapPlan, clip_plan, picture_in_set_plan, picture_plan
from .tiles import padded_tile, picture_tiles, square_tiles

MAX_FRAMES = 32  # the most frames that the original was trained on


@dataclass(frozen=True, eq=False)
class Visual:
    """One picture, or one clip.

    Attributes:
        tiles: uint8 [T, tile, tile, 3].
        tap_index: int32 [N, 4], rows of the feature table: 0 is the newline vector, 1 + t*P + p is
            patch p of tile t, with t counted within this visual. Read-only.
        tap_weight: float32 [N, 4]; a tap that is not used has index 0 and weight 0. Read-only.
        key: content hash; equal keys mean equal tiles and equal taps. Compare visuals by it.
    """

    tiles: np.ndarray
    tap_index: np.ndarray
    tap_weight: np.ndarray
    key: str


def picture(image: Image.Image, geometry: ImageGeometry) -> Visual:
    """The only picture of its record: the base tile, then the grid tiles (anyres).

    T and N are `picture_tile_count` and `picture_token_count` of the upright picture's size. Here
    and below, a picture that has not been through `open_picture` is sent through it.
    """
    image = _ready(image)
    return _visual(
        picture_tiles(image, geometry), picture_plan(image.width, image.height, geometry)
    )


def picture_in_set(image: Image.Image, geometry: ImageGeometry) -> Visual:
    """One of several pictures of a record: padded to a square, T = 1 and N = P + 1.

    Raises:
        PictureError: the square would be too large.
    """
    return _visual(padded_tile(_ready(image), geometry), picture_in_set_plan(geometry))


def clip(frames: Sequence[Image.Image], geometry: ImageGeometry) -> Visual:
    """A video clip: a tile a frame, N = frames * ceil(side / 2)**2 + 1.

    Raises:
        PictureError: no frame, or more than `MAX_FRAMES`. Frames are the caller's choice: none is
            dropped here.
    """
    if not 1 <= len(frames) <= MAX_FRAMES:
        raise PictureError(f"a clip of {len(frames)} frames; it must have 1 to {MAX_FRAMES}")
    tiles = square_tiles(
        [_ready(frame, f"frame {number}") for number, frame in enumerate(frames, 1)], geometry
    )
    return _visual(tiles, clip_plan(len(frames), geometry))


def _ready(image: Image.Image, name: str | None = None) -> Image.Image:
    """Upright RGB. Its size is the caller's affair: its pixels are in memory already."""
    return open_picture(image, name, max_pixels=max(1, image.width * image.height))


def _visual(tiles: np.ndarray, plan: TapPlan) -> Visual:
    digest = blake2b(digest_size=16)
    for array in (tiles, plan.index, plan.weight):
        digest.update(repr(array.shape).encode())
        digest.update(np.ascontiguousarray(array).data)
    return Visual(tiles, plan.index, plan.weight, digest.hexdigest())
