"""Text lengths of records, and how much neighbours share: what a plan needs to know of their words.

The size of a picture's tree follows from these and the picture's own tokens, for any choice of its
records, so that no record is read again before its row is built. Lengths are those of one
tokenizer; `ChatTokenizer.digest` tells tokenizers apart.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from critic_jax.text import ChatTokenizer, encode_chat, record_turns
from critic_jax.tree import common_prefix


@dataclass(frozen=True, eq=False)
class Lengths:
    """Lengths of N records.

    Attributes:
        order: int32 [N], the records with those of equal pictures together, and these depth first
            as leaves of their tree, so that neighbours share most.
        tokens: int32 [N], by record: text tokens, pictures not counted.
        shared: int32 [N], by place in `order`: leading text tokens shared with the record before;
            0 for the first of its pictures.
        shared_pictures: int32 [N], by place in `order`: the pictures among what is shared.
    """

    order: np.ndarray
    tokens: np.ndarray
    shared: np.ndarray
    shared_pictures: np.ndarray


def text_key(
    conversations: Sequence[Mapping[str, str]], pictures: int, tokenizer: ChatTokenizer
) -> np.ndarray:
    """int32 [S]: the record's tokens with one of -1, -2, ... in the place of each picture.

    Of two records of equal pictures, these keys part where their paths part.
    """
    turns = record_turns(conversations, pictures)
    tokens = encode_chat(tokenizer, turns, [1] * pictures).tokens.copy()
    places = np.flatnonzero(tokens == tokenizer.image)
    tokens[places] = -1 - np.arange(len(places))
    return tokens


def group_lengths(keys: Sequence[np.ndarray]) -> Lengths:
    """Lengths of the records of equal pictures, from their `text_key`s."""
    order = sorted(range(len(keys)), key=lambda n: keys[n].tolist())
    tokens = [int(np.count_nonzero(key >= 0)) for key in keys]
    shared, pictures = [0], [0]
    for before, after in pairwise(order):
        common = keys[after][: common_prefix(keys[before], keys[after])]
        shared.append(int(np.count_nonzero(common >= 0)))
        pictures.append(len(common) - shared[-1])
    return Lengths(*(np.array(values, np.int32) for values in (order, tokens, shared, pictures)))


def joined(parts: Sequence[Lengths]) -> Lengths:
    """Lengths of several groups, one behind the other."""
    firsts = np.cumsum([0, *(len(p.order) for p in parts)])
    return Lengths(
        np.concatenate([p.order + first for p, first in zip(parts, firsts, strict=False)]),
        np.concatenate([p.tokens for p in parts]),
        np.concatenate([p.shared for p in parts]),
        np.concatenate([p.shared_pictures for p in parts]),
    )
