"""A tiny policy, prompts about pictures, and a config that names them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from tiny_critic import tiny_checkpoint

from critic_jax.checkpoints import save_checkpoint
from critic_jax.files import write_json_lines

CONFIG = """\
from critic_jax.training.config import AlignConfig

config = AlignConfig(
    init={init!r},
    data={data!r},
    output="set on the command line",
    rounds=2,
    judge={init!r},
    answers=3,
    max_new_tokens=12,
    compared=9,
    global_batch=4,
    rows=2,
    row_tokens=128,
    row_tiles=4,
    learning_rate=1e-3,
    dtype="float32",
    save_every=2,
    remat="none",
)
"""


@pytest.fixture(scope="session")
def policy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("policy") / "tiny"
    save_checkpoint(path, tiny_checkpoint())
    return path


def lines() -> list[dict[str, Any]]:
    """Prompts about two pictures, one of them the last question of a conversation."""
    fields: list[dict[str, Any]] = [
        {"id": f"q{n}", "image": f"{n % 2}.png", "prompt": f"<image>\nWhich digit is it, {n}?"}
        for n in range(8)
    ]
    turns = [("human", "<image>\nHello?"), ("gpt", "Hello."), ("human", "Which digit?")]
    said = [{"from": who, "value": text} for who, text in turns]
    fields.append({"id": "turns", "image": "0.png", "conversations": said})
    return fields


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("prompts")
    for number in range(2):
        Image.new("RGB", (16, 16), (200 * number, 90, 60)).save(folder / f"{number}.png")
    return write_json_lines(folder / "prompts.jsonl", lines())


@pytest.fixture(scope="session")
def config(policy: Path, data: Path) -> Path:
    path = policy.with_name("tiny_rounds.py")
    path.write_text(CONFIG.format(init=str(policy), data=str(data)))
    return path
