"""Which prompts share a trunk, and a trunk's row. No jax here."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from hashlib import blake2b

import numpy as np

from critic_jax.errors import InputError
from critic_jax.models.config import TowerConfig
from critic_jax.tree import (
    Path,
    Row,
    build,
    common_prefix,
    cut,
    leaves,
    pack,
    size,
    tile_count,
    token_keys,
)


@dataclass(frozen=True)
class Trunk:
    """Prompts whose keys and values are held together.

    places: how many, padding included.
    """

    prompts: tuple[int, ...]
    places: int


def trunks(prompts: Sequence[Path], places: int) -> list[Trunk]:
    """Put prompts together that have at least half of the longer one in common, in a pool of
    `places`. Pure in the prompts. Raises InputError for one that the pool cannot hold, or an empty
    one.

    Less in common, such as a system prompt, is not worth it: whoever shares a trunk also waits for
    it.
    """
    for number, prompt in enumerate(prompts):
        if not len(prompt):
            raise InputError(f"prompt {number} is empty")
    keys = token_keys(prompts)
    found: list[Trunk] = []
    alike: list[int] = []
    for member in leaves(build(keys, range(len(prompts)))):
        if alike:
            last = keys[alike[-1]]
            shared = common_prefix(last, keys[member])
            if 2 * shared < max(len(last), len(keys[member])):
                found += _within(prompts, alike, places)
                alike = []
        alike.append(member)
    return found + (_within(prompts, alike, places) if alike else [])


def _within(prompts: Sequence[Path], alike: list[int], places: int) -> list[Trunk]:
    """Prompts that are alike, cut into as many trunks as it takes.

    A trunk with very many branches would spend more on attention than sharing saves.
    """
    limit = min(places, max(2048, 4 * max(len(prompts[m]) for m in alike)))
    tiles = tile_count(prompts, alike)
    found = []
    for part in cut(prompts, alike, limit, tiles):
        tokens = size(build(token_keys([prompts[m] for m in part]), range(len(part))))
        found.append(Trunk(tuple(part), min(bucket(tokens), places)))
    return found


def trunk_row(prompts: Sequence[Path], places: int, tower: TowerConfig, depth: int = 0) -> Row:
    """The packed row of a trunk; the index of each path's last token is where a branch begins.

    depth: tokens that each path has in front of it already.
    """
    tile_shape = (tower.tile_size, tower.tile_size, 3)
    members = list(range(len(prompts)))
    tiles = tile_count(prompts, members)
    row = pack(prompts, [members], places, tiles, tile_shape, tower.patches)
    return replace(row, position=row.position + np.int32(depth)) if depth else row


def rest_places(rests: Sequence[Path]) -> int:
    """Places of the row of what prompts have behind what they take over: a power of two."""
    tokens = size(build(token_keys(rests), range(len(rests))))
    return max(64, 1 << (tokens - 1).bit_length())


def bucket(size: int) -> int:
    """The next multiple of 32 up to 256, of 64 up to 512, ..., of 512 up to 8,192, ...: few shapes,
    little padding, and of long rows less: there it costs more than compiling now and then."""
    step = 32
    while step * (8 if step < 512 else 16) < size:
        step *= 2
    return -(-size // step) * step


def identities(prompts: Sequence[Path]) -> list[tuple[int, int]]:
    """For each prompt a number made from its content, and how many equal ones stand before it."""
    before: Counter[int] = Counter()
    found = []
    for prompt in prompts:
        digest = blake2b(prompt.tokens.tobytes(), digest_size=4)
        for visual in prompt.visuals:
            digest.update(visual.key.encode())
        number = int.from_bytes(digest.digest(), "little")
        found.append((number, before[number]))
        before[number] += 1
    return found


class Places:
    """Which places of the pool are taken."""

    def __init__(self, places: int) -> None:
        self.places = places
        self._taken: dict[int, int] = {}

    def take(self, count: int) -> int | None:
        """The first of `count` places that are free side by side, if there are such."""
        first = 0
        for start, taken in sorted(self._taken.items()):
            if start - first >= count:
                break
            first = start + taken
        if first + count > self.places:
            return None
        self._taken[first] = count
        return first

    def free(self, first: int) -> None:
        """Give back what `take` gave."""
        del self._taken[first]
