"""Lessons in reading: short records that teach which digit a picture shows.

A critic usually starts from a model that can see; this one learns to see while it learns to judge.
A lesson is short and supervises little but the digit.
"""

from __future__ import annotations

import random
from itertools import product
from typing import Any

from critic_jax.demo.answers import ask
from critic_jax.demo.digits import Digits, png, varied_picture
from critic_jax.demo.records import make_record


def reading_lessons(digits: Digits, seed: int, copies: int) -> list[dict[str, Any]]:
    """A question about the digit, answered by a numeral, on each of `copies` pictures of a scan."""
    draw = random.Random(f"digits reading {seed}")
    return [
        make_record(
            f"reading-{scan.number:04d}-{seed}-{copy}",
            "reading",
            ask("digit", draw).text,
            str(scan.digit),
            png(varied_picture(scan, draw)),
        )
        for copy, scan in product(range(copies), digits.train)
    ]
