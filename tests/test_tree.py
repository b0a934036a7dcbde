"""Token trees against the paths they hold: layout, hidden states, loss and gradients."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from itertools import pairwise

import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from hypothesis import given, settings
from tree_helpers import (
    PATCHES,
    TILE,
    Rows,
    as_batch,
    gradients_close,
    packed_row,
    separate_rows,
)

from critic_jax.errors import InputError
from critic_jax.models.attention import tree_mask
from critic_jax.models.build import assemble, init_params
from critic_jax.models.config import tiny
from critic_jax.training.sft import make_loss
from critic_jax.tree import Path, build, common_prefix, cut, pack, size, tile_count, token_keys

COMPILED_QUICKLY = True

CONFIG = tiny(vocab_size=97)
IMAGE = 96


@dataclass(frozen=True)
class Picture:
    """A stand-in for a prepared picture with random tiles and taps."""

    tiles: np.ndarray
    tap_index: np.ndarray
    tap_weight: np.ndarray
    key: str


def make_picture(rng: np.random.Generator, name: str) -> Picture:
    tiles = int(rng.integers(1, 4))
    count = int(rng.integers(2, 9))
    index = rng.integers(0, 1 + tiles * PATCHES, (count, 4)).astype(np.int32)
    weight = rng.dirichlet(np.ones(4), count).astype(np.float32)
    pixels = rng.integers(0, 256, (tiles, *TILE), dtype=np.uint8)
    return Picture(pixels, index, weight, name)


def random_paths(seed: int, depth: int, pictures: int = 2) -> list[Path]:
    """Paths that branch up to `depth` times, with a picture at the root and maybe one further down.

    Branches may be equal, may end inside another, and may begin alike by chance (few token ids).
    """
    rng = np.random.default_rng(seed)
    roots = [make_picture(rng, f"{seed}-{n}") for n in range(pictures)]
    paths: list[Path] = []

    def weights(count: int) -> np.ndarray:
        return (rng.random(count) * (rng.random(count) < 0.6)).astype(np.float32)

    def grow(
        tokens: list[int], weight: list[float], seen: list[Picture], at: list[int], left: int
    ) -> None:
        count = int(rng.integers(1, 6))
        tokens = tokens + [int(t) for t in rng.integers(0, 3, count)]
        weight = weight + list(weights(count))
        if rng.random() < 0.2:
            picture = roots[int(rng.integers(len(roots)))]
            seen, at = [*seen, picture], [*at, len(tokens)]
            tokens = tokens + [IMAGE] * len(picture.tap_index)
            weight = weight + [0.0] * len(picture.tap_index)
            tokens, weight = [*tokens, 1], [*weight, 0.5]
        if left == 0 or rng.random() < 0.2:
            own = np.asarray(weight, np.float32)
            paths.append(Path(np.asarray(tokens, np.int32), own, tuple(seen), tuple(at)))
            return
        for _ in range(int(rng.integers(1, 4))):
            grow(tokens, weight, seen, at, left - 1)

    first = roots[0]
    count = len(first.tap_index)
    grow([5, *[IMAGE] * count], [0.0] * (1 + count), [first], [1], depth)
    return paths


def one_row(paths: list[Path], groups: list[list[int]], slack: int = 7) -> Rows:
    keys = token_keys(paths)
    tokens = sum(size(build(keys, g)) for g in groups) + slack
    tiles = tile_count(paths, [m for g in groups for m in g]) + 1
    return packed_row(paths, groups, tokens, tiles)


def row_of_few_sizes(paths: list[Path], groups: list[list[int]]) -> Rows:
    """Everything in one row of a few fixed sizes, so that little is compiled."""
    keys = token_keys(paths)
    tokens = -(-sum(size(build(keys, g)) for g in groups) // 256) * 256
    return packed_row(paths, groups, tokens, 12)


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), depth=st.integers(0, 4))
def test_every_path_is_found_in_its_row(seed: int, depth: int) -> None:
    paths = random_paths(seed, depth)
    row = one_row(paths, [list(range(len(paths)))])
    mask = np.asarray(tree_mask(jnp.asarray(row["visible_until"][None])))[0]
    weights = np.zeros_like(row["weights"])
    for path, where in zip(paths, row["where"], strict=True):
        assert (row["tokens"][where] == path.tokens).all()
        assert (row["position"][where] == np.arange(len(path))).all()
        assert (row["targets"][where[:-1]] == path.tokens[1:]).all()
        for depth_at, query in enumerate(where):
            assert np.flatnonzero(mask[query]).tolist() == where[: depth_at + 1].tolist()
        np.add.at(weights, where[:-1], path.weights[1:])
    np.testing.assert_allclose(row["weights"], weights, rtol=1e-6)
    assert len(set(np.concatenate(row["where"]))) == size(
        build(token_keys(paths), range(len(paths)))
    )


def test_parting_moves_the_last_shared_token() -> None:
    paths = [
        Path(np.asarray(t, np.int32), np.ones(len(t), np.float32))
        for t in ([1, 2, 3, 4], [1, 2, 3, 5])
    ]
    row = pack(paths, [[0, 1]], 8, 0, TILE, PATCHES)
    assert row.tokens[:6].tolist() == [1, 2, 3, 4, 3, 5]
    assert row.position[:6].tolist() == [0, 1, 2, 3, 2, 3]
    assert row.visible_until.tolist() == [6, 6, 4, 4, 6, 6, 7, 8]
    assert row.targets[:6].tolist() == [2, 3, 4, 0, 5, 0]
    assert row.weights[:6].tolist() == [2, 2, 1, 0, 1, 0]


def test_paths_that_part_at_the_first_token_share_nothing() -> None:
    paths = [Path(np.asarray(t, np.int32), np.ones(2, np.float32)) for t in ([1, 2], [3, 2])]
    assert size(build(token_keys(paths), [0, 1])) == 4


def test_equal_paths_are_one_leaf_with_summed_weight() -> None:
    path = Path(np.asarray([1, 2, 3], np.int32), np.asarray([0, 0.5, 1], np.float32))
    row = pack([path, path], [[0, 1]], 3, 0, TILE, PATCHES)
    assert row.weights.tolist() == [1, 2, 0]


def test_equal_ids_of_different_pictures_are_not_shared() -> None:
    rng = np.random.default_rng(0)
    pictures = [make_picture(rng, n) for n in "ab"]
    count = 2
    paths = []
    for p in pictures:
        p = Picture(p.tiles, p.tap_index[:count], p.tap_weight[:count], p.key)
        tokens = np.asarray([7, IMAGE, IMAGE, 8], np.int32)
        paths.append(Path(tokens, np.zeros(4, np.float32), (p,), (1,)))
    keys = token_keys(paths)
    assert common_prefix(*keys) == 1
    assert size(build(keys, [0, 1])) == 8


@pytest.fixture(scope="module")
def params() -> dict:
    return init_params(CONFIG, 1)


@cache
def value_and_grad(dtype: str) -> Callable[..., tuple[jax.Array, dict]]:
    return jax.jit(jax.value_and_grad(make_loss(CONFIG, jnp.dtype(dtype))))


def losses_and_gradients(
    params: dict, paths: list[Path], groups: list[list[int]], dtype: str
) -> tuple[float, dict, float, dict]:
    """Loss and gradients of the packed trees, and summed over each path alone."""
    grad = value_and_grad(dtype)
    loss, packed = grad(params, as_batch([row_of_few_sizes(paths, groups)]))
    expected, separate = grad(params, as_batch(separate_rows(paths)))
    return float(loss), packed, float(expected), separate


@pytest.mark.parametrize(("seed", "depth"), [(0, 1), (1, 2), (2, 3), (3, 4), (4, 4)])
def test_loss_and_gradients_equal_those_of_separate_paths(
    params: dict, seed: int, depth: int
) -> None:
    paths = random_paths(seed, depth)
    half = len(paths) // 2
    groups = [g for g in (list(range(half)), list(range(half, len(paths)))) if g]
    loss, ours, expected, theirs = losses_and_gradients(params, paths, groups, "float32")
    assert loss == pytest.approx(expected, rel=1e-5)
    gradients_close(ours, theirs, 1e-5)


def test_bfloat16_trees_equal_the_same_paths_in_bfloat16(params: dict) -> None:
    paths = random_paths(5, 3)
    groups = [list(range(len(paths)))]
    loss, ours, expected, theirs = losses_and_gradients(params, paths, groups, "bfloat16")
    assert loss == pytest.approx(expected, rel=2e-2)
    gradients_close(ours, theirs, 2e-2)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_hidden_states_equal_those_of_separate_paths(params: dict, dtype: str) -> None:
    tolerance = {"float32": 1e-5, "bfloat16": 2e-2}[dtype]
    paths = [p for seed in (6, 7) for p in random_paths(seed, 3)]
    groups = [[m] for m in range(2)] + [list(range(2, len(paths)))]
    model = assemble(CONFIG, params, jnp.dtype(dtype))
    run = nnx.jit(lambda m, b: m(b)[0].astype(jnp.float32))
    row = row_of_few_sizes(paths, groups)
    packed = np.asarray(run(model, as_batch([row]))[0])
    alone = np.asarray(run(model, as_batch(separate_rows(paths))))
    for n, (path, where) in enumerate(zip(paths, row["where"], strict=True)):
        expected = alone[n, : len(path)]
        assert np.abs(packed[where] - expected).max() <= tolerance * np.abs(expected).max()


def test_a_tree_larger_than_a_row_is_cut_between_branches() -> None:
    trunk = list(range(10, 30))
    paths = [
        Path(np.asarray([*trunk, b, b + 1, b + 2], np.int32), np.ones(23, np.float32))
        for b in (40, 50, 60, 70)
    ]
    keys = token_keys(paths)
    assert size(build(keys, range(4))) == 19 + 4 * 4
    assert cut(paths, range(4), 27, 0) == [[0, 1], [2, 3]]
    assert all(size(build(keys, part)) <= 27 for part in cut(paths, range(4), 27, 0))
    with pytest.raises(InputError, match="23 tokens"):
        cut(paths, range(4), 22, 0)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), spare=st.integers(0, 20))
def test_cut_parts_fit_and_hold_every_path_once(seed: int, spare: int) -> None:
    paths = random_paths(seed, 3)
    budget = max(len(p) for p in paths) + spare
    parts = cut(paths, range(len(paths)), budget, 100)
    keys = token_keys(paths)
    assert sorted(m for part in parts for m in part) == list(range(len(paths)))
    assert all(size(build(keys, part)) <= budget for part in parts)
    # Two neighbouring parts never fit together: greedy runs in depth-first order are the fewest.
    for a, b in pairwise(parts):
        assert size(build(keys, [*a, b[0]])) > budget
