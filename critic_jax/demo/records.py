"""Critic records from digits: what a judge should write, for training and for held-out pictures.

Every target reasons first and judges after: what the picture shows, what each answer claims and
whether that is right, and only then the verdict in the template's own format. Exactly one answer of
a pair is right; without the picture nothing tells which one.
"""

import hashlib
import os
import random
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import Any

from critic_jax.demo.answers import (
    LOOKALIKE,
    RESPONSE_MODELS,
    STYLES,
    Answer,
    Grade,
    Question,
    ask,
    ask_any,
    word_answer,
)
from critic_jax.demo.digits import Digits, Scan, png, varied_picture, write_pictures
from critic_jax.files import write_json_lines
from critic_jax.judging.templates import get_template

PAIRWISE_SHARE = 0.8
PAIRWISE_TEMPLATES = {"critic-pairwise": 1, "mt-bench": 1}
POINTWISE_TEMPLATES = {"critic-pointwise": 3, "mmhal": 1}

PICTURES_FOLDER = "pictures"

_POINTS: dict[Grade, int] = {"right": 100, "close": 50, "wrong": 20}
_UNSURE = 20
_MMHAL = {100: 6, 80: 5, 50: 3, 30: 2, 20: 1, 0: 0}
# What follows a claim. The word stands right behind the claim that it grades, where a small model
# learns soonest to compare what is said with what is shown.
_GRADES: dict[Grade, str] = {"right": "as shown", "close": "nearly", "wrong": "wrongly"}
# How a judge calls the two answers, and its two verdicts.
_PAIR_WORDS = {
    "critic-pairwise": (
        ("The first", "The second"),
        ("The better response: [first]", "The better response: [second]"),
    ),
    "mt-bench": (("Assistant A", "Assistant B"), ("[[A]]", "[[B]]")),
}


def points(question: Question, digit: int, answer: Answer) -> int:
    """The true score of an answer, 0..100 in six levels.

    100 for the right claim, 50 for a lookalike digit, 20 for any other claim, and 20 less where
    the answer hedges.
    """
    return _POINTS[question.grade(digit, answer.claim)] - (0 if answer.sure else _UNSURE)


def _said(label: str, answer: Answer, grade: Grade) -> str:
    return f"{label} says {answer.claim} {_GRADES[grade]}"


def score_target(template: str, question: Question, digit: int, answer: Answer) -> str:
    """What a critic should write about one answer in a pointwise template.

    What the picture shows, the answer's claim with its grade and certainty, then the score.
    """
    score = points(question, digit, answer)
    said = _said("The response", answer, question.grade(digit, answer.claim))
    reason = f"{question.fact(digit)}. {said}, {'sure' if answer.sure else 'unsure'}."
    verdict = f"Rating: {_MMHAL[score]}" if template == "mmhal" else f"Score: {score}"
    return f"{reason}\n{verdict}"


def pair_target(
    template: str, question: Question, digit: int, first: Answer, second: Answer
) -> str:
    """What a critic should write about two answers of which one is right."""
    labels, verdicts = _PAIR_WORDS[template]
    truth = question.truth(digit)
    reason = f"{question.fact(digit)}."
    for label, answer in zip(labels, (first, second), strict=True):
        reason += f" {_said(label, answer, 'right' if answer.claim == truth else 'wrong')}."
    return f"{reason}\n{verdicts[first.claim != truth]}"


def make_record(name: str, kind: str, prompt: str, answer: str, image: bytes) -> dict[str, Any]:
    """One question about a picture and its answer, in the real record format."""
    return {
        "id": name,
        "source": f"digits/{kind}",
        "conversations": [
            {"from": "human", "value": "<image>\n" + prompt},
            {"from": "gpt", "value": answer},
        ],
        "image": image,
    }


def training_records(
    digits: Digits, seed: int, per_picture: int, copies: int = 1
) -> list[dict[str, Any]]:
    """Critic records of the training scans: `per_picture` judgments of each of `copies` pictures.

    The pictures of a scan differ a little (`varied_picture`). Keys: id, source
    ("digits/<template>"), conversations [{from, value}] and image (PNG bytes, one object for all
    records of a picture). Another seed gives other pictures, questions, answers and wordings.
    Records of a picture stand together.
    """
    draw = random.Random(f"digits records {seed}")
    records: list[dict[str, Any]] = []
    for copy, scan in product(range(copies), digits.train):
        image = png(varied_picture(scan, draw))
        # One template of each kind a picture: its judgments then share the template's words as well
        # as the picture, and a token tree holds both once.
        pairwise, pointwise = _choose(PAIRWISE_TEMPLATES, draw), _choose(POINTWISE_TEMPLATES, draw)
        for turn in range(per_picture):
            template = pairwise if draw.random() < PAIRWISE_SHARE else pointwise
            prompt, target = _judgment(template, scan.digit, draw)
            name = f"digits-{scan.number:04d}-{seed}-{copy}-{turn}"
            records.append(make_record(name, template, prompt, target, image))
    return records


def _judgment(template: str, digit: int, draw: random.Random) -> tuple[str, str]:
    """Prompt and target of one random judgment of a picture of `digit`."""
    question = ask_any(draw)
    if template in POINTWISE_TEMPLATES:
        answer = draw.choice(RESPONSE_MODELS).answer(question, digit, draw)
        prompt = get_template(template).render(question=question.text, response=answer.text)
        return prompt, score_target(template, question, digit, answer)
    first, second = _pair(question, digit, draw)
    prompt = get_template(template).render(
        question=question.text, response_a=first.text, response_b=second.text
    )
    return prompt, pair_target(template, question, digit, first, second)


def _choose(weights: dict[str, int], draw: random.Random) -> str:
    return draw.choices(list(weights), weights=list(weights.values()))[0]


def _pair(question: Question, digit: int, draw: random.Random) -> tuple[Answer, Answer]:
    """Two models' answers, one right and one not.

    Draws in which both or neither are right are thrown away. That keeps the pair fair: which of the
    two models has the better style or stands first says nothing about who is right.
    """
    truth = question.truth(digit)
    while True:
        model_1, model_2 = draw.sample(RESPONSE_MODELS, 2)
        first = model_1.answer(question, digit, draw)
        second = model_2.answer(question, digit, draw)
        if (first.claim == truth) != (second.claim == truth):
            return first, second


def heldout_lines(digits: Digits, seed: int) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Judge input lines on the held-out pictures, and their labels in the same order.

    400 pairs with exactly one right answer, spread over the pairwise templates, and 300 single
    answers, one a picture, all in critic-pointwise (another scale among them would flatter a
    correlation). All answers are in wordings that training never sees. Line one is a pair on a 7.

    The pairs are balanced, not just drawn at random: each digit has as many lines as any other,
    each two digits stand against each other as often with the one right as with the other, and
    the right answer is first in exactly half of the lines.

    Input keys: id, image (path relative to the file), question, template, and response or
    response_a and response_b. Label keys: id, verdict ("A" | "B") or score, and for tables
    kind, digit and claims.
    """
    draw = random.Random(f"digits heldout {seed}")
    pairs = _heldout_pairs(digits.heldout, draw)
    opening = max(range(len(pairs)), key=lambda n: _suits_the_opening(*pairs[n]))
    pairs[0], pairs[opening] = pairs[opening], pairs[0]
    lines: list[dict[str, Any]] = []
    labels: list[dict[str, Any]] = []
    for kind, part in (("pair", pairs), ("score", _heldout_scores(digits.heldout, draw))):
        for n, (line, label) in enumerate(part):
            lines.append({"id": f"{kind}-{n:03d}"} | line)
            labels.append({"id": f"{kind}-{n:03d}"} | label)
    return lines, labels


def _suits_the_opening(line: dict[str, Any], label: dict[str, Any]) -> tuple[bool, ...]:
    """What the first line should be, most important first: a 7, best of all against a 1."""
    return (
        label["digit"] == 7,
        label["kind"] == "digit",
        line["template"] == "critic-pairwise",
        str(LOOKALIKE[7]) in label["claims"],
        label["verdict"] == "A",
    )


_Labelled = list[tuple[dict[str, Any], dict[str, Any]]]


def _heldout_pairs(scans: Sequence[Scan], draw: random.Random) -> _Labelled:
    plan: list[tuple[Scan, Question, str]] = []
    for digit in range(10):
        shown = [scan for scan in scans if scan.digit == digit]
        draw.shuffle(shown)
        questions = _balanced_questions(digit, draw)
        # Every picture once, then some a second time.
        for n, (question, wrong) in enumerate(questions):
            plan.append((shown[n % len(shown)], question, wrong))
    draw.shuffle(plan)
    sides = ["A", "B"] * (len(plan) // 2)
    draw.shuffle(sides)
    templates = _spread(PAIRWISE_TEMPLATES, len(plan), draw)
    lines: _Labelled = []
    for n, (scan, question, wrong) in enumerate(plan):
        style_a, style_b = draw.sample(STYLES, 2)
        claims = [question.truth(scan.digit), wrong]
        if sides[n] == "B":
            claims.reverse()
        first = word_answer(question, claims[0], style_a, draw, heldout=True)
        second = word_answer(question, claims[1], style_b, draw, heldout=True)
        line = {
            "image": f"{PICTURES_FOLDER}/{scan.name}",
            "question": question.text,
            "response_a": first.text,
            "response_b": second.text,
            "template": templates[n],
        }
        label = {
            "verdict": sides[n],
            "kind": question.kind,
            "digit": scan.digit,
            "claims": claims,
        }
        lines.append((line, label))
    return lines


def _balanced_questions(digit: int, draw: random.Random) -> list[tuple[Question, str]]:
    """The 40 questions put to pictures of a digit, each with the wrong claim of its pair."""
    near = LOOKALIKE[digit]
    wrongs = [near] * 8 + [d for d in range(10) if d not in (digit, near) for _ in range(3)]
    asked = [(ask("digit", draw), str(wrong)) for wrong in wrongs]
    asked += [(ask("parity", draw), "even" if digit % 2 else "odd") for _ in range(8)]
    draw.shuffle(asked)
    return asked


def _spread(weights: dict[str, int], count: int, draw: random.Random) -> list[str]:
    """`count` names in shares exactly as weighted, shuffled."""
    total = sum(weights.values())
    names = [name for name, weight in weights.items() for _ in range(count * weight // total)]
    names += [next(iter(weights))] * (count - len(names))
    draw.shuffle(names)
    return names


def _heldout_scores(scans: Sequence[Scan], draw: random.Random) -> _Labelled:
    lines: _Labelled = []
    for scan in draw.sample(list(scans), len(scans)):
        question = ask_any(draw)
        answer = draw.choice(RESPONSE_MODELS).answer(question, scan.digit, draw, heldout=True)
        line = {
            "image": f"{PICTURES_FOLDER}/{scan.name}",
            "question": question.text,
            "response": answer.text,
            "template": "critic-pointwise",
        }
        label = {
            "score": points(question, scan.digit, answer),
            "kind": question.kind,
            "digit": scan.digit,
            "claims": [answer.claim],
        }
        lines.append((line, label))
    return lines


def write_heldout(digits: Digits, seed: int, folder: str | os.PathLike[str]) -> tuple[Path, Path]:
    """Write `input.jsonl`, `labels.jsonl` and the pictures; returns the paths of the two files."""
    target = Path(folder)
    write_pictures(digits.heldout, target / PICTURES_FOLDER)
    lines, labels = heldout_lines(digits, seed)
    inputs_path, labels_path = target / "input.jsonl", target / "labels.jsonl"
    write_json_lines(inputs_path, lines)
    write_json_lines(labels_path, labels)
    return inputs_path, labels_path


def write_records(records: Sequence[dict[str, Any]], folder: str | os.PathLike[str]) -> Path:
    """Write records as `records.jsonl` and their pictures, named by content, beside it.

    The image bytes become a path relative to the file. Returns the path of the file.
    """
    target = Path(folder)
    (target / PICTURES_FOLDER).mkdir(parents=True, exist_ok=True)
    names: dict[bytes, str] = {}
    for image in (record["image"] for record in records):
        if image not in names:
            digest = hashlib.blake2b(image, digest_size=8).hexdigest()
            names[image] = f"{PICTURES_FOLDER}/{digest}.png"
            (target / names[image]).write_bytes(image)
    path = target / "records.jsonl"
    write_json_lines(path, [record | {"image": names[record["image"]]} for record in records])
    return path
