"""Pixels against transformers' PIL processor: one picture, several, a clip."""

from typing import Any

import numpy as np
import pytest
from PIL import Image

from critic_jax.errors import InputError
from critic_jax.imaging import (
    ImageGeometry,
    clip,
    open_picture,
    picture,
    picture_in_set,
    picture_tile_count,
)
from critic_jax.imaging.tiles import MAX_SQUARE_PIXELS, padded_tile

FULL = ImageGeometry()
SMALL = ImageGeometry(
    tile_size=16, patch_size=4, pinpoints=((16, 16), (32, 16), (16, 32), (48, 48))
)

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
    (385, 383),
    (1, 3000),
]


def noise(width: int, height: int, bands: int = 3) -> np.ndarray:
    """The hardest thing to resample: uint8 [height, width, bands]."""
    return np.random.default_rng(width).integers(0, 256, (height, width, bands), np.uint8)


def noise_picture(width: int, height: int) -> Image.Image:
    return Image.fromarray(noise(width, height))


@pytest.mark.parametrize("size", SIZES)
def test_one_picture(peers: Any, size: tuple[int, int]) -> None:
    image = noise_picture(*size)
    tiles = picture(image, FULL).tiles
    assert tiles.dtype == np.uint8
    assert len(tiles) == picture_tile_count(*size, FULL)
    np.testing.assert_array_equal(tiles, peers(FULL).tiles(image)[0])


@pytest.mark.parametrize("size", [(5, 40), (40, 5), (16, 16), (100, 90), (33, 16)])
def test_one_picture_on_a_small_geometry(peers: Any, size: tuple[int, int]) -> None:
    image = noise_picture(*size)
    np.testing.assert_array_equal(picture(image, SMALL).tiles, peers(SMALL).tiles(image)[0])


def test_several_pictures(peers: Any) -> None:
    images = [noise_picture(*size) for size in [(640, 480), (27, 500), (384, 384), (1, 1)]]
    expected = peers(FULL).tiles(*images)
    for image, tiles in zip(images, expected, strict=True):
        np.testing.assert_array_equal(picture_in_set(image, FULL).tiles, tiles)


def test_several_pictures_are_padded_with_the_mean_colour_and_one_with_black() -> None:
    image = Image.new("RGB", (20, 4), (255, 255, 255))
    assert picture_in_set(image, SMALL).tiles[0, 0, 0].tolist() == [127, 127, 127]
    assert picture(image, SMALL).tiles[1, 0, 0].tolist() == [0, 0, 0]
    assert (picture(image, SMALL).tiles[0] == 255).all()


def test_a_clip(peers: Any) -> None:
    frames = [noise_picture(*size) for size in [(640, 360), (640, 360), (90, 160)]]
    visual = clip(frames, FULL)
    np.testing.assert_array_equal(visual.tiles, peers(FULL).frames(*frames))


def test_grid_tiles_lie_row_by_row() -> None:
    corners = np.arange(4, dtype=np.uint8).reshape(2, 2).repeat(24, 0).repeat(24, 1) * 60
    image = Image.fromarray(corners).convert("RGB")
    geometry = ImageGeometry(tile_size=24, patch_size=4, pinpoints=((48, 48),))
    tiles = picture(image, geometry).tiles
    assert [sorted(np.unique(tile)) for tile in tiles[1:]] == [[0], [60], [120], [180]]


def test_a_strip_whose_square_would_be_huge_is_refused() -> None:
    strip = Image.new("RGB", (20000, 2))
    assert strip.width**2 > MAX_SQUARE_PIXELS
    with pytest.raises(InputError, match=r"20,000 x 2 pixels.* at most 16,384 pixels"):
        padded_tile(strip, FULL)
    assert picture(strip, FULL).tiles.shape == (2, 384, 384, 3)


def _modes() -> dict[str, Image.Image]:
    """A noise picture of 40 x 30 in every 8-bit mode, with and without transparency."""
    rgb, grey = noise_picture(40, 30), Image.fromarray(noise(40, 30, 1)[..., 0])
    palette = rgb.quantize(16)
    see_through = {}
    for name, image, value in (
        ("palette, one entry transparent", palette, 3),
        ("palette, entries with alpha", palette, bytes(range(0, 160, 10))),
        ("grey, one level transparent", grey, 7),
        ("RGB, one colour transparent", rgb, rgb.getpixel((0, 0))),
    ):
        see_through[name] = image.copy()
        see_through[name].info["transparency"] = value
    return {
        "1": grey.convert("1"),
        "L": grey,
        "LA": Image.fromarray(noise(40, 30, 2), "LA"),
        "P": palette,
        "RGB": rgb,
        "RGBA": Image.fromarray(noise(40, 30, 4)),
        "CMYK": Image.fromarray(noise(40, 30, 4), "CMYK"),
        "YCbCr": rgb.convert("YCbCr"),
        "HSV": rgb.convert("HSV"),
        **see_through,
    }


@pytest.mark.parametrize("mode", list(_modes()))
def test_colours_become_what_transformers_makes_of_them(peers: Any, mode: str) -> None:
    image = _modes()[mode]
    tiles = picture(open_picture(image), SMALL).tiles
    np.testing.assert_array_equal(tiles, peers(SMALL).tiles(image)[0])
