"""How many tiles and tokens a picture has."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from critic_jax.errors import InputError
from critic_jax.imaging import ImageGeometry, picture_tile_count, picture_token_count
from critic_jax.imaging.layout import best_resolution, grid_layout, scaled_size

FULL = ImageGeometry()
SMALL = ImageGeometry(
    tile_size=16,
    patch_size=4,
    pinpoints=tuple((16 * w, 16 * h) for w in range(1, 5) for h in range(1, 5)),
    max_grid_tiles=4,
)


# Published sizes: width, height, best grid, rows and columns kept, tokens.
KNOWN = [
    (336, 336, (384, 384), (27, 27), 1485),
    (384, 384, (384, 384), (27, 27), 1485),
    (640, 480, (768, 768), (40, 54), 2929),
    (1024, 768, (1152, 768), (54, 73), 4725),
    (899, 1024, (1152, 1152), (81, 71), 6561),
    (1920, 1080, (1920, 1152), (60, 108), 7269),
    (2304, 2304, (2304, 2304), (81, 81), 7371),
    (100, 2000, (384, 2304), (162, 9), 2349),
    (994, 1191, (1152, 1536), (98, 81), 8765),
]


@pytest.mark.parametrize(("width", "height", "grid", "kept", "tokens"), KNOWN)
def test_known_sizes(
    width: int, height: int, grid: tuple[int, int], kept: tuple[int, int], tokens: int
) -> None:
    layout = grid_layout(width, height, FULL)
    assert best_resolution(width, height, FULL) == grid
    assert (layout.across * 384, layout.down * 384) == grid
    assert picture_token_count(width, height, FULL) == tokens
    assert picture_tile_count(width, height, FULL) == 1 + grid[0] * grid[1] // 384**2
    assert (layout.out_rows, layout.out_columns) == kept
    # Only the last two but one are over budget by more than 1.1.
    assert layout.shrunk == ((width, height) in {(1920, 1080), (2304, 2304)})


def test_the_grid_is_shrunk_strictly_above_the_limit() -> None:
    # sqrt(121 / 100) is exactly 1.1: 11 x 11 patches on a budget of 100 stay, on one of 99 do not.
    patch = ImageGeometry(tile_size=1, patch_size=1, pinpoints=((11, 11),), max_grid_tiles=100)
    assert picture_token_count(11, 11, patch) == 1 + 11 * 12
    assert picture_token_count(11, 11, replace(patch, max_grid_tiles=99)) == 1 + 9 * 10


def test_the_two_ways_to_truncate() -> None:
    # 1760 * (162 / 2376) is 120 on paper and 119.99999999999999 as a float.
    original = replace(FULL, unpad="original")
    assert grid_layout(2376, 1760, FULL).rows == 121
    assert grid_layout(2376, 1760, original).rows == 119
    assert picture_token_count(2376, 1760, FULL) == 7309
    assert picture_token_count(2376, 1760, original) == 7284
    assert picture_token_count(640, 480, original) == picture_token_count(640, 480, FULL)


def test_ties_go_to_the_smaller_grid_and_then_to_the_first_listed() -> None:
    wide_first = replace(SMALL, pinpoints=((32, 16), (16, 32), (32, 32)))
    tall_first = replace(SMALL, pinpoints=((32, 32), (16, 32), (32, 16)))
    assert best_resolution(10, 10, wide_first) == (32, 16)
    assert best_resolution(10, 10, tall_first) == (16, 32)


def test_scaling_fills_the_tighter_side_and_rounds_the_other_up() -> None:
    assert scaled_size(640, 480, (768, 768)) == (768, 576)
    assert scaled_size(1000, 27, (1152, 384)) == (1152, 32)  # 31.1
    assert scaled_size(1, 3000, (384, 384)) == (1, 384)


@pytest.mark.parametrize("size", [(0, 5), (5, 0)])
def test_a_picture_has_pixels(size: tuple[int, int]) -> None:
    with pytest.raises(InputError, match="both sides must be at least 1"):
        picture_token_count(*size, FULL)


def test_no_size_has_more_tokens_than_the_budget_of_a_row_allows() -> None:
    counts = [
        picture_token_count(width, height, FULL)
        for width in range(960, 1030)
        for height in range(1150, 1220)
    ]
    assert 8765 <= max(counts) <= 8829


@settings(max_examples=300, deadline=None)
@given(st.integers(1, 4000), st.integers(1, 4000))
def test_counts_equal_those_of_transformers(peers: Any, width: int, height: int) -> None:
    assert picture_token_count(width, height, FULL) == peers(FULL).token_count(width, height)


@settings(max_examples=300, deadline=None)
@given(st.integers(1, 200), st.integers(1, 200), st.integers(1, 9))
def test_counts_on_a_small_geometry(peers: Any, width: int, height: int, budget: int) -> None:
    geometry = replace(SMALL, max_grid_tiles=budget)
    assert picture_token_count(width, height, geometry) == peers(geometry).token_count(
        width, height
    )
