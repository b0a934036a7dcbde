"""Pixels: RGB pictures to uint8 tiles [T, tile, tile, 3], with PIL's bicubic filter throughout.

Tiles stay uint8 here; the device scales them to -1 .. 1. Padding is black before that scaling.
"""

import math
from collections.abc import Sequence

import numpy as np
from PIL import Image

from .decode import PictureError
from .geometry import ImageGeometry
from .layout import best_resolution, scaled_size

# The mean colour of the tower's normalisation (0.5), as an integer: truncated, not rounded.
_MEAN = (127, 127, 127)

# A strip of few pixels can have a huge square. 805 MB as RGB, a side of 16,384 pixels.
MAX_SQUARE_PIXELS = 2**28


def picture_tiles(image: Image.Image, geometry: ImageGeometry) -> np.ndarray:
    """The base tile (the whole picture squashed to a square), then the grid tiles row by row.

    The grid keeps the picture's proportions; it is scaled to fit and centred on black.
    """
    size = geometry.tile_size
    grid = best_resolution(image.width, image.height, geometry)
    fitted = image.resize(scaled_size(image.width, image.height, grid), Image.Resampling.BICUBIC)
    canvas = Image.new("RGB", grid)
    canvas.paste(fitted, ((grid[0] - fitted.width) // 2, (grid[1] - fitted.height) // 2))
    grid_tiles = (
        np.asarray(canvas)
        .reshape(grid[1] // size, size, grid[0] // size, size, 3)
        .swapaxes(1, 2)
        .reshape(-1, size, size, 3)
    )
    return np.concatenate([square_tiles([image], geometry), grid_tiles])


def padded_tile(image: Image.Image, geometry: ImageGeometry) -> np.ndarray:
    """One tile [1, tile, tile, 3]: the picture centred on a square of the mean colour.

    Raises:
        PictureError: the square would be too large.
    """
    side = check_square(*image.size)
    canvas = Image.new("RGB", (side, side), _MEAN)
    canvas.paste(image, ((side - image.width) // 2, (side - image.height) // 2))
    return square_tiles([canvas], geometry)


def check_square(width: int, height: int) -> int:
    """The side of the square that `padded_tile` makes of a picture of that size.

    Raises:
        PictureError: the square would be too large.
    """
    side = max(width, height)
    if side**2 > MAX_SQUARE_PIXELS:
        raise PictureError(
            f"a picture of {width:,} x {height:,} pixels cannot be padded to a square; "
            f"its longer side may have at most {math.isqrt(MAX_SQUARE_PIXELS):,} pixels"
        )
    return side


def square_tiles(images: Sequence[Image.Image], geometry: ImageGeometry) -> np.ndarray:
    """Every picture resized directly to one tile, whatever its proportions."""
    size = (geometry.tile_size, geometry.tile_size)
    return np.stack([np.asarray(image.resize(size, Image.Resampling.BICUBIC)) for image in images])
