"""Memory for keys and values: how it is written, and what comes of too little."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from tiny_critic import tiny_checkpoint

from critic_jax import Critic, InputError
from critic_jax.cli import main
from critic_jax.data.encode import prompt_path
from critic_jax.files import write_json_lines
from critic_jax.judging.memory import parse_bytes
from critic_jax.sampling.trees import bucket


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("12GB", 12 * 10**9),
        ("1.5 GiB", 3 * 2**29),
        ("800mib", 800 * 2**20),
        ("7kb", 7000),
        ("65536", 65536),
    ],
)
def test_amounts_as_people_write_them(text: str, wanted: int) -> None:
    assert parse_bytes(text) == wanted


@pytest.mark.parametrize("text", ["", "GB", "12 apples", "-1GB", "0", "0.5", "1e9", "1,000"])
def test_what_is_no_amount_is_told(text: str) -> None:
    with pytest.raises(InputError, match=re.escape(f"memory is {text!r}; it should be an amount")):
        parse_bytes(text)


def test_too_little_for_one_answer_is_one_line(
    critic_folder: Path, tmp_path: Path, capsys: Any
) -> None:
    lines = [{"id": "1", "question": "Which?", "response": "A 7.", "prompt": "Which?"}]
    source = write_json_lines(tmp_path / "in.jsonl", lines)
    words = ["--model", str(critic_folder), "--input", str(source)]
    for verb in ("judge", "generate"):
        output = tmp_path / f"{verb}.jsonl"
        assert main([verb, *words, "--output", str(output), "--memory", "1kB"]) == 2
        error = capsys.readouterr().err
        assert error.count("\n") == 1 and "a memory of 1000 bytes holds 0 beside 1 answers" in error
        assert not output.exists()
        assert main([verb, *words, "--output", str(output), "--memory", "lots"]) == 2
        assert "memory is 'lots'" in capsys.readouterr().err


def test_little_is_enough_for_one_answer_at_a_time(critic_folder: Path, tmp_path: Path) -> None:
    critic = Critic(tiny_checkpoint(), "tiny")
    lines = [{"id": f"{n}", "prompt": f"Which digit, {n}?"} for n in range(5)]
    source = write_json_lines(tmp_path / "in.jsonl", lines)
    words = ["generate", "--model", str(critic_folder), "--input", str(source)]
    words += ["--max-new-tokens", "8", "--output"]
    prompt = bucket(len(prompt_path("Which digit, 0?", (), critic.tokenizer)))
    least = (2 * prompt + 64) * critic.engine.place_bytes()
    assert main([*words, str(tmp_path / "all.jsonl")]) == 0
    assert main([*words, str(tmp_path / "few.jsonl"), "--memory", str(least)]) == 0
    few, many = ((tmp_path / f"{name}.jsonl").read_text() for name in ("few", "all"))
    assert few == many and len([json.loads(line) for line in few.splitlines()]) == 5
