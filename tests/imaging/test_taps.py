"""Tap plans against torch: one picture, one of several, a clip."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from critic_jax.imaging import (
    ImageGeometry,
    clip_token_count,
    picture_in_set_token_count,
    picture_tile_count,
    picture_token_count,
)
from critic_jax.imaging.taps import TapPlan, _bilinear, clip_plan, picture_in_set_plan, picture_plan

FULL = ImageGeometry()
SMALL = ImageGeometry(
    tile_size=16,
    patch_size=4,
    pinpoints=tuple((16 * w, 16 * h) for w in range(1, 5) for h in range(1, 5)),
    max_grid_tiles=4,
)
UNEVEN = ImageGeometry(
    tile_size=23, patch_size=4, pinpoints=((23, 23), (46, 23), (23, 46), (69, 69)), max_grid_tiles=2
)
WIDTH = 3  # of the features

SIZES = [
    (1, 1),
    (27, 1000),
    (1000, 27),
    (336, 336),
    (384, 384),
    (640, 480),
    (899, 1024),
    (1024, 768),
    (994, 1191),
    (100, 2000),
    (1920, 1080),
    (2304, 2304),
    (1500, 2300),
    (2376, 1760),
    (1, 3000),
]


def features(tiles: int, geometry: ImageGeometry) -> tuple[np.ndarray, np.ndarray]:
    """Random tile features [T, P, D] and a newline vector [D]."""
    rng = np.random.default_rng(tiles)
    drawn = rng.standard_normal((tiles * geometry.patches + 1, WIDTH), np.float32)
    return drawn[1:].reshape(tiles, geometry.patches, WIDTH), drawn[0]


def apply(plan: TapPlan, tiles: np.ndarray, newline: np.ndarray) -> np.ndarray:
    """What a device does with a plan: gather and sum, tap by tap."""
    table = np.concatenate([newline[None], tiles.reshape(-1, WIDTH)])
    return sum(table[plan.index[:, tap]] * plan.weight[:, tap, None] for tap in range(4))


def check_form(plan: TapPlan, tokens: int, tiles: int, geometry: ImageGeometry) -> None:
    """Types, shapes, indices in range, weights that sum to 1, unused taps that are all zero."""
    assert (plan.index.dtype, plan.weight.dtype) == (np.int32, np.float32)
    assert plan.index.shape == plan.weight.shape == (tokens, 4)
    assert plan.index.min() >= 0
    assert plan.index.max() <= tiles * geometry.patches
    assert plan.weight.min() >= 0
    np.testing.assert_allclose(plan.weight.sum(1), 1, atol=2e-7)
    assert not plan.index[plan.weight == 0].any()
    assert not plan.index.flags.writeable
    assert not plan.weight.flags.writeable


@pytest.mark.parametrize("size", SIZES)
def test_one_picture(peers: Any, size: tuple[int, int]) -> None:
    count = picture_tile_count(*size, FULL)
    tiles, newline = features(count, FULL)
    plan = picture_plan(*size, FULL)
    check_form(plan, picture_token_count(*size, FULL), count, FULL)
    expected = peers(FULL).pack(tiles, newline, size)
    np.testing.assert_allclose(apply(plan, tiles, newline), expected, rtol=0, atol=1e-6)


@settings(max_examples=60, deadline=None)
@given(
    st.integers(1, 200),
    st.integers(1, 200),
    st.integers(1, 9),
    st.sampled_from([SMALL, UNEVEN]),
)
def test_any_picture_on_any_geometry(
    peers: Any, width: int, height: int, budget: int, geometry: ImageGeometry
) -> None:
    geometry = replace(geometry, max_grid_tiles=budget)
    count = picture_tile_count(width, height, geometry)
    tiles, newline = features(count, geometry)
    plan = picture_plan(width, height, geometry)
    check_form(plan, picture_token_count(width, height, geometry), count, geometry)
    expected = peers(geometry).pack(tiles, newline, (width, height))
    np.testing.assert_allclose(apply(plan, tiles, newline), expected, rtol=0, atol=1e-6)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 4000), st.integers(1, 4000), st.sampled_from(["hf", "original"]))
def test_any_plan_is_well_formed(width: int, height: int, unpad: Any) -> None:
    geometry = replace(FULL, unpad=unpad)
    count = picture_tile_count(width, height, geometry)
    plan = picture_plan(width, height, geometry)
    check_form(plan, picture_token_count(width, height, geometry), count, geometry)


def test_a_strip_thinner_than_a_patch_is_newlines_only(peers: Any) -> None:
    # On an even grid all columns count as padding; torch keeps one newline a row, and so do we.
    geometry = replace(SMALL, pinpoints=((16, 16),))
    tiles, newline = features(2, geometry)
    plan = picture_plan(1, 300, geometry)
    assert plan.index[16:].tolist() == [[0, 0, 0, 0]] * 4
    expected = peers(geometry).pack(tiles, newline, (1, 300))
    np.testing.assert_array_equal(apply(plan, tiles, newline), expected)


def test_a_grid_is_never_shrunk_to_nothing() -> None:
    # 2 rows of 64 patches on a budget of one tile: 2 // 2.8 is 0, where torch fails.
    geometry = replace(SMALL, pinpoints=((256, 16),), max_grid_tiles=1)
    plan = picture_plan(256, 8, geometry)
    check_form(plan, 16 + 1 * (22 + 1), 17, geometry)


def test_a_picture_of_one_tile_reads_as_it_is_laid_out() -> None:
    plan = picture_plan(16, 16, SMALL)
    base, grid = np.arange(1, 17), np.arange(17, 33).reshape(4, 4)
    lines = np.concatenate([grid, np.zeros((4, 1), int)], axis=1)
    assert plan.index[:, 0].tolist() == [*base, *lines.reshape(-1)]
    assert plan.weight[:, 0].tolist() == [1] * 36
    assert not plan.weight[:, 1:].any()


@pytest.mark.parametrize("geometry", [FULL, SMALL, UNEVEN])
def test_one_of_several_pictures(peers: Any, geometry: ImageGeometry) -> None:
    tiles, newline = features(1, geometry)
    plan = picture_in_set_plan(geometry)
    check_form(plan, picture_in_set_token_count(geometry), 1, geometry)
    expected = peers(geometry).pack(tiles, newline, (640, 480))
    np.testing.assert_array_equal(apply(plan, tiles, newline), expected)


@pytest.mark.parametrize("geometry", [FULL, SMALL, UNEVEN])
@pytest.mark.parametrize("frames", [1, 8, 32])
def test_a_clip(peers: Any, geometry: ImageGeometry, frames: int) -> None:
    tiles, newline = features(frames, geometry)
    plan = clip_plan(frames, geometry)
    check_form(plan, clip_token_count(frames, geometry), frames, geometry)
    pooled = peers(geometry).pool(tiles).reshape(-1, WIDTH)
    expected = np.concatenate([pooled, newline[None]])
    np.testing.assert_allclose(apply(plan, tiles, newline), expected, rtol=0, atol=1e-6)


def test_token_counts_of_sets_and_clips() -> None:
    assert picture_in_set_token_count(FULL) == 730
    assert clip_token_count(1, FULL) == 196 + 1
    assert clip_token_count(32, FULL) == 32 * 196 + 1
    assert clip_token_count(2, SMALL) == 2 * 4 + 1
    assert clip_token_count(2, UNEVEN) == 2 * 9 + 1


@pytest.mark.parametrize(
    ("size", "out"), [(27, 14), (162, 81), (108, 98), (127, 91), (5, 3), (14, 27)]
)
def test_bilinear_weights_are_bit_for_bit_those_of_torch(size: int, out: int) -> None:
    axis = _bilinear(size, out)
    plan = np.zeros((out, size), np.float32)
    np.add.at(plan, (np.arange(out), axis.low), np.float32(1) - axis.part)
    np.add.at(plan, (np.arange(out), axis.high), axis.part)
    # Each basis vector as a row of one channel; rows do not mix, so that this is one axis alone.
    basis = torch.eye(size)[:, None, None, :]
    torch_plan = torch.nn.functional.interpolate(basis, (1, out), mode="bilinear")[:, 0, 0].T
    np.testing.assert_array_equal(plan, torch_plan.numpy())
