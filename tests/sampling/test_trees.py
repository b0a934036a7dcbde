"""Which prompts share a trunk, where it lies, and what its branches visit."""

import numpy as np
import pytest

from critic_jax.errors import InputError
from critic_jax.models.branch_attention import SPAN, WIDE
from critic_jax.sampling.trees import Places, bucket, trunks
from critic_jax.sampling.visits import plan_visits
from critic_jax.tree import Path


def path(*parts: tuple[int, int]) -> Path:
    """Tokens of stretches (name, length)."""
    tokens = np.concatenate([1000 * name + np.arange(length) for name, length in parts])
    return Path(tokens.astype(np.int32), np.zeros(len(tokens), np.float32))


def test_those_that_have_half_in_common_share() -> None:
    system = (1, 14)
    first = [path(system, (2, 100), (name, 30)) for name in (5, 6, 7)]
    second = [path(system, (3, 100), (name, 30)) for name in (5, 6)]
    alone = path(system, (4, 60))
    prompts = [first[0], second[0], alone, first[1], first[1], second[1], first[2]]
    found = trunks(prompts, 4096)
    assert sorted(sorted(t.prompts) for t in found) == [[0, 3, 4, 6], [1, 5], [2]]
    places = {t.prompts[0]: t.places for t in found}
    # 113 common ones, and 31 for each way to go on: the last common token moves.
    assert places == {0: bucket(113 + 3 * 31), 1: bucket(113 + 2 * 31), 2: bucket(74)}


def test_a_trunk_is_cut_to_the_pool() -> None:
    prompts = [path((1, 100), (2 + name, 50)) for name in range(8)]
    found = trunks(prompts, 256)
    assert [len(t.prompts) for t in found] == [3, 3, 2]
    assert all(t.places <= 256 for t in found)
    with pytest.raises(InputError, match="prompt 1 is empty"):
        trunks([path((1, 3)), path((1, 0))], 256)


def test_places_are_taken_side_by_side_and_given_back() -> None:
    pool = Places(100)
    assert [pool.take(40), pool.take(40), pool.take(40)] == [0, 40, None]
    pool.free(0)
    assert [pool.take(50), pool.take(30), pool.take(10), pool.take(20)] == [None, 0, 30, 80]


def test_branches_visit_what_they_see_and_little_more() -> None:
    stem = np.arange(3 * SPAN)
    twigs = [np.arange(10 * SPAN + 8 * n, 10 * SPAN + 8 * n + 8) for n in range(WIDE + 4)]
    branches = [(slot, 100, np.concatenate([stem, twig])) for slot, twig in enumerate(twigs)]
    branches.append((20, 0, np.arange(50)))
    wide, narrow = plan_visits(branches, 32, 100 + 12 * SPAN)
    assert int(wide.lanes) == 2 and int(narrow.lanes) == 1
    assert wide.slots[0].tolist() == list(range(WIDE))
    assert wide.slots[1].tolist() == [*range(WIDE, WIDE + 4), *[32] * (WIDE - 4)]
    starts = [100, 100 + SPAN, 100 + 2 * SPAN]
    assert wide.stretches[:2].tolist() == [4, 4]
    assert wide.first[0, :4].tolist() == [*starts, 100 + 10 * SPAN]
    assert wide.first[1, :4].tolist() == [*starts, 100 + 10 * SPAN + 8 * WIDE]
    assert narrow.slots[0].tolist() == [20] and narrow.first[0, : narrow.stretches[0]].tolist() == [
        0
    ]
