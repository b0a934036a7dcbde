"""Judging what is held out, with answers from a script."""

from collections.abc import Callable, Sequence
from typing import Any

import pytest
from tiny_critic import tiny_checkpoint

from critic_jax.data import Record
from critic_jax.errors import InputError
from critic_jax.evaluation import held_out
from critic_jax.evaluation.held_out import held_out_judge
from critic_jax.sampling.choose import Sampling
from critic_jax.sampling.engine import Completion
from critic_jax.training.config import TrainConfig

START = tiny_checkpoint()


class Scripted:
    """An engine that answers each prompt with what a script makes of its text."""

    batch = 2

    def __init__(self, say: Callable[[str], str]) -> None:
        self.say = say
        self.asked: list[str] = []
        self.sampling: Sampling | None = None

    def generate(self, prompts: Sequence[Any], sampling: Sampling) -> list[list[Completion]]:
        self.sampling = sampling
        answers = []
        for prompt in prompts:
            text = START.tokenizer.decode(prompt.tokens.tolist())
            self.asked.append(text)
            said = tuple(START.tokenizer.encode(self.say(text)))
            answers.append([Completion(said, (0.0,) * len(said), "stop")])
        return answers


def record(number: int, answer: str) -> Record:
    turns = (
        {"from": "human", "value": f"Which is better? Number {number}."},
        {"from": "gpt", "value": answer},
    )
    return Record(f"r{number % 3}", "made", turns, (), number, f"record {number}")


RECORDS = [
    record(0, "It is larger. The better response: [1]"),
    record(1, "No verdict at all."),
    record(2, "It is smaller. The better response: [2]"),
    record(3, "It names it.\nScore: 80"),
    record(4, "It does not.\nScore: 20"),
    record(5, "The better response: [2]"),
    record(6, "It is so so.\nScore: 50"),
]


def judge(
    say: Callable[[str], str], monkeypatch: pytest.MonkeyPatch, count: int = 6
) -> tuple[dict[str, float], Scripted]:
    engine = Scripted(say)
    monkeypatch.setattr(held_out, "Engine", lambda *_: engine)
    config = TrainConfig(init="", data="", output="", validation_judged=count)
    return held_out_judge(config, START, RECORDS)(START.params, lambda: False), engine


def test_answers_are_held_against_the_records_own(monkeypatch: pytest.MonkeyPatch) -> None:
    said = {0: "The better response: [1]", 2: "The better response: [1]", 5: "I do not know."}
    said |= {3: "Score: 90", 4: "Score: 50", 6: "Score: 70"}

    def say(text: str) -> str:
        return next(answer for n, answer in said.items() if f"Number {n}." in text)

    found, engine = judge(say, monkeypatch)
    # Scores 80, 20, 50 against 90, 50, 70: 30 * 20 + 30 * 20 over the root of 1800 * 800.
    assert found == pytest.approx(
        {
            "validation_agreement": 1 / 3,
            "validation_pearson": 1200 / (1800 * 800) ** 0.5,
            "validation_unparsed": 1 / 6,
        }
    )
    assert engine.sampling == Sampling(max_new_tokens=12)
    # Each is asked as it was trained on, up to its answer; the one without a verdict is not.
    assert len(engine.asked) == 6 and not any("Number 1." in text for text in engine.asked)
    assert all(
        text.endswith("assistant\n") and "better response" not in text for text in engine.asked
    )


def test_what_nothing_was_asked_of_has_no_number(monkeypatch: pytest.MonkeyPatch) -> None:
    found, engine = judge(lambda _: "The better response: [2]", monkeypatch, count=2)
    assert found == {"validation_agreement": 0.5, "validation_unparsed": 0.0}
    assert len(engine.asked) == 2


def test_it_stops_when_asked_to(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = Scripted(lambda _: "Score: 1")
    monkeypatch.setattr(held_out, "Engine", lambda *_: engine)
    asked = iter([False, True])
    config = TrainConfig(init="", data="", output="", validation_judged=6)
    assert held_out_judge(config, START, RECORDS)(START.params, lambda: next(asked)) == {}
    assert len(engine.asked) == 2


def test_records_without_a_verdict_are_an_error() -> None:
    config = TrainConfig(init="", data="", output="", validation_judged=6)
    with pytest.raises(InputError, match="none of the records held out states a verdict"):
        held_out_judge(config, START, RECORDS[1:2])
