"""Rewards by a Python function, in the calling shape that Tunix and TRL have for it."""

from __future__ import annotations

import importlib
import math
import os
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from critic_jax.alignment.answers import Answers
from critic_jax.alignment.choice import Rewards
from critic_jax.errors import InputError, WorkError
from critic_jax.files import write_json_lines
from critic_jax.hosts import on_first
from critic_jax.judging.partial import Partial
from critic_jax.progress import progress

PROMPTS = 8
"""Prompts whose answers are handed over at a time; their rewards are on disk before the next
are."""

RESULTS = "rewards.jsonl"


class FunctionRewards:
    """A function by its dotted name, `package.module.function`; modules in the working folder are
    found too.

    It is called with keywords: `prompts` (texts, one for each answer), `completions` (the answers)
    and `images` (a list of paths or bytes for each), and returns a number for each; None where it
    knows none.
    """

    any_answer = True

    def __init__(self, name: str) -> None:
        """Raises InputError for a name without a function behind it."""
        self.name = name
        self._function = find_function(name)

    def rewards(self, answers: Sequence[Answers], folder: Path) -> list[Rewards]:
        return on_first(lambda: self._rewards(answers, folder))  # a function may cost money

    def _rewards(self, answers: Sequence[Answers], folder: Path) -> list[Rewards]:
        output = folder / RESULTS
        partial = Partial(output, self.name, {}, "reward")
        waiting = [one for one in answers if one.prompt.key not in partial.done]
        with progress() as bar, partial:
            total, done = len(answers), len(answers) - len(waiting)
            task = bar.add_task("rewarding", total=total, completed=done)
            for at in range(0, len(waiting), PROMPTS):
                some = waiting[at : at + PROMPTS]
                for one, values in zip(some, self._call(some), strict=True):
                    fields = {"id": one.prompt.id, "model": self.name}
                    partial.write(fields | {"responses": list(one.responses), "rewards": values})
                bar.advance(task, len(some))
        lines = partial.results([one.prompt.key for one in answers], keep_others=False)
        for one, line in zip(answers, lines, strict=True):
            if tuple(line["responses"]) != one.responses:
                raise InputError(
                    f"{output}: holds rewards of other answers to prompt {one.prompt.id!r}; "
                    "remove this file"
                )
        write_json_lines(output, lines)
        partial.finish()
        return [_rewards(line["rewards"]) for line in lines]

    def told(self, folder: Path) -> dict[str, Any]:
        return {"function": self.name}

    def _call(self, some: Sequence[Answers]) -> list[list[float | None]]:
        flat = [(one, text) for one in some for text in one.responses]
        try:
            found = self._function(
                prompts=[one.prompt.text for one, _ in flat],
                completions=[text for _, text in flat],
                images=[list(one.prompt.images) for one, _ in flat],
            )
            values = [_number(value, self.name) for value in found]
        except (InputError, WorkError):
            raise
        except Exception as error:
            if place := _place(error):
                raise WorkError(f"{self.name}: {_told(error)}{place}") from error
            raise InputError(f"{self.name}: {_told(error)}") from None
        if len(values) != len(flat):
            raise InputError(
                f"{self.name}: returned {len(values)} rewards for {len(flat)} answers; "
                "it should return one for each"
            )
        rest = iter(values)
        return [[next(rest) for _ in one.responses] for one in some]


def find_function(name: str) -> Callable[..., Any]:
    """The function of a dotted name. Raises InputError if there is none."""
    module, _, attribute = name.rpartition(".")
    if not module:
        raise InputError(f"reward_function {name!r}; it should be like my_rewards.length")
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())
    try:
        found = getattr(importlib.import_module(module), attribute, None)
    except Exception as error:
        raise InputError(f"reward_function {name}: {_told(error)}{_place(error)}") from None
    if not callable(found):
        raise InputError(f"reward_function {name}: {module} has no function {attribute}")
    function: Callable[..., Any] = found
    return function


def _told(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"


def _place(error: Exception) -> str:
    """Where in somebody's module it was raised; empty where it was not raised there."""
    frames = traceback.extract_tb(error.__traceback__)
    theirs = [
        f" ({Path(one.filename).name} line {one.lineno})"
        for one in frames
        if one.filename not in (__file__, importlib.__file__) and one.filename[:1] != "<"
    ]
    return theirs[-1] if theirs else ""


def _number(value: Any, name: str) -> float | None:
    if value is None:
        return None
    try:
        number = float(value)
    except (TypeError, ValueError):
        raise InputError(f"{name}: returned {value!r}; it should be a number or None") from None
    return number if math.isfinite(number) else None


def _rewards(values: Sequence[float | None]) -> Rewards:
    known = [value for value in values if value is not None]
    return Rewards(tuple(values), level=math.fsum(known) / len(known) if known else None)
