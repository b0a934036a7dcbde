"""The demo's rounds in a short form: what they leave, with a judge that counts vowels."""

import json
from pathlib import Path

import pytest

from critic_jax.data import read_json_lines
from critic_jax.demo.aligned import Size, align_policy
from critic_jax.demo.digits import Digits, make_digits
from critic_jax.demo.policy import answers_right, by_lot
from critic_jax.demo.run import prepare
from critic_jax.judging.ask import Ask, Asking, ask_until_read
from critic_jax.judging.critic import Critic
from critic_jax.judging.judgment import Judgment

COMPILED_QUICKLY = True


def judge(self: Critic, asks: list[Ask], asking: Asking | None = None) -> list[Judgment]:
    """More vowels are better, whatever stands first."""

    def say(ask: Ask) -> str:
        first, second = (
            sum(c in "aeiou" for c in ask.texts[name]) for name in ("response_a", "response_b")
        )
        better = "first" if first > second else "second"
        return f"The better response: [{better}]" if first != second else "Both are equally good."

    return [ask_until_read(ask, self.name, 0, lambda _, a=ask: (say(a), True)) for ask in asks]


def test_a_policy_is_taught_aligned_and_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Critic, "judge", judge)
    monkeypatch.setenv("CRITIC_JAX_CACHE", str(tmp_path / "cache"))
    every = make_digits(0)
    digits = Digits(every.train[:60], every.heldout)
    prepare(tmp_path, digits, 0)
    found = align_policy(tmp_path, tmp_path / "start", digits, 0, Size(1, 1, 48, 10))
    for name in ("policy_accuracy", "policy_sample_accuracy"):
        assert len(found.numbers[name]) == 2
    assert found.by_lot[0] == found.numbers["policy_accuracy"][0]
    assert found.by_lot[-1] == found.numbers["policy_accuracy_shuffled_critic"]
    folder = tmp_path / "policy/heldout"
    shown = [line for _, line in read_json_lines(folder / "digits.jsonl")]
    for number in range(2):
        assert (tmp_path / f"policy_{number}/critic.json").exists()
        for name, key, count in (
            ("answers", "policy_accuracy", 1),
            ("sampled", "policy_sample_accuracy", 5),
        ):
            lines = [line for _, line in read_json_lines(folder / f"{name}_{number}.jsonl")]
            assert [len(line["responses"]) for line in lines] == [count] * 10
            assert answers_right(lines, shown) == found.numbers[key][number]
    # Both runs start alike, and go their own ways.
    told = [
        json.loads((tmp_path / run / "round_1/round.json").read_text())
        for run in ("rounds", "rounds_by_lot")
    ]
    assert told[0]["start"] == told[1]["start"] and min(one["pairs"] for one in told) > 2
    prints = [one["policy"]["fingerprint"] for one in told]
    assert len({told[0]["start"]["fingerprint"], *prints}) == 3
    page = found.section()
    assert "Answers that name the digit shown" in page and page.count("<article") == 10


def test_rewards_by_lot_know_nothing_of_answers() -> None:
    words = ["It is a 7.", "It is a 1."] * 200
    prompts = [f"Which digit is this, {n // 2}?" for n in range(400)]
    rewards = by_lot(prompts, words)
    assert rewards == by_lot(prompts, words) and len(set(rewards)) == 400
    first = sum(a > b for a, b in zip(rewards[::2], rewards[1::2], strict=True))
    assert 70 <= first <= 130  # of 200, within four deviations
