"""A policy that reads digits, wrong in a systematic way: what it learns from, and what it is asked.

Of some digits its lessons name the lookalike more often than the digit itself. So its greedy answer
there is wrong, while several sampled answers hold a right one: what ranking them can find.
"""

from __future__ import annotations

import os
import random
import re
from collections.abc import Mapping, Sequence
from hashlib import sha256
from itertools import product
from pathlib import Path
from typing import Any

from critic_jax.demo.answers import LOOKALIKE, ask, word_answer
from critic_jax.demo.digits import Digits, Scan, png, varied_picture, write_pictures
from critic_jax.demo.records import PICTURES_FOLDER, make_record
from critic_jax.files import write_json_lines

MISTAKEN = (5, 6, 7, 8, 9)
"""Digits that lessons name wrongly; no two are each other's lookalike."""
RIGHT_SHARE = 0.35
"""How often a lesson on one of these is right. Of five answers drawn so, at least one is right in
88 of 100 cases, and the wrong claim is nearly twice as likely."""

_NUMERAL = re.compile(r"\d+")


def policy_lessons(digits: Digits, seed: int, copies: int) -> list[dict[str, Any]]:
    """Records of a question about the digit and an answer, on `copies` pictures of a training scan.

    Of each scan of a mistaken digit, `RIGHT_SHARE` of the lessons are right, up to chance.
    """
    draw = random.Random(f"digits policy {seed}")
    records = []
    for copy, scan in product(range(copies), digits.train):
        question = ask("digit", draw)
        right = scan.digit not in MISTAKEN or draw.random() < RIGHT_SHARE
        claim = str(scan.digit if right else LOOKALIKE[scan.digit])
        answer = word_answer(question, claim, "terse", draw)
        name = f"policy-{scan.number:04d}-{seed}-{copy}"
        image = png(varied_picture(scan, draw))
        records.append(make_record(name, "policy", question.text, answer.text, image))
    return records


def write_prompts(
    scans: Sequence[Scan], seed: int, folder: str | os.PathLike[str]
) -> tuple[Path, Path]:
    """Write a prompt a scan, as `critic-jax generate` reads it, and the digits that scans show.

    `prompts.jsonl` has id, image and prompt, `digits.jsonl` id and digit, in one order; pictures
    stand beside them. Returns both paths.
    """
    draw, target = random.Random(f"digits prompts {seed}"), Path(folder)
    write_pictures(tuple(scans), target / PICTURES_FOLDER)
    shuffled = list(scans)
    draw.shuffle(shuffled)
    prompts, shown = [], []
    for scan in shuffled:
        name = f"digit-{scan.number:04d}"
        image = f"{PICTURES_FOLDER}/{scan.name}"
        prompts.append({"id": name, "image": image, "prompt": ask("digit", draw).text})
        shown.append({"id": name, "digit": scan.digit})
    return (
        write_json_lines(target / "prompts.jsonl", prompts),
        write_json_lines(target / "digits.jsonl", shown),
    )


def by_lot(prompts: Sequence[str], completions: Sequence[str], **_: Any) -> list[float]:
    """Rewards that have nothing to do with what an answer says: a useless critic's."""
    return [
        float(int.from_bytes(sha256(f"{p}\n{c}\n{n}".encode()).digest()[:4], "little"))
        for n, (p, c) in enumerate(zip(prompts, completions, strict=True))
    ]


def claimed(answer: str) -> int | None:
    """The digit that an answer names; None where it names none, or several different ones."""
    numerals = set(_NUMERAL.findall(answer))
    if len(numerals) != 1 or len(numeral := numerals.pop()) != 1:
        return None
    return int(numeral)


def answers_right(
    results: Sequence[Mapping[str, Any]], shown: Sequence[Mapping[str, Any]]
) -> float:
    """The share of all answers that name the digit shown.

    results: lines that `critic-jax generate` wrote, one answer or several each. shown: the lines of
    `digits.jsonl`.
    """
    digit = {line["id"]: line["digit"] for line in shown}
    right = [claimed(text) == digit[r["id"]] for r in results for text in r["responses"]]
    return sum(right) / len(right)
