"""Steps of packed preference pairs: the two answers of a pair are branches of one trunk.

Letters: S tokens of a row, P pairs that a row may hold, K sums that a row may hold.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from hashlib import sha256
from typing import Any

import numpy as np

from critic_jax.data.encode import Encoder
from critic_jax.data.pairs import ANSWERS, Pair, Reference
from critic_jax.data.pipeline import picture_groups
from critic_jax.data.plan import Budget, Group, Plan
from critic_jax.data.records import Record
from critic_jax.data.rows import KEPT_PICTURES, Batch, PlannedRows
from critic_jax.errors import InputError
from critic_jax.imaging import Visual
from critic_jax.tree import Path, Row, build, leaves, size, tile_count, token_keys


def pair_arrays(
    row: Row, paths: Sequence[Path], references: Sequence[Reference], pairs: int
) -> Batch:
    """Arrays of a row that holds the paths chosen, rejected, chosen, rejected, ... of some pairs.

    Besides those of `Row.arrays`, for `pairs` = P:

    - `segment` int32 [S]: which of the row's sums a target's log-probability belongs to; K where it
      is not supervised. Targets that the same paths supervise, those of a node, share one.
    - `member` float32 [P, 2, K]: 1 where a sum is part of an answer's (chosen, rejected); a place
      without a pair has none.
    - `reference` float32 [P, 2].
    """
    # A forest of 2 P leaves has less than 4 P nodes.
    sums = 4 * pairs
    supervises = np.zeros((len(paths), len(row.tokens)), bool)
    for number, (index, path) in enumerate(zip(row.path_index, paths, strict=True)):
        supervises[number, index[:-1][path.weights[1:] != 0]] = True
    segment = np.full(len(row.tokens), sums, np.int32)
    member = np.zeros((pairs, 2, sums), np.float32)
    if places := np.flatnonzero(supervises.any(0)).tolist():
        patterns, which = np.unique(supervises[:, places].T, axis=0, return_inverse=True)
        segment[places] = which.reshape(-1)
        member.reshape(2 * pairs, sums)[: len(paths), : len(patterns)] = patterns.T
    reference = np.zeros((pairs, 2), np.float32)
    for number, said in enumerate(references):
        reference[number] = said.chosen, said.rejected
    return {**row.arrays(), "segment": segment, "member": member, "reference": reference}


class PairRows(PlannedRows):
    """The steps of pairs in memory; a step's `records` are its pairs.

    Pairs of one picture share its tokens. Every pair is encoded once at the start for its size,
    then again when its step is built. What `references` holds of a pair is 0 until it is set.

    share_trunks: false gives every answer the whole of its prompt. drop_oversize: leave out pairs
    larger than a row; else they are an error. A pair of two equal answers is left out. Raises
    InputError for a pair that is wrong, or where none is left.
    """

    def __init__(
        self,
        pairs: Sequence[Pair],
        encoder: Encoder,
        budget: Budget,
        epochs: int,
        seed: int,
        share_trunks: bool = True,
        drop_oversize: bool = False,
    ) -> None:
        self.pairs, self.encoder, self.share_trunks = pairs, encoder, share_trunks
        self.references = [pair.reference or Reference(0.0, 0.0) for pair in pairs]
        self.equal: list[str] = []
        self.oversize: list[str] = []
        self._visuals = lru_cache(maxsize=KEPT_PICTURES)(self._open)
        self._first: dict[tuple[Any, ...], int] = {}
        for number, pair in enumerate(pairs):
            self._first.setdefault(pair.images, number)
        self._tokens = [0] * len(pairs)
        groups: list[Group] = []
        alone = [[number] for number in range(len(pairs))]
        for members in picture_groups(pairs) if share_trunks else alone:
            groups += self._groups_of(members, budget, drop_oversize)
        if not groups:
            raise InputError(
                f"{pairs[0].place} and on: of {len(pairs)} pairs {len(self.equal)} have two equal "
                f"answers and {len(self.oversize)} are larger than a row; none is left"
            )
        super().__init__(encoder, Plan(groups, budget, seed), epochs)

    def _groups_of(self, members: Sequence[int], budget: Budget, drop: bool) -> list[Group]:
        """The pairs of one picture as trees that fit a row and a step, none cut in two."""
        paths: dict[int, tuple[Path, ...]] = {}
        for member in members:
            chosen, rejected = both = self._both(member)
            self._tokens[member] = len(chosen) + len(rejected)
            if np.array_equal(chosen.tokens, rejected.tokens):
                self.equal.append(self.pairs[member].id)
                continue
            group = self._group([member], both)
            if group.tokens > budget.tokens or group.tiles > budget.tiles:
                if not drop:
                    raise InputError(self._too_large(member, group, budget))
                self.oversize.append(self.pairs[member].id)
                continue
            paths[member] = both
        found: list[Group] = []
        for member in _neighbours(paths):
            together = [*(found[-1].members if found else ()), member]
            group = self._group(together, [path for m in together for path in paths[m]])
            fits = group.tokens <= budget.tokens and group.tiles <= budget.tiles
            if found and fits and len(together) <= budget.records:
                found[-1] = group
            else:
                found.append(self._group([member], paths[member]))
        return found

    def _group(self, members: Sequence[int], paths: Sequence[Path]) -> Group:
        shared = range(len(paths))
        if self.share_trunks:
            tokens = size(build(token_keys(paths), shared))
        else:
            tokens = sum(map(len, paths))
        return Group(tuple(members), tokens, tile_count(paths, shared))

    def paths(self, members: Sequence[int]) -> list[Path]:
        return [path for member in members for path in self._both(member)]

    def trees(self, members: Sequence[int]) -> list[list[Path]]:
        paths = self.paths(members)
        return [paths] if self.share_trunks else [[path] for path in paths]

    def arrays(self, row: Row, paths: Sequence[Path], members: Sequence[int]) -> Batch:
        references = [self.references[member] for member in members]
        return pair_arrays(row, paths, references, self.budget.records)

    def tokens(self, member: int) -> int:
        return self._tokens[member]

    def record(self, member: int) -> Record:
        """The prompt with the chosen answer."""
        pair = self.pairs[member]
        asked = "<image>" * len(pair.images) + ("\n" if pair.images else "") + pair.prompt
        turns = ({"from": "human", "value": asked}, {"from": "gpt", "value": pair.chosen})
        return Record(pair.id, "", turns, pair.images, 0, pair.place)

    def name(self, member: int) -> str:
        return self.pairs[member].id

    def digest(self) -> str:
        """16 hexadecimal digits of the pairs: of all that is said in them."""
        digest = sha256(super().digest().encode())
        for pair in self.pairs:
            said = (pair.id, pair.prompt, pair.chosen, pair.rejected, pair.reference)
            digest.update(repr(said).encode())
        return digest.hexdigest()[:16]

    def report(self) -> dict[str, Any]:
        """The first epoch's steps (`Plan.report`), and the ids of the pairs left out."""
        return {
            **self.plan.report(),
            "trees": len(self.plan.groups),
            "equal_answers": self.equal,
            "oversize_records": self.oversize,
        }

    def _open(self, images: tuple[Any, ...], first: int) -> tuple[Visual, ...]:
        return self.encoder.visuals(self.pairs[first])

    def _both(self, member: int) -> tuple[Path, ...]:
        pair = self.pairs[member]
        visuals = self._visuals(pair.images, self._first[pair.images])
        return tuple(
            self.encoder.answer(pair.prompt, getattr(pair, answer), visuals) for answer in ANSWERS
        )

    def _too_large(self, member: int, group: Group, budget: Budget) -> str:
        pair = self.pairs[member]
        return (
            f"{pair.place}, record {pair.id!r}: {group.tokens} tokens and {group.tiles} tiles; a "
            f"row holds {budget.tokens} and {budget.tiles}: raise row_tokens or row_tiles, or "
            "leave such pairs out (drop_oversize)"
        )

    def __getstate__(self) -> dict[str, Any]:
        # A cache of pictures stays where it is.
        return {name: value for name, value in self.__dict__.items() if name != "_visuals"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._visuals = lru_cache(maxsize=KEPT_PICTURES)(self._open)


def _neighbours(paths: dict[int, tuple[Path, ...]]) -> list[int]:
    """Pairs in the order that a tree of their chosen answers has them: neighbours share most."""
    chosen = [both[0] for both in paths.values()]
    order = leaves(build(token_keys(chosen), range(len(chosen))))
    return [list(paths)[place] for place in order]
