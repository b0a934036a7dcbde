"""Visuals: their shapes, their content hash, and clips that are too long."""

import numpy as np
import pytest
from PIL import Image

from critic_jax.errors import InputError
from critic_jax.imaging import (
    MAX_FRAMES,
    ImageGeometry,
    PictureError,
    clip,
    clip_token_count,
    open_picture,
    picture,
    picture_in_set,
    picture_token_count,
)
from critic_jax.imaging.taps import TapPlan
from critic_jax.imaging.visual import _visual

GEOMETRY = ImageGeometry(tile_size=16, patch_size=4, pinpoints=((16, 16), (32, 16), (16, 32)))


def gradient(width: int, height: int) -> Image.Image:
    return Image.linear_gradient("L").resize((width, height)).convert("RGB")


def test_shapes_and_types() -> None:
    visual = picture(gradient(30, 14), GEOMETRY)
    tokens = picture_token_count(30, 14, GEOMETRY)
    assert visual.tiles.shape == (3, 16, 16, 3)
    assert visual.tap_index.shape == visual.tap_weight.shape == (tokens, 4)
    assert (visual.tiles.dtype, visual.tap_index.dtype) == (np.uint8, np.int32)
    assert visual.tap_weight.dtype == np.float32


def test_the_key_is_of_the_content() -> None:
    image = gradient(30, 14)
    key = picture(image, GEOMETRY).key
    assert key == picture(image.copy(), GEOMETRY).key
    changed = image.copy()
    changed.putpixel((15, 7), (255, 0, 0))
    assert key != picture(changed, GEOMETRY).key


def test_the_key_is_of_the_taps_too() -> None:
    # One black tile each, read in two ways.
    black = Image.new("RGB", (16, 16))
    one_of_several, frame = picture_in_set(black, GEOMETRY), clip([black], GEOMETRY)
    np.testing.assert_array_equal(one_of_several.tiles, frame.tiles)
    assert one_of_several.key != frame.key
    # Black all over: the tiles are equal, but less of a narrow picture's grid is kept.
    square, narrow = (picture(Image.new("RGB", size), GEOMETRY) for size in [(16, 16), (8, 16)])
    np.testing.assert_array_equal(square.tiles, narrow.tiles)
    assert square.key != narrow.key


@pytest.mark.parametrize("part", ["tiles", "index", "weight"])
def test_every_part_changes_the_key(part: str) -> None:
    parts = {
        "tiles": np.zeros((1, 2, 2, 3), np.uint8),
        "index": np.zeros((5, 4), np.int32),
        "weight": np.zeros((5, 4), np.float32),
    }
    before = _visual(parts["tiles"], TapPlan(parts["index"], parts["weight"])).key
    parts[part].flat[-1] = 1
    assert _visual(parts["tiles"], TapPlan(parts["index"], parts["weight"])).key != before


def test_a_clip_has_a_tile_a_frame_and_a_limit() -> None:
    frames = [gradient(20, 10)] * (MAX_FRAMES + 1)
    visual = clip(frames[:MAX_FRAMES], GEOMETRY)
    assert len(visual.tiles) == MAX_FRAMES == 32
    assert len(visual.tap_index) == clip_token_count(32, GEOMETRY) == 32 * 4 + 1
    assert visual.tap_index[-1].tolist() == [0, 0, 0, 0]
    with pytest.raises(PictureError, match="a clip of 33 frames; it must have 1 to 32"):
        clip(frames, GEOMETRY)
    with pytest.raises(PictureError, match="a clip of 0 frames"):
        clip([], GEOMETRY)


def test_pictures_that_were_not_opened_here_are_made_upright_rgb() -> None:
    sideways = gradient(30, 14)
    sideways.getexif()[0x0112] = 6
    assert len(picture(sideways, GEOMETRY).tap_index) == picture_token_count(14, 30, GEOMETRY)
    assert picture(sideways, GEOMETRY).key == picture(open_picture(sideways), GEOMETRY).key
    grey = gradient(30, 14).convert("L")
    for visual in (picture_in_set(grey, GEOMETRY), clip([grey], GEOMETRY)):
        assert visual.tiles.shape == (1, 16, 16, 3)


def test_a_frame_that_cannot_be_used_is_named() -> None:
    with pytest.raises(InputError, match=r"^frame 2: is 0 x 3 pixels"):
        clip([gradient(4, 4), Image.new("RGB", (0, 3))], GEOMETRY)
