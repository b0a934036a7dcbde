"""The demo's second half: a policy that takes some digits for others learns from the critic."""

from __future__ import annotations

import random
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from critic_jax.alignment.report import write_report
from critic_jax.alignment.rounds import align
from critic_jax.data import read_json_lines
from critic_jax.demo.digits import Digits
from critic_jax.demo.policy import answers_right, claimed, policy_lessons, write_prompts
from critic_jax.demo.records import write_records
from critic_jax.files import write_json_lines
from critic_jax.judging.answer_file import generate_file
from critic_jax.reporting import Card, Html, deck, element, line_plot, paragraph, section
from critic_jax.training.config import AlignConfig, load_config
from critic_jax.training.loop import train

PROMPTS = 256
"""Training scans that the policy is asked about in every round. Half as many where rewards are
drawn by lot: there nothing is equal, and as many pairs come of it as the critic finds."""
ROUNDS = 3
EXAMPLES = 60
"""Answers before and after that the report shows."""

LEFT = ("policy", "rounds", "rounds_by_lot", *(f"policy_{number}" for number in range(ROUNDS + 1)))
"""What this leaves in the demo's folder."""


@dataclass(frozen=True)
class Size:
    """How much is done: less in a test. lessons: of each training scan; heldout: scans at most."""

    rounds: int = ROUNDS
    lessons: int = 1
    prompts: int = PROMPTS
    heldout: int | None = None


@dataclass(frozen=True)
class Aligned:
    """numbers: for the summary. answers: on held-out scans, of the policy before and after."""

    numbers: dict[str, Any]
    answers: list[dict[str, Any]]
    by_lot: list[float]

    def section(self) -> Html:
        """What the report says of it."""
        rounds = range(len(self.by_lot))
        curves = {
            "likeliest answer": self.numbers["policy_accuracy"],
            "sampled answers": self.numbers["policy_sample_accuracy"],
            "likeliest answer, rewards drawn by lot": self.by_lot,
        }
        plot = line_plot(
            {name: list(zip(rounds, values, strict=True)) for name, values in curves.items()},
            "Answers that name the digit shown",
            "rounds of training",
            "share",
        )
        return section(
            "A policy learns from the critic",
            paragraph(
                "A policy was taught to take some digits for others. It answers questions about "
                "scans, the critic ranks its answers, and it learns from the best and the worst of "
                "each question; three times. These are its answers on scans that neither of them "
                "has seen."
            ),
            element("div", plot, class_="plots"),
            deck([_card(one) for one in self.answers], (("learned", "unlearned", "same"),)),
        )


def align_policy(
    out: Path,
    critic: Path,
    digits: Digits,
    seed: int,
    size: Size = Size(),
) -> Aligned:
    """Teach the policy, align it in three rounds with the critic and with rewards drawn by lot, and
    measure its answers on held-out scans.

    Leaves `out`/policy_0 (taught) to `out`/policy_3, `out`/rounds (the rounds, with their report)
    and `out`/policy/heldout (prompts, the digits shown, the answers of every policy).
    """
    policies = [_taught(out, critic, digits, seed, size)]
    scans = list(digits.train)
    random.Random(f"digits rounds {seed}").shuffle(scans)
    for judge, count in (("critic", size.prompts), ("lot", size.prompts // 2)):
        asked, _ = write_prompts(scans[:count], seed, out / "policy" / f"asked_for_{judge}")
        _rounds(out, judge, critic, asked, seed, size.rounds)
    for number in range(1, size.rounds + 1):
        policies.append(out / f"policy_{number}")
        shutil.copytree(_trained(out / "rounds", number), policies[-1])
    folder = out / "policy" / "heldout"
    prompts, digits_file = write_prompts(digits.heldout[: size.heldout], seed, folder)
    shown = [line for _, line in read_json_lines(digits_file)]
    said: list[list[dict[str, Any]]] = []
    sampled: list[float] = []
    for number, policy in enumerate(policies):
        said.append(_answers(policy, prompts, folder / f"answers_{number}.jsonl"))
        five = {"n": 5, "temperature": 0.7, "top_p": 0.9, "seed": seed}
        found = _answers(policy, prompts, folder / f"sampled_{number}.jsonl", **five)
        sampled.append(answers_right(found, shown))
    accuracy = [answers_right(of_policy, shown) for of_policy in said]
    by_lot = accuracy[:1]
    for number in range(1, size.rounds + 1):
        policy = _trained(out / "rounds_by_lot", number)
        found = _answers(policy, prompts, folder / f"answers_by_lot_{number}.jsonl")
        by_lot.append(answers_right(found, shown))
    blank = _answers(policies[-1], _blanked(prompts), folder / "answers_blank.jsonl")
    numbers = {
        "policy_accuracy": accuracy,
        "policy_sample_accuracy": sampled,
        "policy_accuracy_shuffled_critic": by_lot[-1],
        "policy_accuracy_blank": answers_right(blank, shown),
    }
    return Aligned(numbers, _before_and_after(prompts, shown, said[0], said[-1]), by_lot)


def _taught(out: Path, critic: Path, digits: Digits, seed: int, size: Size) -> Path:
    records = write_records(policy_lessons(digits, seed, size.lessons), out / "policy")
    config = {"init": critic, "data": records, "output": out / "policy", "seed": seed}
    trained = train(load_config("digits_policy", _words(config)))
    return Path(shutil.move(trained, out / "policy_0"))


def _rounds(out: Path, judge: str, critic: Path, prompts: Path, seed: int, rounds: int) -> None:
    config: dict[str, Any] = {"init": out / "policy_0", "data": prompts, "seed": seed}
    config["rounds"] = rounds
    if judge == "critic":
        config |= {"judge": critic, "output": out / "rounds"}
    else:
        useless = "critic_jax.demo.policy.by_lot"
        config |= {"judge": "", "reward_function": useless, "output": out / "rounds_by_lot"}
    made = load_config("digits_rounds", _words(config), AlignConfig)
    assert isinstance(made, AlignConfig)
    align(made, write_report)


def _words(fields: Mapping[str, Any]) -> list[str]:
    return [word for name, value in fields.items() for word in (f"--{name}", str(value))]


def _trained(rounds: Path, number: int) -> Path:
    return rounds / f"round_{number}" / "dpo" / "policy"


def _answers(policy: Path, prompts: Path, into: Path, **sampling: Any) -> list[dict[str, Any]]:
    generate_file(str(policy), prompts, into, max_new_tokens=24, **sampling)
    return [line for _, line in read_json_lines(into)]


def _blanked(prompts: Path) -> Path:
    """The prompts with white paper for a picture."""
    Image.new("L", (32, 32), 255).save(prompts.with_name("blank.png"))
    lines = [line | {"image": "blank.png"} for _, line in read_json_lines(prompts)]
    return write_json_lines(prompts.with_name("prompts_blank.jsonl"), lines)


def _before_and_after(
    prompts: Path,
    shown: Sequence[Mapping[str, Any]],
    before: Sequence[Mapping[str, Any]],
    after: Sequence[Mapping[str, Any]],
) -> list[dict[str, Any]]:
    lines = [line for _, line in read_json_lines(prompts)]
    return [
        line
        | {
            "image": prompts.parent / line["image"],
            "digit": of_scan["digit"],
            "before": first["responses"][0],
            "after": last["responses"][0],
        }
        for line, of_scan, first, last in zip(lines[:EXAMPLES], shown, before, after, strict=False)
    ]


def _card(one: Mapping[str, Any]) -> Card:
    was, became = (claimed(one[name]) == one["digit"] for name in ("before", "after"))
    tag = "same" if was == became else "learned" if became else "unlearned"
    return Card(
        picture=one["image"],
        question=one["prompt"],
        answers=(("Before", one["before"]), ("After", one["after"])),
        rulings=(),
        truth=str(one["digit"]),
        best=None if was == became else int(became),
        tags=(tag,),
        name=one["id"],
    )
