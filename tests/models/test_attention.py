"""Attention over rows of trees: every way of computing it against the dense rule."""

import json
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from jax.sharding import NamedSharding, PartitionSpec

from critic_jax.aot.topology import topology
from critic_jax.models.attention import (
    _query_blocks,
    attend,
    full_attention,
    tree_attention,
    tree_mask,
)
from critic_jax.models.tree_flash import block_size, flash_backward, flash_forward
from critic_jax.models.tree_visits import FIRST, LAST, LIVE, WHOLE, visits
from critic_jax.sharding import in_mesh, make_mesh

# Tokens, block, N, K, H: whole blocks and padded ones, grouped heads and plain ones.
SHAPES = [(96, 16, 4, 2, 64), (75, 32, 7, 1, 128), (128, 128, 3, 3, 64)]


def a_tree(dice: np.random.Generator, until: np.ndarray, begin: int, end: int) -> None:
    """Fill until[begin:end] with a node and, mostly, branches below it."""
    own = int(dice.integers(1, end - begin + 1)) if dice.random() < 0.7 else end - begin
    until[begin : begin + own] = end
    begin += own
    while begin < end:
        branch = int(dice.integers(1, end - begin + 1))
        a_tree(dice, until, begin, begin + branch)
        begin += branch


def a_row(dice: np.random.Generator, tokens: int) -> np.ndarray:
    """visible_until of a row of trees, one after the other, and of padding behind them."""
    until = np.arange(tokens, dtype=np.int32) + 1
    begin, filled = 0, int(dice.integers(0, tokens + 1))
    while begin < filled:
        end = begin + int(dice.integers(1, filled - begin + 1))
        a_tree(dice, until, begin, end)
        begin = end
    return until


def some_rows(seed: int, tokens: int, rows: int = 2) -> jax.Array:
    dice = np.random.default_rng(seed)
    return jnp.asarray(np.stack([a_row(dice, tokens) for _ in range(rows)]))


def arrays(seed: int, shape: tuple[int, ...], rows: int = 2) -> tuple[jax.Array, ...]:
    """q, k, v and the gradient of the result."""
    tokens, _, n, k, h = shape
    dice = np.random.default_rng(seed)
    return tuple(
        jnp.asarray(dice.normal(size=(rows, tokens, heads, h)), jnp.float32)
        for heads in (n, k, k, n)
    )


def dense(q: jax.Array, k: jax.Array, v: jax.Array, until: jax.Array) -> jax.Array:
    return attend(q, k, v, tree_mask(until))


def with_gradients(attention: Callable[..., jax.Array]) -> Callable[..., tuple[jax.Array, ...]]:
    def run(*given: jax.Array) -> tuple[jax.Array, ...]:
        q, k, v, d_out, until = given
        out, back = jax.vjp(lambda q, k, v: attention(q, k, v, until), q, k, v)
        return out, *back(d_out)

    return jax.jit(run)


@cache
def kernel(block: int) -> Callable[..., tuple[jax.Array, ...]]:
    def run(*given: jax.Array) -> tuple[jax.Array, ...]:
        q, k, v, d_out, until = given
        out, sums = flash_forward(q, k, v, until, block, interpret=True)
        return out, *flash_backward(q, k, v, until, out, sums, d_out, block, interpret=True)

    return jax.jit(run)


EXPECTED, OF_BLOCKS, CHOSEN = map(with_gradients, (dense, _query_blocks, tree_attention))


def close(ours: tuple[jax.Array, ...], theirs: tuple[jax.Array, ...]) -> None:
    sizes = [float(jnp.abs(b).max()) for b in theirs]
    for a, b, size in zip(ours, theirs, sizes, strict=True):
        # Where tokens see themselves alone, q and k have no gradient: what remains is the rounding
        # of numbers as large as the other arrays'.
        scale = size if size > 1e-3 * max(sizes) else max(sizes)
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-5 * scale)


def check_kernel(seed: int, shape: tuple[int, ...]) -> None:
    given = (*arrays(seed, shape), some_rows(seed, shape[0]))
    close(kernel(shape[1])(*given), EXPECTED(*given))


@pytest.mark.parametrize("shape", SHAPES)
def test_the_kernel_computes_what_the_rule_says(shape: tuple[int, ...]) -> None:
    for seed in range(5):
        check_kernel(seed, shape)


@pytest.mark.slow
@given(st.integers(0, 2**32 - 1), st.sampled_from(SHAPES))
@settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))
def test_the_kernel_on_many_trees(seed: int, shape: tuple[int, ...]) -> None:
    check_kernel(seed, shape)


@pytest.mark.parametrize("tokens", [75, 300, 1100])
@pytest.mark.parametrize("way", [OF_BLOCKS, CHOSEN], ids=["blocks of queries", "this machine's"])
def test_other_machines_compute_it_too(way: Callable[..., Any], tokens: int) -> None:
    given = (*arrays(1, (tokens, 0, 4, 2, 8), 1), some_rows(1, tokens, 1))
    close(way(*given), EXPECTED(*given))


def holds_a_pair(until: jax.Array, block: int) -> np.ndarray:
    """[B, query blocks, key blocks]: whether there is a visible pair, from the whole mask."""
    mask = np.asarray(tree_mask(until))
    blocks = mask.shape[1] // block
    return mask.reshape(-1, blocks, block, blocks, block).any((2, 4))


@pytest.mark.parametrize("tokens", [1, 40, 729])
def test_full_attention_and_its_gradients(tokens: int) -> None:
    rng = np.random.default_rng(tokens)
    arrays = [rng.normal(size=(2, tokens, 3, 24)).astype(np.float32) for _ in range(4)]
    q, k, v, weights = map(jnp.asarray, arrays)

    def loss(attention: Callable[..., jax.Array]) -> Callable[..., jax.Array]:
        return lambda q, k, v: jnp.sum(weights * attention(q, k, v))

    expected = jax.grad(loss(lambda q, k, v: attend(q, k, v, None)), (0, 1, 2))(q, k, v)
    found = jax.grad(loss(full_attention), (0, 1, 2))(q, k, v)
    out = full_attention(q, k, v)
    np.testing.assert_allclose(out, attend(q, k, v, None), rtol=1e-5, atol=1e-5)
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5 * max(np.abs(b).max(), 1))


def test_the_kernel_on_a_mesh() -> None:
    program = Path(__file__).parents[1] / "kernel_on_devices.py"
    done = subprocess.run([sys.executable, program], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    for way, errors in json.loads(done.stdout).items():
        assert max(errors.values()) < 1e-5, way


@given(st.integers(0, 2**32 - 1), st.booleans())
@settings(max_examples=50, deadline=None)
def test_visited_are_the_blocks_that_hold_a_visible_pair(seed: int, by_key: bool) -> None:
    until, block = some_rows(seed, 96, rows=3), 16
    plan = jax.tree.map(np.asarray, visits(until, block, by_key))
    expected, mask = holds_a_pair(until, block), np.asarray(tree_mask(until))
    assert plan.steps == expected.sum((1, 2)).max()
    for row in range(3):
        live = plan.kind[row] & LIVE != 0
        pairs = list(zip(plan.query_block[row][live], plan.key_block[row][live], strict=True))
        assert len(set(pairs)) == len(pairs) == expected[row].sum() and live[: len(pairs)].all()
        assert all(expected[row][pair] for pair in pairs)
        order = [pair[::-1] for pair in pairs] if by_key else pairs
        assert order == sorted(order)
        for (query, key), kind in zip(pairs, plan.kind[row][live], strict=True):
            seen = mask[row, block * query :, block * key :][:block, :block]
            assert bool(kind & WHOLE) == seen.all()
        outer = [pair[0] for pair in order]
        for n, kind in enumerate(plan.kind[row][live]):
            assert bool(kind & FIRST) == (n == 0 or outer[n] != outer[n - 1])
            assert bool(kind & LAST) == (n == len(outer) - 1 or outer[n] != outer[n + 1])


def test_a_tree_of_two_branches_is_visited_where_it_is_seen() -> None:
    """A trunk of 9 blocks and branches of 3 and 4: neither branch visits the other's keys."""
    until = np.full(16 * 16, 16 * 16, np.int32)
    until[9 * 16 : 12 * 16] = 12 * 16
    plan = visits(jnp.asarray(until[None]), 16)
    trunk, first, second = 9 * 10 // 2, 3 * 9 + 3 * 4 // 2, 4 * 9 + 4 * 5 // 2
    assert int(plan.steps) == trunk + first + second
    assert int(plan.steps) == holds_a_pair(jnp.asarray(until[None]), 16).sum()


TPUS = [
    ("v5e:2x2", 28, 4, 128),
    pytest.param("v5e:2x2", 14, 2, 64, marks=pytest.mark.slow),
    pytest.param("v5p:2x2x1", 28, 4, 128, marks=pytest.mark.slow),
    pytest.param("v5p:2x2x1", 14, 2, 64, marks=pytest.mark.slow),
    pytest.param("v6e:2x2", 64, 8, 128, marks=pytest.mark.slow),
    pytest.param("v6e:2x2", 14, 2, 64, marks=pytest.mark.slow),
]


@pytest.mark.parametrize("slice_name, n, k, h", TPUS)
def test_the_kernel_compiles_for_a_tpu(slice_name: str, n: int, k: int, h: int) -> None:
    """Forward and backward over 16,384 tokens, on a mesh of rows and heads."""
    mesh = make_mesh(fsdp=2, tensor=2, devices=topology(slice_name).devices)
    tokens = 16_384

    def of(heads: int) -> jax.ShapeDtypeStruct:
        spread = NamedSharding(mesh, PartitionSpec("fsdp", None, "tensor"))
        return jax.ShapeDtypeStruct((2, tokens, heads, h), jnp.bfloat16, sharding=spread)

    def total(*arrays: jax.Array) -> jax.Array:
        return jnp.sum(tree_attention(*arrays).astype(jnp.float32))

    def gradients(*arrays: jax.Array) -> Any:
        with in_mesh(mesh):
            return jax.grad(total, (0, 1, 2))(*arrays)

    until = jax.ShapeDtypeStruct(
        (2, tokens), jnp.int32, sharding=NamedSharding(mesh, PartitionSpec("fsdp"))
    )
    compiled = jax.jit(gradients).lower(of(n), of(k), of(k), until).compile()
    text = compiled.as_text()
    for name in ("forward_kernel", "query_gradient_kernel", "key_gradient_kernel"):
        assert name in text
    # The scores of one head alone would take this much.
    assert compiled.memory_analysis().temp_size_in_bytes < 4 * tokens * tokens
    assert block_size(tokens, n // k, h, 2) >= 256
