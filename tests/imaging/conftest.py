"""The torch peers of this room: transformers' picture processor, token counts and feature packing.

Sizes are given as (width, height) here, and turned round where transformers wants (height, width).
"""

from collections.abc import Iterator
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from transformers.models.llava_onevision.image_processing_pil_llava_onevision import (
    LlavaOnevisionImageProcessorPil,
)
from transformers.models.llava_onevision.modeling_llava_onevision import LlavaOnevisionModel
from transformers.models.llava_onevision.processing_llava_onevision import LlavaOnevisionProcessor
from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil

from critic_jax.imaging import ImageGeometry

HALF = [0.5, 0.5, 0.5]


class Peers:
    """What transformers makes of the same pictures under one geometry."""

    def __init__(self, geometry: ImageGeometry) -> None:
        self.geometry = geometry
        # Configurations of transformers list (height, width).
        self.pinpoints = [[height, width] for width, height in geometry.pinpoints]
        self.aspect = f"anyres_max_{geometry.max_grid_tiles}"
        self.size = {"height": geometry.tile_size, "width": geometry.tile_size}
        vision = SimpleNamespace(image_size=geometry.tile_size, patch_size=geometry.patch_size)
        # As much of a model as its packing methods read.
        self.model = SimpleNamespace(
            config=SimpleNamespace(vision_config=vision, image_grid_pinpoints=self.pinpoints)
        )

    def tiles(self, *images: Image.Image) -> list[np.ndarray]:
        """uint8 [T, tile, tile, 3] of each picture of one record."""
        peer = LlavaOnevisionImageProcessorPil(
            size=self.size, image_mean=HALF, image_std=HALF, image_grid_pinpoints=self.pinpoints
        )
        return [_pixels(values) for values in peer([list(images)])["pixel_values"]]

    def frames(self, *images: Image.Image) -> np.ndarray:
        """uint8 [T, tile, tile, 3] of the frames of a clip, which upstream gives to SigLIP's."""
        peer = SiglipImageProcessorPil(size=self.size, image_mean=HALF, image_std=HALF)
        return _pixels(np.stack(peer(list(images))["pixel_values"]))

    def token_count(self, width: int, height: int) -> int:
        peer = object.__new__(LlavaOnevisionProcessor)
        peer.image_processor = SimpleNamespace(image_grid_pinpoints=self.pinpoints)
        peer.num_image_tokens = self.geometry.patches
        peer.vision_aspect_ratio = self.aspect
        size = self.geometry.tile_size
        return peer._get_number_of_features(height, width, size, size)

    def pack(self, features: np.ndarray, newline: np.ndarray, size: tuple[int, int]) -> np.ndarray:
        """Tile features [T, P, D] to tokens [N, D]; a single tile is one of several pictures."""
        tokens, lengths = LlavaOnevisionModel.pack_image_features(
            self.model,
            [torch.from_numpy(features)],
            torch.tensor([[size[1], size[0]]]),
            image_newline=torch.from_numpy(newline),
            vision_aspect_ratio=self.aspect,
        )
        assert int(lengths[0]) == len(tokens[0])
        return tokens[0].numpy()

    def pool(self, features: np.ndarray) -> np.ndarray:
        """Frame features [T, P, D] to [T, ceil(side / 2)**2, D]."""
        return LlavaOnevisionModel.apply_pooling(self.model, torch.from_numpy(features)).numpy()


def _pixels(values: np.ndarray) -> np.ndarray:
    """Normalised [T, 3, tile, tile] back to uint8 [T, tile, tile, 3]; it must come out whole."""
    levels = np.asarray(values, np.float32) * np.float32(127.5) + np.float32(127.5)
    whole = np.rint(levels)
    assert np.abs(levels - whole).max() < 1e-3
    return np.moveaxis(whole.astype(np.uint8), -3, -1)


@pytest.fixture(scope="session")
def peers() -> type[Peers]:
    return Peers


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
