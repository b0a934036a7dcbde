"""Whether prompts hold the questions of an evaluation set, word by word."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Sequence

LEAST_WORDS = 6
"""Of a question that tells by itself where it is from; shorter ones are common property."""

_WORD = re.compile(r"\w+")


def words(text: str) -> tuple[str, ...]:
    """The words of a text in lower case, without marks."""
    return tuple(_WORD.findall(text.lower()))


class Questions:
    """Questions that are looked for in longer texts."""

    def __init__(self, texts: Sequence[str]) -> None:
        self._starts: dict[tuple[str, ...], list[tuple[int, tuple[str, ...]]]] = defaultdict(list)
        for place, text in enumerate(texts):
            question = words(text)
            if len(question) >= LEAST_WORDS:
                self._starts[question[:LEAST_WORDS]].append((place, question))

    def held_by(self, text: str) -> Iterator[int]:
        """The places of the questions that the text holds."""
        read = words(text)
        found = set()
        for start in range(len(read) - LEAST_WORDS + 1):
            for place, question in self._starts.get(read[start : start + LEAST_WORDS], ()):
                if place not in found and read[start : start + len(question)] == question:
                    found.add(place)
                    yield place
