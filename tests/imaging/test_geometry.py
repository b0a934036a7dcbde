"""The geometry of a checkpoint: defaults, JSON, and what it refuses."""

import json

import pytest

from critic_jax.errors import InputError
from critic_jax.imaging import ImageGeometry

SMALL = ImageGeometry(tile_size=16, patch_size=4, pinpoints=((16, 16), (32, 16), (16, 32)))


def test_the_defaults_are_those_of_llava_onevision() -> None:
    geometry = ImageGeometry()
    assert (geometry.side, geometry.patches, geometry.max_grid_tiles) == (27, 729, 9)
    assert len(geometry.pinpoints) == len(set(geometry.pinpoints)) == 36
    assert geometry.pinpoints[:3] == ((384, 384), (384, 768), (384, 1152))
    assert geometry.pinpoints[-1] == (2304, 2304)


@pytest.mark.parametrize("geometry", [ImageGeometry(), SMALL, ImageGeometry(unpad="original")])
def test_json_round_trip(geometry: ImageGeometry) -> None:
    again = ImageGeometry.from_dict(json.loads(json.dumps(geometry.to_dict())))
    assert again == geometry
    assert hash(again) == hash(geometry)


def test_a_patch_that_does_not_divide_the_tile_leaves_a_border() -> None:
    geometry = ImageGeometry(tile_size=17, patch_size=5, pinpoints=((17, 34),))
    assert (geometry.side, geometry.patches) == (3, 9)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"tile_size": 0}, "tile_size is 0; it must be an integer above 0"),
        ({"patch_size": 4.0}, "patch_size is 4.0"),
        ({"max_grid_tiles": True}, "max_grid_tiles is True"),
        ({"patch_size": 17}, "patch_size 17 is larger than tile_size 16"),
        ({"pinpoints": ()}, "pinpoints is empty"),
        ({"pinpoints": ((16,),)}, "must be a list of (width, height)"),
        ({"pinpoints": ((16, 24),)}, "pinpoint (16, 24) is not a multiple of tile_size 16"),
        ({"pinpoints": ((0, 16),)}, "pinpoint (0, 16)"),
        ({"unpad": "none"}, "it must be 'hf' or 'original'"),
    ],
)
def test_a_value_out_of_range_is_refused(change: dict[str, object], says: str) -> None:
    with pytest.raises(InputError) as error:
        ImageGeometry.from_dict({**SMALL.to_dict(), **change})
    assert says in str(error.value)


def test_fields_are_neither_guessed_nor_dropped() -> None:
    values = SMALL.to_dict()
    with pytest.raises(InputError, match="tiles missing or unknown"):
        ImageGeometry.from_dict({**values, "tiles": 3})
    del values["unpad"]
    with pytest.raises(InputError, match="unpad missing or unknown"):
        ImageGeometry.from_dict(values)
