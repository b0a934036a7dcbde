"""The chosen records of some imports as trees, their sizes taken from the indexes alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from critic_jax.data.corpus import Corpus
from critic_jax.data.lengths import Lengths
from critic_jax.data.measure import corpus_lengths
from critic_jax.data.plan import Budget, Group
from critic_jax.data.selection import Part, held_out, kept_records
from critic_jax.errors import InputError
from critic_jax.imaging import (
    ImageGeometry,
    picture_in_set_token_count,
    picture_tile_count,
    picture_token_count,
)
from critic_jax.text import ChatTokenizer


@dataclass(frozen=True, eq=False)
class Chosen:
    """N records by picture, depth first as leaves of their trees; what a plan needs of each.

    Attributes:
        folders: the imports.
        corpus, number: int32 [N], where a record is: place in `folders`, number there.
        tokens, tiles: int32 [N], of its whole path and all its pictures.
        shared: int32 [N], leading tokens shared with the record before; 0 begins a tree.
        weight: float64 [N], how often a record comes in an epoch.
    """

    folders: tuple[Path, ...]
    corpus: np.ndarray
    number: np.ndarray
    tokens: np.ndarray
    tiles: np.ndarray
    shared: np.ndarray
    weight: np.ndarray

    def __len__(self) -> int:
        return len(self.number)

    def once(self) -> Chosen:
        """The same records with a weight of 1."""
        return replace(self, weight=np.ones(len(self)))


@dataclass(frozen=True)
class Forest:
    """The trees of chosen records that fit a row.

    Attributes:
        groups: a tree each; members are places in `Chosen`.
        weights: how often each comes in an epoch.
        cut: trees more than there would be, were every row large enough.
        repeated: tokens of trunks that stand there again because of it.
        oversize: places of records that are larger than a row and in no tree.
    """

    groups: list[Group]
    weights: list[float]
    cut: int
    repeated: int
    oversize: list[int]


def choose(
    parts: Sequence[Part],
    tokenizer: ChatTokenizer,
    geometry: ImageGeometry,
    seed: int,
    workers: int,
    validation: float = 0.0,
) -> tuple[Chosen, Chosen]:
    """(records to train on, records held out) of the parts; only indexes are read.

    Parts of one import with equal weights are joined, so that their records share trunks. Raises
    InputError for a folder that is no import, a filter that leaves nothing, a share out of range.
    """
    if not 0 <= validation < 1:
        raise InputError(f"validation {validation}; it should be a share from 0 to below 1")
    folders = tuple(dict.fromkeys(Path(part.path) for part in parts))
    corpora = [Corpus(folder) for folder in folders]
    keeps: dict[tuple[int, float], np.ndarray] = {}
    for part in parts:
        place = folders.index(Path(part.path))
        kept = kept_records(part, corpora[place].index, seed)
        key = place, float(part.weight)
        keeps[key] = keeps[key] | kept if key in keeps else kept
    out = np.zeros(sum(map(len, corpora)), bool)
    if validation:
        hashes: list[list[str]] = []
        ids: list[str] = []
        for corpus in corpora:
            hashes += corpus.index["hashes"].to_pylist()
            ids += corpus.index["id"].to_pylist()
        out = held_out(hashes, ids, validation)
    firsts = np.cumsum([0, *(len(corpus) for corpus in corpora)])
    sides: tuple[list[Chosen], list[Chosen]] = ([], [])
    measured = [_measured(corpus, tokenizer, geometry, workers) for corpus in corpora]
    for (place, weight), kept in keeps.items():
        held = out[firsts[place] : firsts[place + 1]]
        for side, wanted in zip(sides, (kept & ~held, kept & held), strict=True):
            side.append(_restricted(measured[place], wanted, folders, place, weight))
    return _joined(sides[0], folders), _joined(sides[1], folders)


@dataclass(frozen=True, eq=False)
class _Measured:
    """All records of an import, in the order of their trees' leaves, as `Chosen` has them."""

    lengths: Lengths
    tokens: np.ndarray
    tiles: np.ndarray
    shared: np.ndarray


def _measured(
    corpus: Corpus, tokenizer: ChatTokenizer, geometry: ImageGeometry, workers: int
) -> _Measured:
    lengths = corpus_lengths(corpus, tokenizer, workers)
    columns = [corpus.index[name].combine_chunks() for name in ("widths", "heights", "pictures")]
    widths, heights, pictures = (column.flatten().to_numpy() for column in columns)
    starts = columns[0].offsets.to_numpy()
    counts = np.diff(starts)
    in_set = picture_in_set_token_count(geometry)
    visual = np.zeros((len(corpus), 2), np.int64)  # tokens, tiles
    visual[:, 0] = counts * in_set
    for n in np.flatnonzero(counts > 1).tolist():
        visual[n, 1] = len(set(pictures[starts[n] : starts[n + 1]].tolist()))
    alone = np.flatnonzero(counts == 1)
    pairs = np.stack([widths[starts[alone]], heights[starts[alone]]], -1)
    sizes, which = np.unique(pairs, axis=0, return_inverse=True)
    found = [
        (picture_token_count(w, h, geometry), picture_tile_count(w, h, geometry))
        for w, h in sizes.tolist()
    ]
    visual[alone] = np.array(found, np.int64).reshape(-1, 2)[which.reshape(-1)]
    each = np.where(counts == 1, visual[:, 0], in_set)  # tokens of a record's first picture
    order = lengths.order
    return _Measured(
        lengths,
        (lengths.tokens + visual[:, 0])[order],
        visual[order, 1],
        lengths.shared + lengths.shared_pictures * each[order],
    )


def _restricted(
    whole: _Measured, wanted: np.ndarray, folders: tuple[Path, ...], place: int, weight: float
) -> Chosen:
    """The wanted records; what two neighbours share is the least of all between them."""
    order = whole.lengths.order
    kept = np.flatnonzero(wanted[order])
    shared = np.zeros(len(kept), np.int64)
    if len(kept):
        bounds = kept[:-1] + 1  # the stretch from behind the one before up to this one
        if len(bounds):
            shared[1:] = np.minimum.reduceat(whole.shared[: kept[-1] + 1], bounds)
    count = len(kept)
    return Chosen(
        folders,
        np.full(count, place, np.int32),
        order[kept].astype(np.int32),
        whole.tokens[kept].astype(np.int32),
        whole.tiles[kept].astype(np.int32),
        shared.astype(np.int32),
        np.full(count, weight),
    )


def _joined(parts: Sequence[Chosen], folders: tuple[Path, ...]) -> Chosen:
    names = ("corpus", "number", "tokens", "tiles", "shared", "weight")
    return Chosen(folders, *(np.concatenate([getattr(p, n) for p in parts]) for n in names))


def forest(chosen: Chosen, budget: Budget, share_trunks: bool = True) -> Forest:
    """The trees of chosen records, each the records of one picture, the fewest that fit a row.

    A tree is cut between leaves in depth-first order, its trunk repeated: taking as many as fit is
    then the fewest. share_trunks: false makes every record a tree of its own.
    """
    groups: list[Group] = []
    weights: list[float] = []
    oversize: list[int] = []
    cut, repeated, before = 0, 0, -1
    columns = (chosen.tokens, chosen.tiles, chosen.shared, chosen.weight)
    members: list[int] = []
    used = tile = 0
    for n, (tokens, tiles, shared, weight) in enumerate(
        zip(*(column.tolist() for column in columns), strict=True)
    ):
        if tokens > budget.tokens or tiles > budget.tiles:
            oversize.append(n)
            continue
        # Records left out between this one and the one before may have been all that parts them.
        common = min(chosen.shared[before + 1 : n + 1].tolist()) if before < n - 1 else shared
        before = n
        if members and share_trunks and common:
            equal = tokens == common == int(chosen.tokens[members[-1]])
            extra = 0 if equal else tokens - common + 1
            if used + extra <= budget.tokens:
                members.append(n)
                used += extra
                continue
            cut, repeated = cut + 1, repeated + common
        if members:
            groups.append(Group(tuple(members), used, tile))
        members, used, tile = [n], tokens, tiles
        weights.append(weight)
    if members:
        groups.append(Group(tuple(members), used, tile))
    return Forest(groups, weights, cut, repeated, oversize)
