"""Qwen2's real vocabulary, rebuilt from the ranks file in the wheel of the package dashscope."""

from __future__ import annotations

import base64
import importlib.util
import json
import os
import shutil
from pathlib import Path

import pytest
from tokenizers import pre_tokenizers

ADDED = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<image>")
FIRST_ADDED = 151643


def _ranks() -> dict[bytes, int]:
    """Token bytes to rank, 151,643 of them."""
    found = importlib.util.find_spec("dashscope")
    assert found is not None and found.submodule_search_locations
    path = Path(found.submodule_search_locations[0], "resources", "qwen.tiktoken")
    rows = (line.split() for line in path.read_bytes().splitlines() if line)
    return {base64.b64decode(token): int(rank) for token, rank in rows}


def _last_merge(token: bytes, ranks: dict[bytes, int]) -> tuple[bytes, bytes]:
    """The two parts whose merge makes the token: what is left when only lower ranks may merge."""
    limit = ranks[token]
    parts = [token[i : i + 1] for i in range(len(token))]
    while len(parts) > 2:
        pairs = [ranks.get(parts[i] + parts[i + 1], limit) for i in range(len(parts) - 1)]
        best = min(pairs)
        assert best < limit, token
        at = pairs.index(best)
        parts[at : at + 2] = [parts[at] + parts[at + 1]]
    return parts[0], parts[1]


def _byte_letters() -> list[str]:
    """The printable character that byte-level BPE writes for each byte value.

    Printable Latin-1 stands for itself, the other values follow from 256 on.
    """
    printable = {*range(33, 127), *range(161, 173), *range(174, 256)}
    others = [byte for byte in range(256) if byte not in printable]
    letters = [chr(b) if b in printable else chr(256 + others.index(b)) for b in range(256)]
    assert set(letters) == set(pre_tokenizers.ByteLevel.alphabet())
    return letters


def _build(folder: Path) -> None:
    ranks = _ranks()
    assert len(ranks) == FIRST_ADDED
    letters = _byte_letters()

    def written(token: bytes) -> str:
        return "".join(letters[byte] for byte in token)

    merges = (_last_merge(t, ranks) for t in sorted(ranks, key=ranks.__getitem__) if len(t) > 1)
    lines = ["#version: 0.2", *(f"{written(a)} {written(b)}" for a, b in merges)]
    vocabulary = {written(token): rank for token, rank in ranks.items()}
    added = {name: FIRST_ADDED + i for i, name in enumerate(ADDED)}
    decoder = {
        str(id): {
            "content": name,
            "lstrip": False,
            "normalized": False,
            "rstrip": False,
            "single_word": False,
            "special": True,
        }
        for name, id in added.items()
    }
    config = {
        "tokenizer_class": "Qwen2Tokenizer",
        "added_tokens_decoder": decoder,
        "eos_token": "<|im_end|>",
        "pad_token": "<|endoftext|>",
        "bos_token": None,
    }
    (folder / "vocab.json").write_text(json.dumps(vocabulary, ensure_ascii=False), "utf-8")
    (folder / "merges.txt").write_text("\n".join(lines) + "\n", "utf-8")
    (folder / "added_tokens.json").write_text(json.dumps(added))
    (folder / "tokenizer_config.json").write_text(json.dumps(config))


@pytest.fixture(scope="session")
def qwen2_folder(pytestconfig: pytest.Config) -> Path:
    """A folder in the layout of Qwen2 with `<image>` added; built once and kept between runs."""
    cache = pytestconfig.cache
    assert cache is not None
    done = Path(cache.mkdir("qwen2_vocabulary")) / "v1"
    if not done.is_dir():
        building = done.with_name(f"building-{os.getpid()}")
        building.mkdir()
        _build(building)
        try:
            building.rename(done)
        except OSError:  # another worker was faster
            shutil.rmtree(building)
    return done
