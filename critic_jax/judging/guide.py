"""A guide that lets a judge write nothing but a verdict."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from functools import lru_cache

import numpy as np

from critic_jax.judging.formats import Format
from critic_jax.judging.spelling import verdict_texts
from critic_jax.text import ChatTokenizer


class VerdictGuide:
    """Allows the tokens that go on towards one of some texts, and the stop tokens behind a whole
    one (a `critic_jax.sampling.guide.Guide`).

    Every way of cutting a text into tokens is allowed, whatever the vocabulary: the tokens' own
    texts are compared. then_free: a whole text is closed by a line end, and what follows is free.
    """

    def __init__(
        self, texts: Iterable[str], tokenizer: ChatTokenizer, then_free: bool = False
    ) -> None:
        self._texts = sorted(f"{text}\n" if then_free else text for text in texts)
        self._whole = frozenset(self._texts)
        self._free = then_free
        self._pieces = tokenizer.pieces
        self._stop = tokenizer.stop_ids
        letters = set().union(*self._texts)
        longest = max(map(len, self._texts))
        self.most_tokens = longest + 1
        self._usable = [
            (id, piece)
            for id, piece in enumerate(self._pieces)
            if piece and len(piece) <= longest and letters.issuperset(piece)
        ]

    def allowed(self, tokens: Sequence[int]) -> np.ndarray | None:
        """The ids that may come next; None for any, once a verdict stands and the rest is free."""
        said = "".join(self._pieces[id] for id in tokens)
        if self._free and any(said.startswith(text) for text in self._near(said)):
            return None
        ids = [id for id, piece in self._usable if self._leads_on(said + piece)]
        if said in self._whole:
            ids += self._stop
        return np.asarray(ids, np.int32)

    def _leads_on(self, said: str) -> bool:
        at = bisect_left(self._texts, said)
        return at < len(self._texts) and self._texts[at].startswith(said)

    def _near(self, said: str) -> Sequence[str]:
        """The texts that `said` may begin with: line ends are nowhere but at their ends."""
        first = said.partition("\n")[0] + "\n"
        return [first] if first in self._whole else []


@lru_cache(maxsize=32)  # going through a large vocabulary takes a while
def verdict_guide(
    form: Format, answers: int | None, tokenizer: ChatTokenizer, then_free: bool
) -> VerdictGuide:
    """The guide to a verdict of that format; `answers` as in `verdict_texts`."""
    return VerdictGuide(verdict_texts(form, answers), tokenizer, then_free)
