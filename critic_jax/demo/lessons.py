"""Lessons: short records that teach the parts of judging, one at a time.

A critic usually starts from a model that can see and read; this one learns to while it learns to
judge. A lesson costs a third of a judgment's tokens and supervises little else than its subject.
"""

from __future__ import annotations

import random
from itertools import product
from typing import Any

from critic_jax.demo.answers import RESPONSE_MODELS, Question, ask, ask_any
from critic_jax.demo.digits import Digits, Scan, png, varied_picture
from critic_jax.demo.records import PAIRWISE_TEMPLATES, fair_pair, pair_reason, score_reason

EXCHANGES = 4
"""Answers, or pairs of answers, that one lesson in weighing looks at."""

# Two answers as the judge's template shows them, without its instructions.
_SHOWN = {
    "critic-pairwise": "The first response: [{}]\nThe second response: [{}]",
    "mt-bench": (
        "[The Start of Assistant A's Answer]\n{}\n[The End of Assistant A's Answer]\n\n"
        "[The Start of Assistant B's Answer]\n{}\n[The End of Assistant B's Answer]"
    ),
}


def reading_lessons(digits: Digits, seed: int, copies: int) -> list[dict[str, Any]]:
    """Which digit a picture shows, answered by a numeral: `copies` pictures of each scan."""
    draw = random.Random(f"digits reading {seed}")
    return [
        _lesson(
            f"reading-{scan.number:04d}-{seed}-{copy}",
            [("<image>\n" + ask("digit", draw).text, str(scan.digit))],
            scan,
            draw,
        )
        for copy, scan in product(range(copies), digits.train)
    ]


def weighing_lessons(digits: Digits, seed: int, copies: int) -> list[dict[str, Any]]:
    """Conversations that read a picture, then weigh answers against it in several exchanges."""
    draw = random.Random(f"digits weighing {seed}")
    lessons = []
    for copy, scan in product(range(copies), digits.train):
        question = ask_any(draw)
        turns = [("<image>\n" + question.text, f"{question.fact(scan.digit)}.")]
        turns += [_exchange(question, scan.digit, draw) for _ in range(EXCHANGES)]
        lessons.append(_lesson(f"weighing-{scan.number:04d}-{seed}-{copy}", turns, scan, draw))
    return lessons


def _exchange(question: Question, digit: int, draw: random.Random) -> tuple[str, str]:
    """One answer, or two, and what a critic says of them."""
    if draw.random() < 0.5:
        answer = draw.choice(RESPONSE_MODELS).answer(question, digit, draw)
        return f"The response: [{answer.text}]", score_reason(question, digit, answer)
    first, second = fair_pair(question, digit, draw)
    template = draw.choice(list(PAIRWISE_TEMPLATES))
    shown = _SHOWN[template].format(first.text, second.text)
    return shown, pair_reason(template, question, digit, first, second)


def _lesson(
    name: str, turns: list[tuple[str, str]], scan: Scan, draw: random.Random
) -> dict[str, Any]:
    """A record in the real format, on a picture of its own."""
    roles = ("human", "gpt")
    return {
        "id": name,
        "source": f"digits/{name.split('-')[0]}",
        "conversations": [
            {"from": role, "value": text}
            for turn in turns
            for role, text in zip(roles, turn, strict=True)
        ],
        "image": png(varied_picture(scan, draw)),
    }
