"""Pictures: any file to uint8 tiles, and the tap plan that turns tile features into tokens.

This room imports numpy and PIL only: loader processes import it and must not touch the accelerator.
"""

from .decode import MAX_PIXELS, PictureError, open_picture, read_picture
from .geometry import ImageGeometry
from .layout import picture_tile_count, picture_token_count
from .taps import clip_token_count, picture_in_set_token_count
from .visual import MAX_FRAMES, Visual, clip, picture, picture_in_set

__all__ = [
    "MAX_FRAMES",
    "MAX_PIXELS",
    "ImageGeometry",
    "PictureError",
    "Visual",
    "clip",
    "clip_token_count",
    "open_picture",
    "picture",
    "picture_in_set",
    "picture_in_set_token_count",
    "picture_tile_count",
    "picture_token_count",
    "read_picture",
]
