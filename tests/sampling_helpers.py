"""Prompts for a tiny model, some with a picture."""

from collections.abc import Sequence

import numpy as np
from PIL import Image
from tiny_critic import GEOMETRY

from critic_jax.imaging import picture
from critic_jax.models.config import tiny
from critic_jax.sampling.engine import Completion
from critic_jax.tree import Path

# A tenth of the vocabulary stops an answer, so that some stop and some don't.
STOPS = tuple(range(50))
CONFIG = tiny(500)


def text(length: int, seed: int) -> Path:
    ids = np.random.default_rng(seed).integers(50, 490, length).astype(np.int32)
    return Path(ids, np.zeros(length, np.float32))


def with_picture(seed: int) -> Path:
    """A square picture of 36 tokens with some text on either side."""
    pixels = np.random.default_rng(seed).integers(0, 256, (20, 20, 3), dtype=np.uint8)
    visual = picture(Image.fromarray(pixels), GEOMETRY)
    before, after = text(5, seed), text(9, seed + 1)
    places = np.full(len(visual.tap_index), 499, np.int32)
    tokens = np.concatenate([before.tokens, places, after.tokens])
    return Path(tokens, np.zeros(len(tokens), np.float32), (visual,), (5,))


PROMPTS = [text(9, 1), with_picture(2), text(20, 3), with_picture(4)]


def first(answers: Sequence[Sequence[Completion]]) -> list[Completion]:
    return [one for (one,) in answers]
