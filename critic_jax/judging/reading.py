"""What a judge's probabilities say beyond the verdict that it wrote.

One answer is decoded, and at each of its steps the probabilities of all tokens that a verdict may
be made of are at hand (`Completion.alternatives`). So the probability of each value is known as far
as the decoded path shows it:

- exact: everything that parts from the path with a token that leaves one value only, as a first
  digit does on a scale from 0 to 6, or [[A]] beside [[B]]; and everything on the path itself, also
  through numbers of several tokens: behind the 1 of "10", that the number ended is what is left
  when no further digit comes;
- renormalised: tokens that lead to no valid verdict are left out, and so are numbers written with
  more or fewer decimals than the decoded one; how much is left stands in `valid`;
- assumed: a token off the path that leaves several values (the 7 of 70 to 79) is spread evenly over
  those as long as the decoded value. Where it may be the top of the scale as well (the 1 of 1 and
  of 100) it is left out. What needed no such assumption is the share `known`.

Of two scores, the second is read as it follows the decoded first, and the preference takes the two
as independent.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import product

from critic_jax.judging.formats import Format, ScoreFormat, TwoScoreFormat
from critic_jax.judging.judgment import winner
from critic_jax.judging.spelling import Values, may_belong_to_a_value, values_like
from critic_jax.sampling.completion import Completion
from critic_jax.text import ChatTokenizer

Probabilities = dict[str, float]


@dataclass(frozen=True)
class Distribution:
    """Probabilities of values, which sum to 1; `valid` and `known` as above."""

    values: dict[float | str, float]
    valid: float
    known: float

    def expected(self) -> float:
        """The mean of values that are numbers."""
        return sum(float(value) * p for value, p in self.values.items())


def watched_tokens(forms: Iterable[Format], tokenizer: ChatTokenizer) -> tuple[int, ...]:
    """The ids whose probabilities readings of these formats need, in ascending order."""
    return tuple(sorted({id for form in forms for id in _watched(form, tokenizer)}))


@lru_cache(maxsize=32)  # going through a large vocabulary takes a while
def _watched(form: Format, tokenizer: ChatTokenizer) -> tuple[int, ...]:
    pieces = enumerate(tokenizer.pieces)
    return tuple(id for id, piece in pieces if piece and may_belong_to_a_value(form, piece))


def read_probabilities(
    completion: Completion,
    places: Sequence[tuple[int, int]],
    form: Format,
    watched: Sequence[int],
    tokenizer: ChatTokenizer,
) -> Probabilities | None:
    """The reading of a completion whose verdict's value stands at `places` of its text.

    watched: the ids that `completion.alternatives` are of. Gives `expected` of a score;
    `expected_a`, `expected_b` and `preference` of two; `A`, `B`, `tie` and `preference` of a
    verdict on two answers; and always `valid` and `known`. `preference` is the probability that A
    is better, a tie counting as half. None where the verdict is stated by a sentence or has a
    spelling that is not foreseen.
    """
    found = [_distribution(completion, place, form, watched, tokenizer) for place in places]
    read = [one for one in found if one is not None]
    if not read or len(read) < len(found):
        return None
    shares = {"valid": math.prod(d.valid for d in read), "known": math.prod(d.known for d in read)}
    if isinstance(form, TwoScoreFormat):
        if len(read) != 2:
            return None
        first, second = read
        means = {"expected_a": first.expected(), "expected_b": second.expected()}
        return means | {"preference": _first_is_higher(first, second)} | shares
    if isinstance(form, ScoreFormat):
        return {"expected": read[0].expected()} | shares
    sides = {"A": 0.0, "B": 0.0, "tie": 0.0}
    for value, p in read[0].values.items():
        sides[winner(str(value)) or ""] += p
    return sides | {"preference": sides["A"] + sides["tie"] / 2} | shares


def _first_is_higher(first: Distribution, second: Distribution) -> float:
    total = 0.0
    for (a, p), (b, q) in product(first.values.items(), second.values.items()):
        total += p * q * (1.0 if float(a) > float(b) else 0.5 if a == b else 0.0)
    return total


@dataclass(frozen=True)
class _Leaf:
    """Where ways of writing part: what stands there of the value, its probability, whether the
    value ends there."""

    said: str
    mass: float
    ended: bool = False


def _distribution(
    completion: Completion,
    place: tuple[int, int],
    form: Format,
    watched: Sequence[int],
    tokenizer: ChatTokenizer,
) -> Distribution | None:
    tokens = list(completion.tokens)
    text = tokenizer.decode(tokens)
    written = text[place[0] : place[1]]
    values = values_like(form, written)
    if not values:
        return None

    def length(count: int) -> int:
        return len(tokenizer.decode(tokens[:count]))

    # The first token that reaches beyond the value's first character.
    step = bisect_right(range(len(tokens) + 1), place[0], key=length) - 1
    lead = text[length(step) : place[0]]
    leaves = _leaves(completion, step, lead, written, values, watched, tokenizer)
    return None if leaves is None else _spread(leaves, written, values)


def _leaves(
    completion: Completion,
    step: int,
    lead: str,
    written: str,
    values: Values,
    watched: Sequence[int],
    tokenizer: ChatTokenizer,
) -> list[_Leaf] | None:
    """Every way of writing a value that the decoded path shows; `lead` stands before the value in
    its first token."""
    leaves: list[_Leaf] = []
    said, reached = "", 1.0
    while True:
        if step >= len(completion.alternatives):  # the length limit came first
            return [*leaves, _Leaf(said, reached, ended=True)] if said == written else None
        row = completion.alternatives[step]
        here = completion.tokens[step] if step < len(completion.tokens) else None
        going_on = 0.0
        for id, logprob in zip(watched, row, strict=True):
            piece = tokenizer.pieces[id]
            if not piece.startswith(lead):
                continue
            piece = piece[len(lead) :]
            p = math.exp(float(logprob))
            if said and piece and (piece[0].isdigit() or piece[0] == "."):
                going_on += p
            if piece and id != here and _possible(said + piece, values):
                leaves.append(_Leaf(said + piece, reached * p))
        if said in values:
            leaves.append(_Leaf(said, reached * max(0.0, 1.0 - going_on), ended=True))
            if said == written:
                return leaves
        if here is None:
            return None
        said += tokenizer.pieces[here][len(lead) :]
        reached *= math.exp(completion.logprobs[step])
        left = _possible(said, values)
        if len(left) == 1:
            leaves.append(_Leaf(said, reached))
            return leaves
        if not left:
            return None
        step, lead = step + 1, ""


def _possible(said: str, values: Values) -> list[str]:
    """The texts of values that what is said so far may become, or has become."""
    possible = [text for text in values if text.startswith(said)]
    if not possible:  # a token may close the value, as in "first]"
        possible = [text for text in values if said.rstrip("]") == text]
    return possible


def _spread(leaves: list[_Leaf], written: str, values: Values) -> Distribution | None:
    """The leaves as a distribution over values."""
    top = max((v for v in values.values() if isinstance(v, float)), default=None)
    found: dict[float | str, float] = {}
    total = sure = 0.0
    for leaf in leaves:
        possible = [leaf.said] if leaf.ended else _possible(leaf.said, values)
        total += leaf.mass
        if len(possible) == 1:
            sure += leaf.mass
        elif any(values[text] == top for text in possible):
            continue
        else:
            nearest = min(abs(len(text) - len(written)) for text in possible)
            possible = [t for t in possible if abs(len(t) - len(written)) == nearest]
        for text in possible:
            found[values[text]] = found.get(values[text], 0.0) + leaf.mass / len(possible)
    weight = sum(found.values())
    if weight <= 0:
        return None
    return Distribution({v: p / weight for v, p in found.items()}, total, sure / total)
