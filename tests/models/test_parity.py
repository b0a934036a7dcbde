"""Logits against transformers' torch model in float32, on real geometry."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from flax import nnx
from PIL import Image
from torch_peer import IMAGE, VIDEO, VOCABULARY, make_peer, read_peer, save_peer
from transformers import LlavaOnevisionImageProcessorPil

from critic_jax.imaging import ImageGeometry, Visual, clip, picture, picture_in_set
from critic_jax.models.build import assemble
from critic_jax.models.llava import Llava
from critic_jax.models.qwen2 import rope_frequencies
from critic_jax.tree import Path as TokenPath
from critic_jax.tree import pack

SIZES = [
    (1, 1),
    (27, 1000),
    (1000, 27),
    (384, 384),
    (336, 336),
    (640, 480),
    (899, 1024),
    (1024, 768),
    (994, 1191),
    (1920, 1080),
    (2304, 2304),
    (100, 2000),
]
PROCESSOR = LlavaOnevisionImageProcessorPil(
    image_mean=[0.5] * 3, image_std=[0.5] * 3, size={"height": 384, "width": 384}
)


@pytest.fixture(scope="module")
def peer(tmp_path_factory: pytest.TempPathFactory) -> tuple:
    torch_model = make_peer(tied=True)
    folder = save_peer(torch_model, tmp_path_factory.mktemp("peer"))
    read, params = read_peer(folder)
    return torch_model, assemble(read.config, params), read.geometry


def random_picture(width: int, height: int, seed: int = 0) -> Image.Image:
    """Smooth colours with noise on top: neither flat nor white noise."""
    rng = np.random.default_rng([width, height, seed])
    coarse = Image.fromarray(rng.integers(0, 256, (7, 9, 3), dtype=np.uint8))
    smooth = np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC), np.int16)
    noisy = smooth + rng.integers(-20, 21, smooth.shape)
    return Image.fromarray(noisy.clip(0, 255).astype(np.uint8))


@nnx.jit
def run(model: Llava, batch: dict) -> jax.Array:
    return model.logits(model(batch)[0])


def our_logits(
    model: Llava, ids: list[int], visuals: list[Visual], starts: list[int]
) -> np.ndarray:
    """Logits [S, V] of one sequence, padded to a few sizes so that little is compiled."""
    zeros = np.zeros(len(ids), np.float32)
    path = TokenPath(np.asarray(ids, np.int32), zeros, tuple(visuals), tuple(starts))
    tiles = sum(len(v.tiles) for v in visuals)
    tiles = next(t for t in (0, 3, 7, 13, 37) if t >= tiles)
    tokens = next(t for t in (64, 2048, 5120, 9216) if t >= len(ids))
    row = pack([path], [[0]], tokens, tiles, (384, 384, 3), 729)
    batch = {n: jnp.asarray(a[None]) for n, a in row.arrays().items()}
    return np.asarray(run(model, batch)[0, : len(ids)])


def assert_close(ours: np.ndarray, theirs: torch.Tensor) -> None:
    expected = theirs.detach().numpy()
    assert ours.shape == expected.shape
    assert np.abs(ours - expected).max() <= 1e-5 * np.abs(expected).max()


TEXT = [3, 14, 15, 92, 65, 35]
MORE = [89, 79, 32, 38, 46]


def sequence(counts: list[int], token: int) -> tuple[list[int], list[int]]:
    """Text, each visual's placeholders with a little text between, text; where each begins."""
    ids, starts = list(TEXT), []
    for count in counts:
        starts.append(len(ids))
        ids += [token] * count + [7]
    return ids + MORE, starts


@pytest.mark.parametrize("size", SIZES, ids=lambda s: f"{s[0]}x{s[1]}")
def test_one_picture(peer: tuple, size: tuple[int, int]) -> None:
    torch_model, model, geometry = peer
    image = random_picture(*size)
    visual = picture(image, geometry)
    ids, starts = sequence([len(visual.tap_index)], IMAGE)
    inputs = PROCESSOR(image, return_tensors="pt")
    pixels = (visual.tiles.astype(np.float32) * np.float32(1 / 255) - 0.5) / 0.5
    np.testing.assert_allclose(
        inputs["pixel_values"][0].permute(0, 2, 3, 1).numpy(), pixels, atol=1e-6
    )
    with torch.no_grad():
        # transformers refuses to run unless its own count of features is that of placeholders.
        theirs = torch_model(input_ids=torch.tensor([ids]), **inputs).logits[0]
    assert_close(our_logits(model, ids, [visual], starts), theirs)


def test_several_pictures(peer: tuple) -> None:
    torch_model, model, geometry = peer
    images = [random_picture(640, 480), random_picture(300, 500), random_picture(64, 64)]
    visuals = [picture_in_set(i, geometry) for i in images]
    ids, starts = sequence([len(v.tap_index) for v in visuals], IMAGE)
    inputs = PROCESSOR([images], return_tensors="pt")
    with torch.no_grad():
        theirs = torch_model(input_ids=torch.tensor([ids]), **inputs).logits[0]
    assert_close(our_logits(model, ids, visuals, starts), theirs)


def test_a_clip_of_eight_frames(peer: tuple) -> None:
    torch_model, model, geometry = peer
    frames = [random_picture(480, 270, seed) for seed in range(8)]
    visual = clip(frames, geometry)
    assert len(visual.tap_index) == 8 * 196 + 1
    ids, starts = sequence([len(visual.tap_index)], VIDEO)
    pixels = (visual.tiles.astype(np.float32) * np.float32(1 / 255) - 0.5) / 0.5
    with torch.no_grad():
        theirs = torch_model(
            input_ids=torch.tensor([ids]),
            pixel_values_videos=torch.from_numpy(pixels).permute(0, 3, 1, 2)[None],
        ).logits[0]
    assert_close(our_logits(model, ids, [visual], starts), theirs)


@pytest.mark.parametrize("tied", [True, False])
def test_text_only(tmp_path: Path, tied: bool) -> None:
    torch_model = make_peer(tied)
    read, params = read_peer(save_peer(torch_model, tmp_path))
    config = read.config
    assert config.decoder.tied_embeddings is tied
    ids = np.random.default_rng(0).integers(0, VOCABULARY - 2, 50).tolist()
    with torch.no_grad():
        theirs = torch_model(input_ids=torch.tensor([ids])).logits[0]
    assert_close(our_logits(assemble(config, params), ids, [], []), theirs)


@pytest.mark.parametrize("head_dim", [16, 32, 64, 128])
def test_rope_frequencies_are_torchs_bit_for_bit(head_dim: int) -> None:
    exponent = torch.arange(0, head_dim, 2, dtype=torch.int64).float() / head_dim
    expected = (1.0 / (1e6**exponent)).numpy()
    assert (rope_frequencies(head_dim, 1e6) == expected).all()


def test_geometry_of_a_transformers_config(peer: tuple) -> None:
    ours, theirs = ImageGeometry(), peer[2]
    # transformers lists (height, width): the same grids in another order.
    assert sorted(theirs.pinpoints) == sorted(ours.pinpoints)
    assert {**theirs.to_dict(), "pinpoints": 0} == {**ours.to_dict(), "pinpoints": 0}
