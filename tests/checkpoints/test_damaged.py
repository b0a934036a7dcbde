"""Damaged models: one line that says what is wrong with which file, exit code 2, nothing left."""

import json
import os
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hub_folders import small_model, write_folder
from safetensors.numpy import load_file, save_file

from critic_jax.cli import main

FIRST, SECOND = "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"
INDEX = "model.safetensors.index.json"
NEWLINE = "model.image_newline"
UP = "model.layers.1.mlp.up_proj.weight"


def holder(folder: Path, name: str) -> Path:
    return folder / json.loads((folder / INDEX).read_text())["weight_map"][name]


def change(folder: Path, name: str, make: Callable[[np.ndarray], Any]) -> None:
    """Rewrite one tensor; without a value it goes."""
    file = holder(folder, name)
    tensors = load_file(file)
    value = make(tensors.pop(name))
    if value is not None:
        tensors[name] = np.ascontiguousarray(value)
    save_file(tensors, file)


def edit(folder: Path, name: str, **fields: Any) -> None:
    values = json.loads((folder / name).read_text())
    (folder / name).write_text(json.dumps(values | fields))


def truncated(folder: Path) -> None:
    file = folder / SECOND
    file.write_bytes(file.read_bytes()[:-1000])


def lying_header(folder: Path) -> None:
    """The header says that it is longer than the file."""
    file = folder / FIRST
    content = bytearray(file.read_bytes())
    content[:8] = struct.pack("<Q", len(content) * 2)
    file.write_bytes(content)


def short_header(folder: Path) -> None:
    file = folder / FIRST
    content = bytearray(file.read_bytes())
    content[:8] = struct.pack("<Q", struct.unpack("<Q", content[:8])[0] // 2)
    file.write_bytes(content)


def overlapping(folder: Path) -> None:
    """Two tensors claim the same bytes."""
    file = folder / FIRST
    content = file.read_bytes()
    size = struct.unpack("<Q", content[:8])[0]
    header = json.loads(content[8 : 8 + size])
    names = [n for n in header if n != "__metadata__"]
    header[names[1]]["data_offsets"] = header[names[0]]["data_offsets"]
    text = json.dumps(header).encode()
    file.write_bytes(struct.pack("<Q", len(text)) + text + content[8 + size :])


def duplicate(folder: Path) -> None:
    other = folder / (SECOND if holder(folder, UP).name == FIRST else FIRST)
    tensors = load_file(other)
    tensors[UP] = load_file(holder(folder, UP))[UP]
    save_file(tensors, other)


def pickled(folder: Path) -> None:
    for file in (FIRST, SECOND, INDEX):
        (folder / file).unlink()
    (folder / "pytorch_model.bin").write_bytes(b"\x80\x04cposix\nsystem\n.")


DAMAGES: list[tuple[str, Callable[[Path], Any], str]] = [
    ("truncated shard", truncated, f"{SECOND}: not a readable safetensors file"),
    ("header longer than the file", lying_header, f"{FIRST}: not a readable safetensors file"),
    ("header cut short", short_header, f"{FIRST}: not a readable safetensors file"),
    ("overlapping tensors", overlapping, f"{FIRST}: not a readable safetensors file"),
    ("empty shard", lambda f: (f / FIRST).write_bytes(b""), "not a readable safetensors file"),
    ("shard that is gone", lambda f: (f / FIRST).unlink(), f"names {FIRST}, which is not in the"),
    ("pickled weights only", pickled, "holds no .safetensors weights (pickled ones are not read)"),
    ("tensor in two shards", duplicate, f"tensor {UP} is in another shard too"),
    (
        "tensor gone",
        lambda f: change(f, UP, lambda t: None),
        f"1 tensors missing, the first is {UP}",
    ),
    (
        "mis-shaped tensor",
        lambda f: change(f, UP, lambda t: t[:-1]),
        f"tensor {UP} has shape [95, 64], the config asks for [96, 64]",
    ),
    (
        "transposed tensor",
        lambda f: change(f, UP, lambda t: t.T),
        f"tensor {UP} has shape [64, 96], the config asks for [96, 64]",
    ),
    (
        "newline gone",
        lambda f: change(f, NEWLINE, lambda t: None),
        "the tensor names are of no known LLaVA-OneVision layout",
    ),
    (
        "integers",
        lambda f: change(f, UP, lambda t: t.astype(np.int8)),
        f"tensor {UP} is of type I8; BF16, F16, F32 are read",
    ),
    (
        "layers of two types",
        lambda f: change(f, UP, lambda t: t.astype(np.float16)),
        f"tensor {UP} is float16, that of another layer is float32; layers must agree",
    ),
    (
        "wrong width in the config",
        lambda f: edit(f, "config.json", hidden_size=80),
        "the config asks for [",
    ),
    (
        "more layers in the config",
        lambda f: edit(f, "config.json", num_hidden_layers=3),
        "tensors missing, the first is model.layers.2.",
    ),
    (
        "fewer layers in the config",
        lambda f: edit(f, "config.json", num_hidden_layers=1),
        "unknown tensors, the first is model.layers.1.",
    ),
    (
        "another vocabulary in the config",
        lambda f: edit(f, "config.json", vocab_size=501),
        "has shape [500, 64], the config asks for [501, 64]",
    ),
    ("config gone", lambda f: (f / "config.json").unlink(), "holds neither critic.json (ours) nor"),
    ("config no JSON", lambda f: (f / "config.json").write_text("{"), "config.json: not valid"),
    (
        "index no JSON",
        lambda f: (f / INDEX).write_text('{"weight_map": '),
        f"{INDEX}: not valid JSON",
    ),
    (
        "tokenizer gone",
        lambda f: (f / "tokenizer.json").unlink(),
        "holds no tokenizer.json, nor vocab.json with merges.txt",
    ),
    (
        "tokenizer cut",
        lambda f: (f / "tokenizer.json").write_text('{"version": '),
        "tokenizer.json is no JSON",
    ),
    (
        "settings no JSON",
        lambda f: (f / "generation_config.json").write_text("[]"),
        "generation_config.json: a JSON object is expected, found list",
    ),
]


@pytest.mark.parametrize(
    ("damage", "said"), [(d, s) for _, d, s in DAMAGES], ids=[name for name, _, _ in DAMAGES]
)
@pytest.mark.parametrize("verb", ["convert", "export", "info", "judge"])
def test_each_damage_is_told_in_one_line(
    tmp_path: Path, capsys: Any, verb: str, damage: Callable[[Path], Any], said: str
) -> None:
    hub, target = tmp_path / "hub", tmp_path / "made"
    write_folder(hub, small_model(tied=False), "original", "float32", files=2)
    damage(hub)
    (tmp_path / "lines.jsonl").write_text('{"id": "1", "question": "?", "response": "7"}\n')
    words = {
        "convert": ["convert", str(hub), str(target)],
        "export": ["export", str(hub), str(target), "--layout", "hf"],
        "info": ["info", str(hub)],
        "judge": [
            *("judge", "--model", str(hub)),
            *("--input", str(tmp_path / "lines.jsonl"), "--output", str(target / "out.jsonl")),
        ],
    }[verb]
    assert main(words) == 2
    shown = capsys.readouterr()
    assert shown.err.count("\n") == 1 and said in shown.err, shown.err
    assert str(hub) in shown.err and len(shown.err) < 600
    left = [name for name in os.listdir(tmp_path) if name not in ("hub", "lines.jsonl", "made")]
    assert left == [] and (verb == "judge" or not target.exists())
