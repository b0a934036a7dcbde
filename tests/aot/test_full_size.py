"""The recipes at full size fit the slices that they are for, tower included."""

import json

import pytest

from critic_jax.cli import main

GIB = 2**30

pytestmark = pytest.mark.slow


def compiled(words: list[str], capsys: pytest.CaptureFixture[str]) -> dict:
    assert main(["aot", *words, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    return {**found, **found["steps"]["sft"]}


def test_7b_on_32_chips_of_v5e(capsys: pytest.CaptureFixture[str]) -> None:
    """All parameters trained, a row of 16,384 tokens and 40 tiles to each chip."""
    words = ["critic_7b", "--topology", "v5e:4x8", "--rows", "32", "--tensor", "1"]
    found = compiled(words, capsys)
    assert found["parameters"] == 8_030_348_832
    assert found["chips"] == 32 and found["tokens_per_chip"] == 16_384
    assert found["fits"] and found["peak_bytes"] < 16 * GIB


def test_72b_on_64_chips_of_v6e(capsys: pytest.CaptureFixture[str]) -> None:
    """All parameters trained, eight rows of 16,384 tokens and 40 tiles."""
    found = compiled(["critic_72b", "--topology", "v6e:8x8"], capsys)
    assert found["parameters"] == 73_180_522_016
    assert found["chips"] == 64 and found["row_tokens"] == 16_384
    assert found["fits"] and found["peak_bytes"] < 32 * GIB
