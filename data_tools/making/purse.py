"""What annotations cost: an estimate before, a ledger while they are made, a budget never exceeded.

Before a try is sent, the most that it can take is written down and set aside; what it did take is
written behind it. A try whose end is not known (a kill, a connection that broke) stays counted as
the most that it could take. So the budget holds through failures and kills.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from critic_jax.errors import InputError, WorkError
from critic_jax.files import write_atomically
from critic_jax.judging.endpoint import Usage

MARGIN = 64
"""Tokens that an endpoint's own chat template puts around a prompt, at most."""


@dataclass(frozen=True)
class Prices:
    """Money for a million tokens of prompts, and for a million of answers."""

    prompt: float
    answer: float

    def of(self, usage: Usage) -> float:
        """What these tokens cost."""
        return (usage.prompt * self.prompt + usage.answer * self.answer) / 1e6


@dataclass(frozen=True)
class Load:
    """What a request sends: its text, how many pictures, and where its answer is cut.

    picture_tokens: what the endpoint counts for a picture, at most.
    """

    prompt: str
    pictures: int
    answer_limit: int
    picture_tokens: int

    def most(self) -> Usage:
        """The most it can take: no tokenizer makes more tokens of a text than it has bytes."""
        text = len(self.prompt.encode()) + self.pictures * self.picture_tokens
        return Usage(text + MARGIN, self.answer_limit)

    def expected(self, answer: float) -> Usage:
        """About what it takes: four characters a token, and an answer of that many tokens."""
        return Usage(
            len(self.prompt) // 4 + self.pictures * self.picture_tokens + MARGIN // 4, round(answer)
        )


def money(amount: float | None) -> str:
    """An amount for a message: in cents, or finer where it is small."""
    amount = amount or 0.0
    return f"{amount:,.2f}" if amount >= 1 else f"{amount:.3g}"


class BudgetError(WorkError):
    """The next try could exceed the budget, and nothing that is under way can give room."""


class Purse:
    """What one output has cost, over all runs that worked on it.

    A context manager that opens the ledger, a file of lines: `{"try": N, "most": [prompt, answer]}`
    before a try and `{"try": N, "took": [prompt, answer]}` behind it. Safe to use from several
    threads.
    """

    def __init__(self, ledger: Path, prices: Prices | None, budget: float | None) -> None:
        """Raises InputError for a budget without prices, or one that is not above 0."""
        if budget is not None and prices is None:
            raise InputError(
                "--budget is in money: give --price-prompt and --price-answer too, for a million "
                "tokens each"
            )
        if budget is not None and budget <= 0:
            raise InputError(f"--budget is {budget:g}; it must be above 0")
        self.ledger, self.prices, self.budget = ledger, prices, budget
        self.taken = Usage(0, 0)
        self._open: dict[int, Usage] = {}
        self._tries = 0
        self._factor = 1.0
        self._room = threading.Condition()
        self._take_up()

    def _take_up(self) -> None:
        """Count what earlier runs wrote; a line that a kill cut short had not been sent."""
        if not self.ledger.exists():
            return
        written = self.ledger.read_bytes()
        if not written.endswith(b"\n"):
            written = written[: written.rfind(b"\n") + 1]
            write_atomically(self.ledger, written.decode())
        unknown: dict[int, Usage] = {}
        for line in written.splitlines():
            entry = json.loads(line)
            number = entry["try"]
            if "most" in entry:
                unknown[number] = Usage(*entry["most"])
            else:
                unknown.pop(number, None)
                self._add(Usage(*entry["took"]))
            self._tries = max(self._tries, number + 1)
        for most in unknown.values():
            self._add(most)

    def __enter__(self) -> Self:
        self.ledger.parent.mkdir(parents=True, exist_ok=True)
        self._file = self.ledger.open("a", encoding="utf-8")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._file.close()

    @property
    def spent(self) -> float | None:
        """Money so far, what is under way not counted; None without prices."""
        return None if self.prices is None else self.prices.of(self.taken)

    def meter(self, load: Load) -> _Meter:
        """What the tries of one request are told to."""
        return _Meter(self, load.most())

    def begin(self, most: Usage) -> int:
        """Set a try's most aside, once there is room; the number of the try."""
        with self._room:
            while not self._fits(most):
                if not self._open:
                    raise BudgetError(self._used_up())
                self._room.wait()
            number, self._tries = self._tries, self._tries + 1
            aside = self._aside(most)
            self._write({"try": number, "most": [aside.prompt, aside.answer]})
            self._open[number] = aside
            return number

    def end(self, number: int, most: Usage, took: Usage | None) -> None:
        """A try is over; `most` is what it was begun with."""
        with self._room:
            aside = self._open.pop(number)
            if took is None:
                took = aside
            # An endpoint that counts more than was thought possible: more is set aside from now on.
            for counted, thought in ((took.prompt, most.prompt), (took.answer, most.answer)):
                self._factor = max(self._factor, counted / max(thought, 1))
            self._write({"try": number, "took": [took.prompt, took.answer]})
            self._add(took)
            self._room.notify_all()

    def _aside(self, most: Usage) -> Usage:
        return Usage(ceil(most.prompt * self._factor), ceil(most.answer * self._factor))

    def _fits(self, most: Usage) -> bool:
        if self.prices is None or self.budget is None:
            return True
        parts = [self.taken, self._aside(most), *self._open.values()]
        return sum(map(self.prices.of, parts)) <= self.budget

    def _used_up(self) -> str:
        return (
            f"the budget of {money(self.budget)} is used up ({money(self.spent)} spent, the next "
            "request might exceed it); what was annotated is kept, and the same command goes on "
            "with a larger --budget"
        )

    def _add(self, took: Usage) -> None:
        self.taken = Usage(self.taken.prompt + took.prompt, self.taken.answer + took.answer)

    def _write(self, entry: dict[str, Any]) -> None:
        self._file.write(json.dumps(entry) + "\n")
        self._file.flush()


class _Meter:
    """The tries of one request, counted in a purse."""

    def __init__(self, purse: Purse, most: Usage) -> None:
        self._purse, self._most = purse, most
        self._number = -1

    def begin(self) -> None:
        self._number = self._purse.begin(self._most)

    def end(self, usage: Usage | None) -> None:
        self._purse.end(self._number, self._most, usage)


def estimate(loads: Sequence[Load], prices: Prices | None, reasks: int) -> dict[str, Any]:
    """What so many requests take: tokens and cost as expected and at most, no failed try counted.

    An answer is expected to take half of its limit.
    """
    expected = [load.expected(load.answer_limit / 2) for load in loads]
    most = [load.most() for load in loads]
    prompt, answer = sum(u.prompt for u in expected), sum(u.answer for u in expected)
    found: dict[str, Any] = {
        "requests": len(loads),
        "prompt_tokens": prompt,
        "answer_tokens": answer,
    }
    if prices is not None:
        found["cost"] = prices.of(Usage(prompt, answer))
        found["cost_at_most"] = (1 + reasks) * sum(map(prices.of, most))
    return found
