"""Tap plans: every visual token as a weighted sum of at most four rows of a feature table.

The table of one visual: row 0 is the newline vector, row `1 + t * P + p` is patch p of tile t. A
plan is `index` int32 [N, 4] and `weight` float32 [N, 4]; a tap that is not used has index 0 and
weight 0. Plans are cached and shared, hence read-only.
"""

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from .geometry import ImageGeometry
from .layout import grid_layout

TAPS = 4
NEWLINE = 0  # its row of the table


@dataclass(frozen=True, eq=False)
class TapPlan:
    """`index` int32 [N, 4] and `weight` float32 [N, 4]."""

    index: np.ndarray
    weight: np.ndarray


# A plan of 8,829 tokens takes 283 kB; computing one takes about a millisecond.
@lru_cache(maxsize=64)
def picture_plan(width: int, height: int, geometry: ImageGeometry) -> TapPlan:
    """One picture of `width` x `height` pixels: tile 0 whole, then the grid row by row.

    Each row of the grid ends in a newline; the base tile has none, neither inside nor after it.
    """
    layout = grid_layout(width, height, geometry)
    side, patches = geometry.side, geometry.patches

    def table_row(row: np.ndarray, column: np.ndarray) -> np.ndarray:
        """Patch (row, column) of the map of all grid tiles, after unpadding."""
        row, column = row + layout.top, column + layout.left
        tile = 1 + row // side * layout.across + column // side
        return 1 + tile * patches + row % side * side + column % side

    if layout.shrunk:
        down = _bilinear(layout.rows, layout.out_rows)
        across = _bilinear(layout.columns, layout.out_columns)
        grid = _outer(down, across)
        grid = TapPlan(table_row(*np.divmod(grid.index, layout.columns)), grid.weight)
    else:
        rows, columns = np.arange(layout.rows), np.arange(layout.columns)
        grid = _single(table_row(rows[:, None], columns[None, :]))
    grid = _end_rows(grid, layout.out_rows, layout.out_columns)
    return _finish([_tile(0, geometry), grid])


@lru_cache(maxsize=8)
def picture_in_set_plan(geometry: ImageGeometry) -> TapPlan:
    """One of several pictures: the patches of its only tile, then one newline."""
    return _finish([_tile(0, geometry), _newline()])


@lru_cache(maxsize=64)
def clip_plan(frames: int, geometry: ImageGeometry) -> TapPlan:
    """A clip: frames pooled bilinearly to half their side, rounded up; one newline at the end."""
    axis = _bilinear(geometry.side, _pooled_side(geometry))
    frame = _outer(axis, axis)
    starts = 1 + np.arange(frames)[:, None, None] * geometry.patches
    index = (starts + frame.index[None]).reshape(-1, TAPS)
    return _finish([TapPlan(index, np.tile(frame.weight, (frames, 1))), _newline()])


def picture_in_set_token_count(geometry: ImageGeometry) -> int:
    """N of one of several pictures."""
    return geometry.patches + 1


def clip_token_count(frames: int, geometry: ImageGeometry) -> int:
    """N of a clip."""
    return frames * _pooled_side(geometry) ** 2 + 1


def _pooled_side(geometry: ImageGeometry) -> int:
    return math.ceil(geometry.side / 2)


@dataclass(frozen=True, eq=False)
class _Axis:
    """Bilinear resizing along one axis: output o is (1 - part) * in[low] + part * in[high]."""

    size: int
    low: np.ndarray
    high: np.ndarray
    part: np.ndarray


def _bilinear(size: int, out: int) -> _Axis:
    """The taps of torch's `interpolate(mode="bilinear")`: half-pixel centres, no antialiasing.

    torch works in float32 with a fused multiply-add: the product below is exact in float64 and is
    rounded once, which meets its weights bit for bit.
    """
    scale = np.float64(np.float32(size) / np.float32(out))
    source = (scale * (np.arange(out) + 0.5) - 0.5).astype(np.float32)
    source = np.maximum(source, np.float32(0))
    low = np.minimum(source.astype(np.int64), size - 1)
    return _Axis(size, low, np.minimum(low + 1, size - 1), source - low.astype(np.float32))


def _outer(down: _Axis, across: _Axis) -> TapPlan:
    """Both axes together, row by row: indices into the flat map [rows * columns]."""
    one = np.float32(1)
    index = [
        row[:, None] * across.size + column[None, :]
        for row in (down.low, down.high)
        for column in (across.low, across.high)
    ]
    weight = [
        row[:, None] * column[None, :]
        for row in (one - down.part, down.part)
        for column in (one - across.part, across.part)
    ]
    return TapPlan(
        np.stack(index, axis=-1).reshape(-1, TAPS), np.stack(weight, axis=-1).reshape(-1, TAPS)
    )


def _single(rows: np.ndarray) -> TapPlan:
    """Tokens that are each one row of the table, unchanged."""
    index = np.zeros((rows.size, TAPS), np.int64)
    weight = np.zeros((rows.size, TAPS), np.float32)
    index[:, 0], weight[:, 0] = rows.reshape(-1), 1
    return TapPlan(index, weight)


def _tile(tile: int, geometry: ImageGeometry) -> TapPlan:
    return _single(1 + tile * geometry.patches + np.arange(geometry.patches))


def _newline() -> TapPlan:
    return _single(np.array([NEWLINE]))


def _end_rows(grid: TapPlan, rows: int, columns: int) -> TapPlan:
    """A newline after every row of a grid; a grid without columns is newlines only."""
    newline = _newline()

    def end(taps: np.ndarray, last: np.ndarray) -> np.ndarray:
        lines = taps.reshape(rows, columns, TAPS)
        return np.concatenate([lines, np.tile(last, (rows, 1, 1))], axis=1).reshape(-1, TAPS)

    return TapPlan(end(grid.index, newline.index), end(grid.weight, newline.weight))


def _finish(parts: list[TapPlan]) -> TapPlan:
    """One plan out of its parts, in its final types; a tap of weight 0 points at row 0."""
    weight = np.concatenate([part.weight for part in parts]).astype(np.float32)
    index = np.concatenate([part.index for part in parts]).astype(np.int32)
    index[weight == 0] = 0
    index.setflags(write=False)
    weight.setflags(write=False)
    return TapPlan(index, weight)
