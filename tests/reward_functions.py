"""Functions that say what an answer is worth, and a judge of two, for tests of rounds."""

import re
from hashlib import sha256
from pathlib import Path
from typing import Any

TWO = re.compile(r"\[Assistant 1\]\n(.*?)\n\[End.*\[Assistant 2\]\n(.*?)\n\[End", re.DOTALL)


def by_vowels(prompt: str) -> str:
    """A judge of two answers: a quarter point a vowel, and half a point more for the first."""
    pair = TWO.search(prompt)
    assert pair is not None
    first, second = (sum(c in "aeiou" for c in text) for text in pair.groups())
    return f"{1.5 + first / 4} {1 + second / 4}"


def vowels(
    prompts: list[str], completions: list[str], images: list[list[Path | bytes]]
) -> list[float]:
    """The share of vowels."""
    assert len(prompts) == len(completions) == len(images)
    return [sum(c in "aeiou" for c in text) / max(1, len(text)) for text in completions]


def by_hash(prompts: list[str], completions: list[str], **columns: Any) -> list[float]:
    """Numbers that have nothing to do with the answers, the same each time."""
    return [
        sha256(f"{p} {c}".encode()).digest()[0] for p, c in zip(prompts, completions, strict=True)
    ]


def too_few(prompts: list[str], completions: list[str], **columns: Any) -> list[float]:
    return [1.0]


def words(prompts: list[str], completions: list[str], **columns: Any) -> list[str]:
    return ["good"] * len(prompts)


def zero(prompts: list[str], completions: list[str], **columns: Any) -> list[float]:
    return [0.0] * len(prompts)


def nothing(prompts: list[str], completions: list[str], **columns: Any) -> None:
    return None


def no_arguments() -> list[float]:
    return []


def failing(prompts: list[str], completions: list[str], **columns: Any) -> list[float]:
    raise ConnectionError("nobody\nanswers")
