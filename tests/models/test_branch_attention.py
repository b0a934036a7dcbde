"""Branches' attention, in both of its forms, against one softmax over what each branch sees."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from critic_jax.models.branch_attention import SPAN, _at_once, _visiting
from critic_jax.sampling.visits import plan_visits

PLACES, ROOM, HEADS, KV_HEADS, WIDTH = 3 * SPAN - 64, 64, 6, 2, 8
SLOTS = 14


def shared_part(rng: np.random.Generator) -> tuple[np.ndarray, list[tuple[int, int, np.ndarray]]]:
    """visible_until, and branches: three trunks of unlike shapes, the last at the pool's end."""
    until = np.zeros(PLACES, np.int32)
    branches = []
    slot = iter(rng.permutation(SLOTS).tolist())
    for first, stem, twigs, each in [(0, 300, 9, 7), (384, 5, 1, 1), (400, 200, 3, 20)]:
        size = stem + twigs * each
        first = PLACES - size if first == 400 else first
        until[first : first + stem] = first + size
        for twig in range(twigs):
            begin = stem + twig * each
            until[first + begin : first + begin + each] = first + begin + each
            seen = np.concatenate([np.arange(stem), np.arange(begin, begin + each)])
            branches.append((next(slot), first, seen))
    return until, branches


def expected(
    q: np.ndarray, pool: Any, own: Any, length: np.ndarray, branch: tuple[int, int, np.ndarray]
) -> np.ndarray:
    slot, first, seen = branch
    out = np.zeros((HEADS, WIDTH))
    for head in range(HEADS):
        kv = head // (HEADS // KV_HEADS)
        used = length[slot]
        keys, values = (
            np.concatenate([a[kv, first + seen], b[slot, kv, :used]]).astype(np.float64)
            for a, b in zip(pool, own, strict=True)
        )
        scores = keys @ q[slot, head].astype(np.float64) / np.sqrt(WIDTH)
        weights = np.exp(scores - scores.max())
        out[head] = weights @ values / weights.sum()
    return out


@pytest.mark.parametrize(
    ("form", "dtype", "close"),
    [
        (_at_once, jnp.float32, 1e-5),  # not in bfloat16: a CPU lacks such a batched product
        (_visiting, jnp.float32, 1e-5),
        (_visiting, jnp.bfloat16, 5e-2),
    ],
)
def test_one_softmax_over_what_a_branch_sees(form: Any, dtype: Any, close: float) -> None:
    rng = np.random.default_rng(0)
    until, branches = shared_part(rng)

    def normal(*shape: int) -> np.ndarray:
        return np.asarray(jnp.asarray(rng.normal(0, 2, shape), dtype))

    q = normal(SLOTS, HEADS, WIDTH)
    pool = (normal(KV_HEADS, PLACES, WIDTH), normal(KV_HEADS, PLACES, WIDTH))
    own = (normal(SLOTS, KV_HEADS, ROOM, WIDTH), normal(SLOTS, KV_HEADS, ROOM, WIDTH))
    end, length = np.full(SLOTS, -1, np.int32), np.zeros(SLOTS, np.int32)
    for slot, first, seen in branches:
        end[slot], length[slot] = first + seen[-1], rng.integers(1, ROOM + 1)
    visits = plan_visits(branches, SLOTS, PLACES)
    # Nine of one trunk take two lanes of eight, three another; the one alone has its own.
    assert int(visits[0].lanes) == 2 and int(visits[1].lanes) == 2
    out = np.asarray(jax.jit(form)(q, pool, own, until, end, length, visits), np.float64)
    assert np.isfinite(out).all()
    for branch in branches:
        np.testing.assert_allclose(
            out[branch[0]], expected(q, pool, own, length, branch), atol=close
        )
