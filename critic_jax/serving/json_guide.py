"""A guide that lets an answer be nothing but JSON, of any kind or as a schema has it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from critic_jax.serving.json_grammar import (
    Node,
    State,
    advance,
    any_object,
    begin,
    complete,
    grammar,
)
from critic_jax.text import ChatTokenizer

KEPT = 256
"""States whose tokens are kept: in a large vocabulary each takes half a megabyte."""


class JsonGuide:
    """Allows the tokens that go on towards a text of a grammar, and the stop tokens behind a whole
    one (a `critic_jax.sampling.guide.Guide`).

    Tokens are compared by their own texts; those of half a letter are not allowed.
    """

    def __init__(self, node: Node, tokenizer: ChatTokenizer) -> None:
        self._pieces, self._stop = tokenizer.pieces, tokenizer.stop_ids
        self._start = begin(node)
        self._behind: dict[tuple[State, str], State] = {}
        self._allowed: dict[State, np.ndarray] = {}
        self._by_first = _by_first(tokenizer)

    def allowed(self, tokens: Sequence[int]) -> np.ndarray:
        """The ids that may come next."""
        state = self._start
        for id in tokens:
            state = self._go(state, self._pieces[id])
        if state not in self._allowed:
            if len(self._allowed) >= KEPT:
                self._allowed.clear()
            ids = [
                id
                for letter, of in self._by_first.items()
                if (first := self._go(state, letter))
                for id in of
                if self._go(first, self._pieces[id][1:])
            ]
            ids += self._stop if complete(state) else ()
            self._allowed[state] = np.asarray(ids, np.int32)
        return self._allowed[state]

    def _go(self, state: State, text: str) -> State:
        for letter in text:
            if not state:
                break
            key = (state, letter)
            if key not in self._behind:
                self._behind[key] = advance(state, letter)
            state = self._behind[key]
        return state


@lru_cache(maxsize=4)
def _by_first(tokenizer: ChatTokenizer) -> Mapping[str, list[int]]:
    """Ids by the first letter of their texts."""
    found: dict[str, list[int]] = {}
    for id, piece in enumerate(tokenizer.pieces):
        if piece:
            found.setdefault(piece[0], []).append(id)
    return found


def json_guide(schema: Mapping[str, Any] | None, tokenizer: ChatTokenizer) -> JsonGuide:
    """The guide to JSON texts of a schema, or to any JSON object.

    Raises InputError for a schema that cannot be held to while decoding.
    """
    return _guide(None if schema is None else json.dumps(schema), tokenizer)


@lru_cache(maxsize=16)  # what is allowed where is worked out once, and takes a while
def _guide(schema: str | None, tokenizer: ChatTokenizer) -> JsonGuide:
    return JsonGuide(any_object() if schema is None else grammar(json.loads(schema)), tokenizer)
