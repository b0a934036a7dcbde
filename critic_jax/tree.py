"""Token trees: many short branches on one long trunk, laid out in rows.

A *path* is one sequence as a model without sharing would see it: picture, question, answer.
Paths that begin alike form a tree, and each shared stretch (a *node*) is stored once. A row holds
trees in depth-first order, one after the other. Two integers a token make the model compute what it
would have computed on each path alone:

- ``position[i]``: the depth of token i on its own path, for the rotary embedding;
- ``visible_until[j]``: the first row index that may no longer see token j, the end of the subtree
  below j's node. Query i sees key j if and only if ``j <= i < visible_until[j]``.

Where paths part at depth d > 0, token d-1 leaves the shared node and becomes the first token of
every child. It is moved, not copied, so that every prediction position has exactly one next token;
a copy left in the shared node would be seen twice.

Letters: S tokens of a row, T tiles of a row, P patches of a tile. No jax here.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from critic_jax.errors import InputError


class VisualTokens(Protocol):
    """A prepared picture or clip of N tokens (see `critic_jax.imaging.Visual`)."""

    @property
    def tiles(self) -> np.ndarray: ...  # uint8 [T, tile, tile, 3]
    @property
    def tap_index(self) -> np.ndarray: ...  # int32 [N, 4]
    @property
    def tap_weight(self) -> np.ndarray: ...  # float32 [N, 4]
    @property
    def key(self) -> str: ...


@dataclass(frozen=True, eq=False)
class Path:
    """One sequence of S tokens.

    ``weights[i]`` is the loss weight of token i as a target (0: not supervised); token 0 is never
    predicted. ``visuals[n]`` covers the tokens from ``starts[n]`` on.
    """

    tokens: np.ndarray  # int32 [S]
    weights: np.ndarray  # float32 [S]
    visuals: tuple[VisualTokens, ...] = ()
    starts: tuple[int, ...] = ()

    def __len__(self) -> int:
        return len(self.tokens)

    def scaled(self, factor: float) -> Path:
        """The same path with its loss weights multiplied by `factor`."""
        weights = (self.weights * np.float32(factor)).astype(np.float32)
        return Path(self.tokens, weights, self.visuals, self.starts)


@dataclass
class Node:
    """A shared stretch: tokens [start, stop) of `path` (an index), which all paths below hold."""

    start: int
    stop: int
    path: int
    members: list[int]
    children: list[Node] = field(default_factory=list)


@dataclass(frozen=True, eq=False)
class Row:
    """A packed row of S tokens and T tiles: what model and loss need, and where each path went."""

    tokens: np.ndarray  # int32 [S], 0 in padding
    position: np.ndarray  # int32 [S]
    visible_until: np.ndarray  # int32 [S]
    targets: np.ndarray  # int32 [S], the next token on the path
    weights: np.ndarray  # float32 [S], loss weight of the target, summed over paths
    tap_index: np.ndarray  # int32 [S, 4]
    tap_weight: np.ndarray  # float32 [S, 4], all zero for text
    tiles: np.ndarray  # uint8 [T, tile, tile, 3]
    path_index: tuple[np.ndarray, ...]  # for each path, the row index of each of its tokens
    path_ids: tuple[int, ...]  # which of the caller's paths these are
    length: int  # tokens in use

    def arrays(self) -> dict[str, np.ndarray]:
        """What travels to the device, by name."""
        names = ("tokens", "position", "visible_until", "targets", "weights")
        return {n: getattr(self, n) for n in (*names, "tap_index", "tap_weight", "tiles")}


def token_keys(paths: Sequence[Path], numbers: dict[str, int] | None = None) -> list[np.ndarray]:
    """One int64 a token, equal in two paths only where the model would see the same input.

    A text token's key is its id; a visual token's key is negative and names the picture (by
    content) and the place within it, since all visual tokens share one id. numbers: of the pictures
    so far, and added to; keys that were made with the same ones can be compared.
    """
    numbers = {} if numbers is None else numbers
    keys = []
    for path in paths:
        key = path.tokens.astype(np.int64)
        for visual, start in zip(path.visuals, path.starts, strict=True):
            number = numbers.setdefault(visual.key, len(numbers))
            count = len(visual.tap_index)
            key[start : start + count] = -1 - (np.int64(number) * (1 << 32) + np.arange(count))
        keys.append(key)
    return keys


def common_prefix(a: np.ndarray, b: np.ndarray) -> int:
    """The number of leading keys that are equal."""
    n = min(len(a), len(b))
    differs = np.flatnonzero(a[:n] != b[:n])
    return int(differs[0]) if len(differs) else n


def build(keys: Sequence[np.ndarray], members: Sequence[int]) -> list[Node]:
    """The trees of some paths: a forest, since paths that part at depth 0 share nothing."""
    forest: list[Node] = []
    for group in _groups(keys, list(members), 0):
        forest.extend(_grow(keys, group, 0))
    return forest


def _groups(keys: Sequence[np.ndarray], members: list[int], depth: int) -> list[list[int]]:
    """Members by their key at `depth`, in order of first appearance; paths that end come first."""
    groups: dict[int | None, list[int]] = {}
    for m in members:
        key = int(keys[m][depth]) if len(keys[m]) > depth else None
        groups.setdefault(key, []).append(m)
    return sorted(groups.values(), key=lambda g: len(keys[g[0]]) > depth)


def _grow(keys: Sequence[np.ndarray], members: list[int], start: int) -> list[Node]:
    """The nodes of `members`, which agree on their keys from `start` to at least `start + 1`."""
    first = members[0]
    if not len(keys[first]):
        return []
    depth = min(common_prefix(keys[first], keys[m]) for m in members)
    if all(len(keys[m]) == depth for m in members):
        return [Node(start, depth, first, members)]
    # The move: token depth-1 goes to every child, so that each of its next tokens has a place.
    children = [n for g in _groups(keys, members, depth) for n in _grow(keys, g, depth - 1)]
    if depth - 1 == start:
        return children
    return [Node(start, depth - 1, first, members, children)]


def size(nodes: Sequence[Node]) -> int:
    """Tokens that some trees take in a row."""
    return sum(n.stop - n.start + size(n.children) for n in nodes)


def leaves(nodes: Sequence[Node]) -> Iterator[int]:
    """The paths of some trees, depth first: neighbours share most."""
    for n in nodes:
        if n.children:
            yield from leaves(n.children)
        else:
            yield from n.members


def tile_count(paths: Sequence[Path], members: Sequence[int]) -> int:
    """Tiles of the distinct pictures of some paths."""
    distinct = {v.key: len(v.tiles) for m in members for v in paths[m].visuals}
    return sum(distinct.values())


def cut(paths: Sequence[Path], members: Sequence[int], tokens: int, tiles: int) -> list[list[int]]:
    """Split paths into the fewest runs, in depth-first order, that each fit a row as one forest.

    Raises InputError if a single path is longer than a row: cutting it would train garbage.
    """
    keys = token_keys(paths)
    parts: list[list[int]] = []
    used = 0
    for m in leaves(build(keys, members)):
        if len(paths[m]) > tokens or tile_count(paths, [m]) > tiles:
            raise InputError(
                f"path {m} has {len(paths[m])} tokens and {tile_count(paths, [m])} tiles; "
                f"a row holds {tokens} and {tiles}: raise the row budget"
            )
        if parts:
            last = parts[-1][-1]
            shared = common_prefix(keys[last], keys[m])
            if len(keys[m]) == len(keys[last]) == shared:
                extra = 0
            else:
                extra = len(paths[m]) - shared + (1 if shared else 0)
            if used + extra <= tokens and tile_count(paths, [*parts[-1], m]) <= tiles:
                parts[-1].append(m)
                used += extra
                continue
        parts.append([m])
        used = len(paths[m])
    return parts


def pack(
    paths: Sequence[Path],
    groups: Sequence[Sequence[int]],
    tokens: int,
    tiles: int,
    tile_shape: tuple[int, int, int],
    patches: int,
) -> Row:
    """Lay groups of paths into one row of `tokens` tokens and `tiles` tiles.

    Each group becomes its own trees (a group is the judgments of one picture, the two answers of a
    preference, ...); nothing is shared between groups but the tiles of equal pictures.
    `patches` is P, the patches of a tile. Raises InputError if they don't fit.
    """
    keys = token_keys(paths)
    row = Row(
        tokens=np.zeros(tokens, np.int32),
        position=np.zeros(tokens, np.int32),
        visible_until=np.arange(1, tokens + 1, dtype=np.int32),
        targets=np.zeros(tokens, np.int32),
        weights=np.zeros(tokens, np.float32),
        tap_index=np.zeros((tokens, 4), np.int32),
        tap_weight=np.zeros((tokens, 4), np.float32),
        tiles=np.zeros((tiles, *tile_shape), np.uint8),
        path_index=(),
        path_ids=(),
        length=0,
    )
    offsets = _place_tiles(row, paths, [m for g in groups for m in g])
    where: dict[int, np.ndarray] = {}
    root = np.zeros(0, np.int32)
    cursor = 0
    for group in groups:
        forest = build(keys, group)
        if cursor + size(forest) > tokens:
            raise InputError(f"{cursor + size(forest)} tokens in a row of {tokens}")
        for node in forest:
            cursor = _place(row, paths, node, cursor, root, offsets, patches, where)
    order = [m for g in groups for m in g]
    object.__setattr__(row, "path_index", tuple(where[m] for m in order))
    object.__setattr__(row, "path_ids", tuple(order))
    object.__setattr__(row, "length", cursor)
    for m in order:
        index, path = where[m], paths[m]
        row.targets[index[:-1]] = path.tokens[1:]
        np.add.at(row.weights, index[:-1], path.weights[1:])
    return row


def _place_tiles(row: Row, paths: Sequence[Path], members: Sequence[int]) -> dict[str, int]:
    """Copy each distinct picture's tiles into the row; the first tile of each, by content."""
    offsets: dict[str, int] = {}
    used = 0
    for m in members:
        for visual in paths[m].visuals:
            if visual.key in offsets:
                continue
            count = len(visual.tiles)
            if used + count > len(row.tiles):
                raise InputError(f"{used + count} tiles in a row of {len(row.tiles)}")
            row.tiles[used : used + count] = visual.tiles
            offsets[visual.key] = used
            used += count
    return offsets


def _place(
    row: Row,
    paths: Sequence[Path],
    node: Node,
    cursor: int,
    above: np.ndarray,
    offsets: dict[str, int],
    patches: int,
    where: dict[int, np.ndarray],
) -> int:
    """Write a node and its subtree at `cursor`; returns the index after it.

    above: row indices of its path so far.
    """
    path, begin = paths[node.path], cursor
    cursor += node.stop - node.start
    row.tokens[begin:cursor] = path.tokens[node.start : node.stop]
    row.position[begin:cursor] = np.arange(node.start, node.stop)
    for visual, first in zip(path.visuals, path.starts, strict=True):
        lo, hi = max(first, node.start), min(first + len(visual.tap_index), node.stop)
        if lo < hi:
            index = visual.tap_index[lo - first : hi - first]
            # Row 0 of the feature table is the newline vector, which every picture shares.
            shifted = np.where(index > 0, index + offsets[visual.key] * patches, 0)
            at = slice(begin + lo - node.start, begin + hi - node.start)
            row.tap_index[at] = shifted
            row.tap_weight[at] = visual.tap_weight[lo - first : hi - first]
    here = np.concatenate([above, np.arange(begin, cursor, dtype=np.int32)])
    end = cursor
    for child in node.children:
        end = _place(row, paths, child, end, here, offsets, patches, where)
    if not node.children:
        for m in node.members:
            where[m] = here
    row.visible_until[begin:cursor] = end
    return end
