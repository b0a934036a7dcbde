"""Both orders: agreement, disagreement, and whom the place helps."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from critic_jax import Critic
from critic_jax.judging.both_orders import order_summary


@pytest.mark.parametrize(
    ("texts", "state", "verdict"),
    [
        # What the judge says of the answers as shown, first in the order a b, then b a.
        (("[[A]]", "[[B]]"), "value", "A"),
        (("[[B]]", "[[A]]"), "value", "B"),
        (("[[A]]", "[[A]]"), "disagreement", None),
        (("[[A]]", "[[C]]"), "disagreement", None),
        (("[[C]]", "[[C]]"), "tie", "tie"),
        (("[[A]]", "hm."), "unparsed", None),
        (("hm.", "hm."), "unparsed", None),
    ],
)
def test_two_orders_are_one_verdict_or_a_disagreement(
    texts: tuple[str, str], state: str, verdict: str | None, critic_folder: Path, script: Any
) -> None:
    script(lambda prompt: texts[0] if prompt.index("A one.") < prompt.index("A two.") else texts[1])
    critic = Critic.load(critic_folder)
    found = critic.compare_both_orders(None, "Which?", "A one.", "A two.", template="mt-bench")
    assert (found.state, found.verdict) == (state, verdict)
    assert (found.ab.order, found.ba.order) == ("ab", "ba")


def test_the_summary_counts_pairs_and_verdicts() -> None:
    # Two for A whatever the order, one for whoever is first, one for whoever is second,
    # a tie that the other order does not see, one unparsed in one order, one in both.
    winners = [("A", "A"), ("A", "A"), ("A", "B"), ("B", "A"), ("tie", "B"), ("A", None)]
    found = order_summary([*winners, (None, None)])
    assert (found.pairs, found.agreeing, found.disagreeing, found.unparsed) == (7, 2, 3, 2)
    assert found.consistency == pytest.approx(2 / 7)  # the unparsed agree with nobody
    # Of 11 verdicts, the first won 2 + 2 + 1 + 1 and the second 2 + 2: A A AB - B A.
    assert found.position_bias == pytest.approx((2 + 2 + 0 + 1 + 1 - 2 - 2) / 11)


def test_a_judge_that_always_names_the_first_has_a_bias_of_one() -> None:
    found = order_summary([("A", "B")] * 3)
    assert (found.consistency, found.position_bias) == (0, 1)
    assert order_summary([("A", "A"), ("B", "B")]).position_bias == 0
    empty = order_summary([])
    assert (empty.pairs, empty.consistency, empty.position_bias) == (0, None, None)
