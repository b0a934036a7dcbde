"""Two answers compared in both orders: does the judge agree with itself, whom does place help?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from critic_jax.judging.judgment import Judgment, winner


@dataclass(frozen=True)
class BothOrders:
    """A comparison asked twice: `ab` showed answer a first, `ba` answer b.

    Both verdicts call the first answer of the question A.
    """

    ab: Judgment
    ba: Judgment

    @property
    def winners(self) -> tuple[str | None, str | None]:
        """ "A", "B" or "tie" of each order; None for the unparsed."""
        return winner(self.ab.verdict), winner(self.ba.verdict)

    @property
    def state(self) -> Literal["value", "tie", "disagreement", "unparsed"]:
        """What both say together; "unparsed" if either cannot be read."""
        first, second = self.winners
        if first is None or second is None:
            return "unparsed"
        if first != second:
            return "disagreement"
        return "tie" if first == "tie" else "value"

    @property
    def verdict(self) -> str | None:
        """The winner that both orders name; None if they disagree or one cannot be read."""
        return self.winners[0] if self.state in ("value", "tie") else None


@dataclass(frozen=True)
class OrderSummary:
    """Pairs asked in both orders.

    consistency: the share of pairs whose two verdicts name the same winner. Where one of the two
        cannot be read, they don't.
    position_bias: of all verdicts that could be read, the share that the answer shown first won
        less the share that the one shown second won: from -1 to 1, 0 for a judge that looks at the
        answers alone. Ties count for neither.
    Both are None where there is nothing to count.
    """

    pairs: int
    agreeing: int
    disagreeing: int
    unparsed: int
    consistency: float | None
    position_bias: float | None


def order_summary(winners: Sequence[tuple[str | None, str | None]]) -> OrderSummary:
    """Of pairs asked in both orders, from the winners ("A", "B", "tie", None: unparsed) when a was
    shown first, and when b was (`BothOrders.winners`)."""
    read = [(ab, ba) for ab, ba in winners if ab is not None and ba is not None]
    agreeing = sum(ab == ba for ab, ba in read)
    for_first = [{"A": 1, "B": -1}.get(ab, 0) for ab, _ in winners if ab is not None]
    for_first += [{"A": -1, "B": 1}.get(ba, 0) for _, ba in winners if ba is not None]
    return OrderSummary(
        pairs=len(winners),
        agreeing=agreeing,
        disagreeing=len(read) - agreeing,
        unparsed=len(winners) - len(read),
        consistency=agreeing / len(winners) if winners else None,
        position_bias=sum(for_first) / len(for_first) if for_first else None,
    )
