"""Where a picture of a given size lies on its grid of tiles: pure arithmetic, no pixels.

The rules are those of LLaVA-NeXT (anyres with a tile budget, spatial unpadding) as transformers
states them in its LLaVA-OneVision model. All floats are Python's, in the order of operations of
the original, because a truncated float decides how many tokens a picture has.
"""

import math
from dataclasses import dataclass
from functools import lru_cache

from critic_jax.errors import InputError

from .geometry import ImageGeometry

_SHRINK_ABOVE = 1.1  # a grid is left alone until it is this much longer a side than its budget


@dataclass(frozen=True)
class GridLayout:
    """The grid of one picture. Rows and columns count patches, `across` and `down` tiles.

    `top`, `left`, `rows`, `columns` cut the padding off the fused map of all grid tiles;
    `out_rows`, `out_columns` are its size after shrinking (the same where it is not shrunk).
    """

    across: int
    down: int
    top: int
    left: int
    rows: int
    columns: int
    out_rows: int
    out_columns: int

    @property
    def tiles(self) -> int:
        return self.across * self.down

    @property
    def shrunk(self) -> bool:
        return (self.rows, self.columns) != (self.out_rows, self.out_columns)


def best_resolution(width: int, height: int, geometry: ImageGeometry) -> tuple[int, int]:
    """The pinpoint (width, height) on which a picture keeps most of its pixels.

    Pixels gained by enlarging count for nothing; among equals the smaller area wins, then the
    pinpoint listed first.
    """
    best, most_kept, least_wasted = geometry.pinpoints[0], -1, 0
    for grid_width, grid_height in geometry.pinpoints:
        scale = min(grid_width / width, grid_height / height)
        kept = min(int(width * scale) * int(height * scale), width * height)
        wasted = grid_width * grid_height - kept
        if kept > most_kept or (kept == most_kept and wasted < least_wasted):
            best, most_kept, least_wasted = (grid_width, grid_height), kept, wasted
    return best


def scaled_size(width: int, height: int, grid: tuple[int, int]) -> tuple[int, int]:
    """The size (width, height) in pixels that fits `grid` with the picture's proportions kept."""
    across, down = grid[0] / width, grid[1] / height
    if across < down:
        return grid[0], min(math.ceil(height * across), grid[1])
    return min(math.ceil(width * down), grid[0]), grid[1]


@lru_cache(maxsize=4096)
def grid_layout(width: int, height: int, geometry: ImageGeometry) -> GridLayout:
    """The grid of a picture of `width` x `height` pixels.

    Raises:
        InputError: the picture has no pixels.
    """
    if width < 1 or height < 1:
        raise InputError(f"a picture of {width} x {height} pixels; both sides must be at least 1")
    grid = best_resolution(width, height, geometry)
    across, down = grid[0] // geometry.tile_size, grid[1] // geometry.tile_size
    columns, rows = across * geometry.side, down * geometry.side
    top = left = 0
    # An integer half is cut from both ends, so what stays has the parity of the whole map.
    if width / height > columns / rows:
        top = (rows - _truncate(height * (columns / width), geometry)) // 2
    else:
        left = (columns - _truncate(width * (rows / height), geometry)) // 2
    rows, columns = rows - 2 * top, columns - 2 * left
    out_rows, out_columns = rows, columns
    ratio = math.sqrt(rows * columns / (geometry.max_grid_tiles * geometry.patches))
    if ratio > _SHRINK_ABOVE:
        # At least one: only an extreme shape on a geometry with a small budget comes to none.
        out_rows, out_columns = max(int(rows // ratio), 1), max(int(columns // ratio), 1)
    return GridLayout(across, down, top, left, rows, columns, out_rows, out_columns)


def picture_tile_count(width: int, height: int, geometry: ImageGeometry) -> int:
    """T of one picture: the base tile and its grid tiles."""
    return 1 + grid_layout(width, height, geometry).tiles


def picture_token_count(width: int, height: int, geometry: ImageGeometry) -> int:
    """N of one picture: P base tokens, then the grid's rows, each with a newline."""
    layout = grid_layout(width, height, geometry)
    return geometry.patches + layout.out_rows * (layout.out_columns + 1)


def _truncate(side: float, geometry: ImageGeometry) -> int:
    return int(round(side, 7)) if geometry.unpad == "hf" else int(side)
