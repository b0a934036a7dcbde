"""How many rows of which size a step of so many records needs on so many chips."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from critic_jax.data.chosen import Chosen, forest
from critic_jax.data.corpus_rows import WINDOW
from critic_jax.data.plan import Budget, Plan
from critic_jax.errors import InputError
from critic_jax.flops import Costs

GRAIN_TOKENS, GRAIN_TILES = 512, 4
"""Row sizes tried are multiples of these."""

PAPER_BATCH, PAPER_RATE = 32, 2e-6

SEVEN_B = Costs(decoder=7.6e9, tower=0.42e9, patches=729)
"""The 7B's parameters, as if every token went through the head; attention left out."""


@dataclass(frozen=True)
class Proposal:
    """Sizes of a step, and what the plan of the records then is (`Plan.report`).

    tokens_a_chip: row tokens of a step over the chips, `rows * row_tokens / chips`.
    cost: relative to slots that are all filled on the same chips; 1 is perfect.
    """

    rows: int
    row_tokens: int
    row_tiles: int
    tensor: int
    steps: int
    records_a_step: float
    deviation: float
    token_fill: float
    tile_fill: float
    tokens_a_chip: float
    cost: float


def chip_count(topology: str) -> int:
    """Chips of a slice's name such as "v5e:8x8" or "v5p:4x4x4".

    Raises InputError for a name of another form.
    """
    _, colon, sides = topology.partition(":")
    words = sides.split("x")
    if not colon or not all(word.isdecimal() and int(word) for word in words):
        raise InputError(f"slice {topology!r}; it should be like v5e:8x8 or v5p:4x4x4")
    return math.prod(map(int, words))


def learning_rate(global_batch: int) -> float:
    """The paper's 2e-6 at 32 records, by the square-root rule at other batches.

    The rule for Adam of Malladi et al. 2022 (On the SDEs and Scaling Rules for Adaptive Gradient
    Algorithms, section 5).
    """
    return PAPER_RATE * math.sqrt(global_batch / PAPER_BATCH)


def propose(
    chosen: Chosen,
    chips: int,
    global_batch: int,
    tensor_limit: int = 4,
    costs: Costs = SEVEN_B,
) -> list[Proposal]:
    """Sizes that hold every record, cheapest first.

    Tried are tensor axes of 1, 2, 4, ... up to `tensor_limit` (the decoder's key-value heads: 4 for
    the 7B); for each the fewest rows, 1, 2, 4, ... for every group of chips that shares a row's
    work, whose steps get 95 % of their records or more; and rows from the smallest that holds every
    record up to twice that. Each is planned for one epoch. Raises InputError where there are no
    records, or fewer than two steps' worth.
    """
    if len(chosen) < 2 * global_batch:
        raise InputError(f"{len(chosen)} records are less than two steps of {global_batch}")
    longest = _round_up(int(chosen.tokens.max()), GRAIN_TOKENS)
    deepest = _round_up(int(chosen.tiles.max()), GRAIN_TILES)
    tensors = [2**n for n in range(32) if 2**n <= min(tensor_limit, chips) and not chips % 2**n]
    # What all trees would cost were no slot empty and none cut.
    whole = forest(chosen, Budget(1, 1, 2**31 - 1, 2**31 - 1)).groups
    needed = sum(costs.passes(tree.tokens, tree.tiles) for tree in whole)
    # The last step of an epoch may be nearly empty: a short epoch's mean is far below the batch.
    least = len(chosen) / -(-len(chosen) // global_batch)
    found: list[Proposal] = []
    for tensor in tensors:
        rows, holding = chips // tensor, list[Proposal]()
        while not holding:
            tried = [
                _proposal(
                    chosen,
                    Budget(global_batch, rows, tokens, tiles),
                    tensor,
                    chips,
                    costs,
                    needed,
                )
                for tokens in _sizes(longest, GRAIN_TOKENS)
                for tiles in _sizes(deepest, GRAIN_TILES)
            ]
            holding = [proposal for proposal in tried if proposal.records_a_step >= 0.95 * least]
            if rows >= global_batch:  # more rows than records: it is the trees that do not divide
                holding = holding or tried
            rows *= 2
        found += holding
    return sorted(found, key=lambda proposal: (proposal.cost, proposal.rows))


def _sizes(least: int, grain: int) -> Sequence[int]:
    return sorted({least, _round_up(round(1.5 * least), grain), 2 * least})


def _round_up(value: int, grain: int) -> int:
    return max(1, -(-value // grain)) * grain


def _proposal(
    chosen: Chosen, budget: Budget, tensor: int, chips: int, costs: Costs, needed: float
) -> Proposal:
    plan = Plan(forest(chosen, budget).groups, budget, 0, WINDOW)
    report = plan.report()
    slots = report["steps"] * budget.rows * costs.passes(budget.tokens, budget.tiles)
    return Proposal(
        budget.rows,
        budget.tokens,
        budget.tiles,
        tensor,
        int(report["steps"]),
        report["records_a_step"],
        report["deviation"],
        report["token_fill"],
        report["tile_fill"],
        budget.rows * budget.tokens / chips,
        slots / needed,
    )
