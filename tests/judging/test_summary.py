"""What a file of judgments comes to, and the limits that it may miss."""

from typing import Any

import pytest

from critic_jax.errors import InputError, WorkError
from critic_jax.judging.summary import order_consistency, parse_limits, position_bias, summarise


def pair(name: str, ab: str | None, ba: str | None) -> list[dict[str, Any]]:
    """A pair's two results; None for no verdict."""
    lines = []
    for order, verdict in (("ab", ab), ("ba", ba)):
        fields = {"state": "unparsed"} if verdict is None else {"state": "value"}
        said = {} if verdict is None else {"verdict": verdict}
        lines.append({"id": name, "order": order, **fields, **said})
    return lines


@pytest.mark.parametrize(
    ("pairs", "consistency", "bias"),
    [
        ([("A", "A"), ("B>A", "B>>A")], 1.0, 0.0),  # the same answer wins wherever it stands
        ([("A", "B"), ("A>B", "B>A")], 0.0, 1.0),  # always the one shown first
        ([("B", "A")], 0.0, -1.0),  # always the one shown second
        ([("A", "tie")], 0.0, 0.5),
        ([("tie", "A=B")], 1.0, 0.0),
        ([("A", "A"), ("A", None), (None, None)], 1 / 3, 1 / 3),  # won: 1, -1, 1
        ([("A", "A"), ("A", "B")], 0.5, 0.5),
        ([(None, None)], 0.0, None),
    ],
)
def test_consistency_and_bias_of_pairs_asked_both_ways(
    pairs: list[tuple[str | None, str | None]], consistency: float, bias: float | None
) -> None:
    lines = [line for n, (ab, ba) in enumerate(pairs) for line in pair(str(n), ab, ba)]
    assert order_consistency(lines) == pytest.approx(consistency)
    assert position_bias(lines) == (None if bias is None else pytest.approx(bias))
    summary = summarise(lines, "m")
    assert summary["order_consistency"] == order_consistency(lines)
    assert summary["position_bias"] == position_bias(lines)


def test_what_was_asked_one_way_tells_neither() -> None:
    lines: list[dict[str, Any]] = [{"id": "1", "state": "value", "verdict": "A"}]
    assert order_consistency(lines) is None and position_bias(lines) is None
    assert "position_bias" not in summarise(lines, "m")
    # Half of a pair counts in neither.
    assert position_bias([*pair("1", "A", "A"), pair("2", "A", None)[0]]) == 0.0


SUMMARY: dict[str, Any] = {"mean_score": 40.0, "judgments": 9, "unparsed_rate": 0.25}


@pytest.mark.parametrize(
    ("words", "unparsed", "said"),
    [
        (["mean_score=40", "judgments=9"], 0.25, None),
        (["mean_score=40.5"], None, "mean_score is 40, under 40.5"),
        ([], 0.2, "unparsed_rate is 0.25, over 0.2"),
        (["order_consistency=0"], None, "order_consistency is not known"),
        (["judgments=10"], 0.0, "judgments is 9, under 10; unparsed_rate is 0.25, over 0"),
    ],
)
def test_limits_that_are_missed_are_all_named(
    words: list[str], unparsed: float | None, said: str | None
) -> None:
    limits = parse_limits(words, unparsed)
    if said is None:
        limits.check(SUMMARY)
    else:
        with pytest.raises(WorkError, match=f"^{said}"):
            limits.check(SUMMARY)


@pytest.mark.parametrize(
    ("words", "unparsed", "said"),
    [
        (["accuracy=1"], None, "no metric is called 'accuracy'; there are judgments, mean_score,"),
        (["mean_score"], None, "'' is no number; give mean_score=VALUE"),
        (["mean_score=nan"], None, "'nan' is no number"),
        (["mean_score=high"], None, "'high' is no number"),
        ([], 5.0, "--fail-on-unparsed 5: should be a share from 0 to 1"),
    ],
)
def test_a_wrong_limit_is_told(words: list[str], unparsed: float | None, said: str) -> None:
    with pytest.raises(InputError, match=said):
        parse_limits(words, unparsed)
