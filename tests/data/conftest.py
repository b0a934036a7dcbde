"""A small tokenizer and real small pictures for records."""

from collections.abc import Callable
from pathlib import Path

import pytest
from published_fixtures import imported, published, rows, tokenizer_folder

from critic_jax.data import Record
from critic_jax.demo.digits import make_digits, picture
from critic_jax.imaging import ImageGeometry
from critic_jax.text import ChatTokenizer, train_tokenizer

__all__ = ["imported", "published", "rows", "tokenizer_folder"]

TEXTS = (
    "You are a helpful assistant.",
    "system\nuser\nassistant\n",
    "Which digit is this? It is a 7. It is a 1. The first shows more ink. Score: 80",
)


@pytest.fixture(scope="session")
def tokenizer() -> ChatTokenizer:
    return train_tokenizer(TEXTS, 320)


@pytest.fixture(scope="session")
def geometry() -> ImageGeometry:
    """16 patches a tile; a wide picture takes a tile more than a square one."""
    return ImageGeometry(tile_size=16, patch_size=4, pinpoints=((16, 16), (16, 32), (32, 16)))


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ...]:
    """Five scans as PNG files: three square, one wide, one tall."""
    folder = tmp_path_factory.mktemp("pictures")
    paths = []
    for scan, box in zip(
        make_digits().heldout,
        ((0, 0, 32, 32), (0, 0, 32, 32), (0, 0, 32, 32), (0, 8, 32, 24), (8, 0, 24, 32)),
        strict=False,
    ):
        path = folder / scan.name
        picture(scan).crop(box).save(path)
        paths.append(path)
    return tuple(paths)


@pytest.fixture
def record() -> Callable[..., Record]:
    """Make the record of some line of a file from its turns, which begin with a human one."""

    def make(*turns: str, images: tuple[Path | bytes, ...] = (), line: int = 1) -> Record:
        speakers = ("human", "gpt")
        said = tuple({"from": speakers[n % 2], "value": turn} for n, turn in enumerate(turns))
        return Record(f"r{line}", "", said, images, line, f"train.jsonl line {line}")

    return make
