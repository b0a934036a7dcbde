"""A judge as a reward function: what is asked, what comes back, for texts and conversations."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from reward_functions import by_vowels

from critic_jax.alignment.reward_fn import make_reward_fn
from critic_jax.errors import InputError
from critic_jax.imaging import PictureError
from critic_jax.testing import FakeCritic


def by_length(prompt: str) -> str:
    """A score: the number of exclamation marks; none where there is a question in the answer."""
    return "Who knows?" if "hm" in prompt else f"Score: {10 * prompt.count('!')}"


def test_each_completion_is_scored_and_equal_ones_once() -> None:
    judge = FakeCritic(by_length)
    reward_fn = make_reward_fn(judge)
    prompts = ["Which?", "Which?", "Why?", "Which?"]
    rewards = reward_fn(prompts=prompts, completions=["7!", "1!!", "7!", "7!"], answer=[1] * 4)
    assert rewards == [10, 20, 10, 10] and len(judge.asked) == 3
    assert reward_fn(prompts=["Which?"], completions=["hm"]) == [None]
    assert make_reward_fn(judge, unknown=0.0)(["Which?"], ["hm"]) == [0.0]
    assert reward_fn.__name__ == "fake-critic"
    assert reward_fn([], []) == []


def test_a_group_is_ranked() -> None:
    judge = FakeCritic(by_vowels)
    reward_fn = make_reward_fn(judge, by="ranking")
    # Groups need not stand together; r_i / (2 (K - 1)) = mean over the others of q_i - q_k.
    prompts = ["Which?", "Why?", "Which?", "Which?", "Who?", "Why?", "Which?"]
    said = ["a", "aaaa", "aaa", "bb", "aa", "aa", "a"]
    rewards = reward_fn(prompts, said)
    # "a" stands there twice: of its six comparisons two are with itself, and are not counted.
    expected = [(1 - 3 + 1 - 0) / 2, 2, (3 - 1 + 3 - 0 + 3 - 1) / 3, (-1 - 3 - 1) / 3, 0, -2]
    assert rewards == pytest.approx([each / 4 for each in (*expected, expected[0])])
    assert len(judge.asked) == 6 + 2
    assert make_reward_fn(FakeCritic("hm"), by="ranking")(["W"] * 2, ["a", "b"]) == [None, None]


def test_conversations_and_pictures_are_taken_as_trl_has_them(tmp_path: Path) -> None:
    Image.new("RGB", (8, 8), "red").save(tmp_path / "red.png")
    judge = FakeCritic(by_length)
    asked: list[Any] = []
    visuals = judge.visuals
    judge.visuals = lambda image, name="image": (asked.append(image), visuals(image))[1]  # type: ignore[method-assign]
    turns = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "Which digit?"}]},
    ]
    completions = [[{"role": "assistant", "content": text}] for text in ("7!", "1")]
    pictures: list[Any] = [[tmp_path / "red.png"], [tmp_path / "red.png"]]
    rewards = make_reward_fn(judge)(prompts=[turns] * 2, completions=completions, images=pictures)
    assert rewards == [10, 0]
    assert asked == [[tmp_path / "red.png"]]  # one group: opened once
    assert all(re.search(r"Which digit\?", text) for text in judge.asked)
    opened = Image.open(tmp_path / "red.png")
    assert make_reward_fn(judge)(["Which?"], ["7!"], [opened]) == [10]


def test_the_column_of_one_picture_a_prompt_is_looked_at() -> None:
    red, blue = (Image.new("RGB", (8, 8), color) for color in ("red", "blue"))
    prompts, said = ["Which?"] * 2, ["a", "bb"]
    rank = make_reward_fn(FakeCritic(by_vowels), by="ranking")
    assert rank(prompts=prompts, completions=said, image=[red, red.copy()]) == [0.25, -0.25]
    assert rank(prompts=prompts, completions=said, image=[red, blue]) == [0.0, 0.0]
    assert rank(prompts=prompts, completions=said, images=[[red]] * 2, image=[red, blue])[0] == 0.25
    with pytest.raises(InputError, match="2 prompts, 2 completions and 1 images"):
        rank(prompts=prompts, completions=said, image=[red])


def test_a_picture_that_is_opened_for_each_completion_makes_one_group(tmp_path: Path) -> None:
    path = tmp_path / "red.png"
    Image.new("RGB", (8, 8), "red").save(path)
    rank = make_reward_fn(FakeCritic(by_vowels), by="ranking")
    opened = [[Image.open(path)] for _ in range(2)]
    assert rank(["Which?"] * 2, ["a", "bb"], opened) == [0.25, -0.25]
    other = [[Image.new("RGB", (8, 8), color)] for color in ("red", "blue")]
    assert rank(["Which?"] * 2, ["a", "bb"], other) == [0.0, 0.0]
    path.write_bytes(path.read_bytes()[:50])
    with pytest.raises(PictureError):
        rank(["Which?"] * 2, ["a", "bb"], [[Image.open(path)], [Image.open(path)]])


def test_wrong_calls_are_told() -> None:
    judge = FakeCritic("Score: 1")
    with pytest.raises(InputError, match=r"^2 prompts, 1 completions and 2 images"):
        make_reward_fn(judge)(["a", "b"], ["c"])
    with pytest.raises(InputError, match="llava-bench scores no single answer"):
        make_reward_fn(judge, template="llava-bench")
    with pytest.raises(InputError, match="by is 'rank'; it should be 'score' or 'ranking'"):
        make_reward_fn(judge, by="rank")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="compares no two answers"):
        make_reward_fn(judge, by="ranking", template="critic-pointwise")
