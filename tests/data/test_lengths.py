"""Lengths of a picture's records against the trees that are built of them."""

from itertools import combinations, pairwise

import hypothesis.strategies as st
import numpy as np
from hypothesis import given, settings

from critic_jax.data.lengths import group_lengths, joined, text_key
from critic_jax.text import ChatTokenizer
from critic_jax.tree import common_prefix

KEYS = st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=6), min_size=1, max_size=6)


@settings(max_examples=200, deadline=None)
@given(KEYS)
def test_what_any_two_share_is_the_least_between_them(lists: list[list[int]]) -> None:
    keys = [np.array([5, -1, *key]) for key in lists]
    found = group_lengths(keys)
    assert sorted(found.order.tolist()) == list(range(len(keys)))
    assert found.tokens.tolist() == [len(key) - 1 for key in keys]
    ordered = [keys[n] for n in found.order]
    assert found.shared[0] == found.shared_pictures[0] == 0
    for i, j in combinations(range(len(keys)), 2):
        least = min(range(i + 1, j + 1), key=lambda n: found.shared[n])
        both = found.shared[least] + found.shared_pictures[least]
        assert both == common_prefix(ordered[i], ordered[j])
    assert (found.shared_pictures[1:] == 1).all()


def test_groups_follow_one_another() -> None:
    one = group_lengths([np.array([1, 2]), np.array([1, 1])])
    whole = joined([one, group_lengths([np.array([3])])])
    assert whole.order.tolist() == [1, 0, 2]
    assert whole.tokens.tolist() == [2, 2, 1]
    assert whole.shared.tolist() == [0, 1, 0]


def test_a_key_has_a_place_for_every_picture(tokenizer: ChatTokenizer) -> None:
    turns = [{"from": "human", "value": "<image> or <image>?"}, {"from": "gpt", "value": "It is."}]
    key = text_key(turns, 2, tokenizer)
    assert key[key < 0].tolist() == [-1, -2]
    assert (key[key >= 0] != tokenizer.image).all()
    other = text_key([turns[0], {"from": "gpt", "value": "It shows"}], 2, tokenizer)
    shared = common_prefix(key, other)
    assert sum(1 for a, b in pairwise([*key[:shared], 0]) if a < 0) == 2
