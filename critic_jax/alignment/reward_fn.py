"""A judge as a reward for other people's trainers, in the calling shape of Tunix and TRL."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, Literal, TypeVar

from PIL import Image

from critic_jax.errors import InputError
from critic_jax.judging.ask import DEFAULT_POINTWISE, Ask, Judge, Pictures, pair_asks
from critic_jax.judging.rank import (
    DEFAULT_RANKING,
    check_relative,
    matrix_rewards,
    ordered_pairs,
    relative_score,
    with_repeats,
)
from critic_jax.judging.templates import get_template

T = TypeVar("T")

Text = str | Sequence[Any]
"""A text, or turns {"role", "content"}, whose last is meant."""

RewardFn = Callable[..., list[float | None]]


@dataclass(frozen=True)
class _Group:
    """Completions of one prompt: where each text stands. Equal ones are judged once."""

    text: str
    images: Pictures
    places: dict[str, list[int]]

    @property
    def order(self) -> list[int]:
        """Where the completions stand, equal ones side by side."""
        return [place for same in self.places.values() for place in same]

    def spread(self, values: Iterable[T]) -> list[T]:
        """A value for each completion, from one for each text."""
        pairs = zip(self.places.values(), values, strict=True)
        return [value for same, value in pairs for _ in same]


def make_reward_fn(
    judge: Judge,
    by: Literal["score", "ranking"] = "score",
    template: str | None = None,
    unknown: float | None = None,
) -> RewardFn:
    """reward_fn(prompts, completions, images=None, **columns) -> a reward for each completion.

    prompts, completions: texts, or conversations as TRL has them. images: for each completion a
    picture, several, or None. A data set's column may be called `image` too, as in TRL, which hands
    columns on by their names. Further ones are taken and not looked at.

    by: "score" asks for each completion alone (template critic-pointwise unless another is given).
    "ranking" compares the completions that stand there for the same prompt and pictures, as a
    trainer that samples groups hands them over, in all ordered pairs (llava-bench): the reward is
    `rank.Ranking`'s divided by the number of comparisons, so that it doesn't grow with the group;
    0 for one that has no other to be compared with.

    unknown: stands for a reward where the judge could not be read. TRL takes None as such.
    Raises InputError for a template of the other kind, and for lists of different lengths.
    """
    if by not in ("score", "ranking"):
        raise InputError(f"by is {by!r}; it should be 'score' or 'ranking'")
    known = get_template(template or (DEFAULT_POINTWISE if by == "score" else DEFAULT_RANKING))
    if by == "ranking":
        relative = check_relative(known, None)
    elif known.kind != "pointwise":
        raise InputError(f"template {known.name} scores no single answer; give a pointwise one")

    def visuals(group: _Group) -> tuple[Any, ...]:
        return judge.visuals(group.images, "images")

    def scored(groups: Sequence[_Group]) -> list[list[float | None]]:
        asks = [
            [Ask(shown, known, {"question": one.text, "response": said}) for said in one.places]
            for one, shown in zip(groups, map(visuals, groups), strict=True)
        ]
        judged = iter(judge.judge([ask for of_one in asks for ask in of_one]))
        return [one.spread([next(judged).score for _ in one.places]) for one in groups]

    def ranked(groups: Sequence[_Group]) -> list[list[float | None]]:
        pairs = [ordered_pairs(len(one.places)) if len(one.places) > 1 else [] for one in groups]
        asks = [
            pair_asks(shown, known, {"question": one.text}, list(one.places), of_one)
            for one, shown, of_one in zip(groups, map(visuals, groups), pairs, strict=True)
        ]
        judged = iter(judge.judge([ask for of_one in asks for ask in of_one]))
        found: list[list[float | None]] = []
        for one, of_one in zip(groups, pairs, strict=True):
            if not of_one:
                found.append([0.0 for _ in one.order])
                continue
            matrix = {places: relative_score(next(judged), relative) for places in of_one}
            numbers = one.spread(range(len(one.places)))
            sums, counts = matrix_rewards(len(numbers), with_repeats(matrix, numbers))
            found.append([None if r is None else r / n for r, n in zip(sums, counts, strict=True)])
        return found

    def reward_fn(
        prompts: Sequence[Text],
        completions: Sequence[Text],
        images: Sequence[Pictures] | None = None,
        image: Sequence[Pictures] | None = None,
        **columns: object,
    ) -> list[float | None]:
        images = image if images is None else images
        shown = [None] * len(prompts) if images is None else list(images)
        if not len(prompts) == len(completions) == len(shown):
            raise InputError(
                f"{len(prompts)} prompts, {len(completions)} completions and {len(shown)} images; "
                "there should be one of each for every completion"
            )
        groups: dict[Any, _Group] = {}
        for place, (prompt, pictures) in enumerate(zip(prompts, shown, strict=True)):
            text = _text(prompt)
            group = groups.setdefault((text, _same(pictures)), _Group(text, pictures, {}))
            group.places.setdefault(_text(completions[place]), []).append(place)
        rewards: list[float | None] = [unknown] * len(prompts)
        values = (scored if by == "score" else ranked)(list(groups.values()))
        for group, of_one in zip(groups.values(), values, strict=True):
            for place, value in zip(group.order, of_one, strict=True):
                rewards[place] = unknown if value is None else value
        return rewards

    reward_fn.__name__ = judge.name  # trainers log a reward under its function's name
    return reward_fn


def _text(given: Text) -> str:
    """What is said; of several turns, the last one's words."""
    if isinstance(given, str):
        return given
    content: Any = list(given)[-1]["content"]
    if isinstance(content, str):
        return content
    return "".join(part["text"] for part in content if part.get("type") == "text")


def _same(image: Pictures) -> Any:
    """Stands for a picture: its own value, or for an opened one what is in it.

    Trainers open a prompt's picture anew for each completion, so the object would tell nothing.
    """
    if isinstance(image, list | tuple):
        return tuple(map(_same, image))
    if isinstance(image, os.PathLike):
        return os.fspath(image)
    if isinstance(image, Image.Image):
        with contextlib.suppress(OSError, SyntaxError):  # a damaged file, which the judge will tell
            return image.mode, image.size, sha256(image.tobytes()).digest()
    return image if isinstance(image, str | bytes) or image is None else id(image)
