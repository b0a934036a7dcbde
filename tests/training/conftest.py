"""A tiny start, records with and without pictures, and a config file that names them."""

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from tiny_critic import tiny_checkpoint

from critic_jax.checkpoints import save_checkpoint
from critic_jax.files import write_json_lines

CONFIG = """\
from critic_jax.training.config import TrainConfig

config = TrainConfig(
    init={start!r},
    data="set on the command line",
    output="set on the command line",
    global_batch=2,
    rows=2,
    row_tokens=128,
    row_tiles=4,
    learning_rate=1e-2,
    warmup_ratio=0.3,
    dtype="float32",
    save_every=3,
)
"""


@pytest.fixture(scope="session")
def start(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("start") / "start"
    save_checkpoint(path, tiny_checkpoint())
    return path


@pytest.fixture(scope="session")
def config_file(start: Path) -> Path:
    path = start.with_name("tiny_config.py")
    path.write_text(CONFIG.format(start=str(start)))
    return path


def record(number: int) -> dict[str, Any]:
    """Every third record has no picture; answers differ in length."""
    pictured = number % 3 != 2
    question = "<image>\nWhich digit?" if pictured else "Which digit?"
    answer = "It is a 7." + " It is." * (number % 4)
    turns = [{"from": "human", "value": question}, {"from": "gpt", "value": answer}]
    fields = {"id": f"r{number}", "source": "test", "conversations": turns}
    return fields | ({"image": f"{number}.png"} if pictured else {})


Write = Callable[..., Path]


@pytest.fixture(scope="session")
def write_data() -> Write:
    """Write 12 records and their pictures into a folder; by number, a record's changed fields or
    raw line.
    """

    def write(folder: Path, changes: dict[int, dict[str, Any] | str] | None = None) -> Path:
        lines = []
        for number in range(12):
            Image.new("RGB", (16, 16), (20 * number, 90, 200)).save(folder / f"{number}.png")
            change = (changes or {}).get(number, {})
            whole = {} if isinstance(change, str) else record(number) | change
            lines.append(change if isinstance(change, str) else json.dumps(whole))
        path = write_json_lines(folder / "records.jsonl", [])
        path.write_text("\n".join(lines) + "\n")
        return path

    return write


@pytest.fixture
def data(tmp_path: Path, write_data: Write) -> Write:
    return partial(write_data, tmp_path)
