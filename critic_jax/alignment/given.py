"""Rewards out of a file that something else made: a reward model's scores, people's preferences."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import Any

from critic_jax.alignment.answers import Answers
from critic_jax.alignment.choice import Rewards
from critic_jax.data import read_json_lines
from critic_jax.data.records import record_id, shown
from critic_jax.errors import InputError
from critic_jax.hosts import on_first
from critic_jax.judging.judgment import winner
from critic_jax.judging.results import VERDICTS

Key = tuple[str, str]
"""A prompt's id and the text of an answer."""


class GivenFile(ABC):
    """A file whose lines speak of answers by their prompt's id and their text."""

    any_answer = False

    def __init__(self, path: Path) -> None:
        """Raises InputError for a file that is wrong: now, and not after hours of sampling."""
        self.path = path
        self.name = path.name
        on_first(self._read)

    def rewards(self, answers: Sequence[Answers], folder: Path) -> list[Rewards]:
        """As `RewardSource.rewards`."""
        return on_first(lambda: [self._of(one) for one in answers])

    @abstractmethod
    def _read(self) -> None:
        """Read the file."""

    @abstractmethod
    def _of(self, one: Answers) -> Rewards:
        """Of the answers to one prompt."""

    def told(self, folder: Path) -> dict[str, Any]:
        """The file, and a digest of it."""
        digest = sha256(self.path.read_bytes()).hexdigest()[:16]
        return {"file": self.path.name, "fingerprint": digest}

    def _lines(self, *texts: str) -> Iterator[tuple[str, Mapping[str, Any], str]]:
        """(prompt's id, fields, place in words) of each line; `texts` are texts in it."""
        for number, fields in read_json_lines(self.path):
            place = f"{self.path} line {number}"
            try:
                name = record_id(fields)
                for text in texts:
                    if not isinstance(fields.get(text), str):
                        said = shown(fields[text]) if text in fields else "missing"
                        raise InputError(f"field '{text}' is {said}; it should be a text")
            except InputError as error:
                raise InputError(f"{place}: {error}") from None
            yield name, fields, place


class ScoreFile(GivenFile):
    """Scores of single answers, such as a scalar reward model gives: lines of id, response and
    score. A reward is the score; every answer needs one."""

    @cached_property
    def _scores(self) -> dict[Key, float]:
        scores: dict[Key, float] = {}
        for name, fields, place in self._lines("response"):
            score = fields.get("score")
            if isinstance(score, bool) or not isinstance(score, int | float):
                raise InputError(f"{place}: field 'score' is {shown(score)}; it should be a number")
            if not math.isfinite(score):
                raise InputError(f"{place}: field 'score' is {score}; it should be finite")
            key = name, fields["response"]
            if scores.setdefault(key, float(score)) != score:
                raise InputError(f"{place}: another score of an answer that has one already")
        return scores

    def _read(self) -> None:
        _ = self._scores

    def _of(self, one: Answers) -> Rewards:
        values = []
        for text in one.responses:
            score = self._scores.get((one.prompt.id, text))
            if score is None:
                raise InputError(
                    f"{self.path}: has no score of the answer {shown(text)} to prompt "
                    f"{one.prompt.id!r}; give one of every answer, and the same command goes on"
                )
            values.append(score)
        return Rewards(tuple(values), level=math.fsum(values) / len(values))


class PreferenceFile(GivenFile):
    """What people prefer: lines of id, response_a, response_b and verdict, as judgments have them.

    A reward is the number of comparisons that the answer won less those that it lost; an answer
    that was never compared has none. Comparisons of other answers than those asked about count for
    nothing.
    """

    @cached_property
    def _compared(self) -> dict[str, list[tuple[str, str, str]]]:
        compared: dict[str, list[tuple[str, str, str]]] = defaultdict(list)
        for name, fields, place in self._lines("response_a", "response_b"):
            verdict = fields.get("verdict")
            if verdict not in VERDICTS:
                raise InputError(
                    f"{place}: field 'verdict' is {shown(verdict)}; "
                    f"it should be one of {' '.join(VERDICTS)}"
                )
            won = winner(verdict)
            assert won is not None
            compared[name].append((fields["response_a"], fields["response_b"], won))
        return compared

    def _read(self) -> None:
        _ = self._compared

    def _of(self, one: Answers) -> Rewards:
        found: dict[str, float] = {}
        compared = 0
        for a, b, won in self._compared.get(one.prompt.id, ()):
            if a in one.responses and b in one.responses:
                compared += 1
                found[a] = found.get(a, 0.0) + {"A": 1, "B": -1, "tie": 0}[won]
                found[b] = found.get(b, 0.0) + {"A": -1, "B": 1, "tie": 0}[won]
        return Rewards(tuple(found.get(text) for text in one.responses), compared)
