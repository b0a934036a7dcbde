"""Prompts out of a file: lines of a prompt, and records of conversations."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from critic_jax.errors import InputError
from critic_jax.files import write_json_lines
from critic_jax.judging.prompts import read_prompts


def turns(*texts: str) -> list[dict[str, str]]:
    return [{"from": ("human", "gpt")[n % 2], "value": text} for n, text in enumerate(texts)]


@pytest.mark.parametrize(
    ("fields", "text", "pictures"),
    [
        ({"prompt": "<image>\nWhich?", "image": "0.png"}, "Which?", 1),
        ({"conversations": turns("Which?", "A 7.")}, "Which?", 0),
        ({"conversations": turns("<image>\nWhich?"), "image": "0.png"}, "Which?", 1),
        # Of several turns the last question, about all pictures.
        ({"conversations": turns("<image>\nHi.", "Hi.", "Which?", "7"), "image": "0"}, "Which?", 1),
        ({"conversations": turns("<image>", "Hi.", "Is <image> it?"), "image": ["0", "1"]}, "", 2),
        # A prompt goes before a conversation.
        ({"prompt": "Why?", "conversations": turns("Which?")}, "Why?", 0),
    ],
)
def test_a_line_asks_its_last_question(
    tmp_path: Path, fields: dict[str, Any], text: str, pictures: int
) -> None:
    file = write_json_lines(tmp_path / "p.jsonl", [{"id": "a", **fields}])
    ((prompt,), rejected) = read_prompts(file)
    assert (prompt.text or "", len(prompt.images)) == (text or "Is  it?", pictures)
    assert rejected == [] and prompt.where.endswith("line 1")


def test_an_id_may_be_a_number_as_in_records(tmp_path: Path) -> None:
    file = write_json_lines(tmp_path / "p.jsonl", [{"id": 7, "prompt": "Which?"}])
    assert [prompt.id for prompt in read_prompts(file)[0]] == ["7"]


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"conversations": turns("<image>\nWhich?", "7")}, "1 <image> marker and 0 pictures"),
        ({"conversations": []}, "no human turn"),
        ({"conversations": [{"from": "human", "value": 3}]}, "has a int as value"),
        ({"conversations": turns("Which?", "7") * 2 + turns("a", "b")[1:]}, "is from gpt after"),
    ],
)
def test_a_wrong_conversation_is_told_or_skipped(
    tmp_path: Path, fields: dict[str, Any], said: str
) -> None:
    file = write_json_lines(
        tmp_path / "p.jsonl", [{"id": "a", **fields}, {"id": "b", "prompt": "x"}]
    )
    with pytest.raises(InputError, match=said):
        read_prompts(file)
    prompts, (rejected,) = read_prompts(file, skip_bad=True)
    assert [one.id for one in prompts] == ["b"] and said in rejected["reason"]
