"""Rankings: the reward on numbers worked out by hand, and what is asked of the judge."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from critic_jax import Asking, Critic, InputError, Ranking
from critic_jax.judging.judgment import Judgment, judgment
from critic_jax.judging.rank import ordered_pairs, ranking, relative_score
from critic_jax.judging.verdicts import parse_verdict

THREE = ordered_pairs(3)


def said(text: str, template: str = "llava-bench", **more: Any) -> Judgment:
    found = judgment(parse_verdict(text, template), template, "m", "ab")
    return Judgment(**(vars(found) | more))


def test_the_reward_on_numbers_worked_out_by_hand() -> None:
    assert THREE == [(0, 1), (0, 2), (1, 0), (1, 2), (2, 0), (2, 1)]
    # a_ij is the second score less the first: how much better the second one is.
    texts = ("5 8", "6 4", "7 6", "9 5", "3 8", "4 9")
    found = ranking(3, THREE, [said(text) for text in texts], "scores")
    assert [pair.relative for pair in found.pairs] == [3, -2, -1, -4, 5, 5]
    # r_0 = (a_10 + a_20) - (a_01 + a_02) = (-1 + 5) - (3 - 2); and so on.
    assert found.rewards == (3, (3 + 5) - (-1 - 4), (-2 - 4) - (5 + 5))
    assert found.order == (1, 0, 2)
    assert (found.best, found.worst, found.tie) == (1, 2, False)
    assert found.counted == (4, 4, 4)
    assert (found.unparsed, found.unparsed_rate) == ((), 0)
    assert sum(r for r in found.rewards if r is not None) == 0
    # Place: a_ij + a_ji is 3 - 1, -2 + 5 and -4 + 5; the first gains minus half their mean.
    assert found.position_bias == pytest.approx(-(2 + 3 + 1) / 6)
    assert found.orders.consistency == 1
    assert found.orders.position_bias == 0


def test_a_bias_for_one_place_changes_no_reward() -> None:
    texts = ("5 8", "6 4", "7 6", "9 5", "3 8", "4 9")
    plain = [said(text) for text in texts]
    biased = [Judgment(**(vars(j) | {"scores": (j.scores[0] + 3.5, j.scores[1])})) for j in plain]
    one, other = (ranking(3, THREE, judged, "scores") for judged in (plain, biased))
    assert one.rewards == other.rewards
    assert other.position_bias == pytest.approx((one.position_bias or 0) + 3.5)


def test_an_unparsed_pair_counts_for_neither_answer_and_is_told() -> None:
    texts = ("5 8", "hm", "7 6", "9 5", "3 8", "4 9")
    found = ranking(3, THREE, [said(text) for text in texts], "scores")
    # Without (0, 2), (2, 0) would bring a place's advantage with it: neither counts.
    assert found.rewards == (-1 - 3, (3 + 5) - (-1 - 4), -4 - 5)
    assert (found.counted, found.unparsed) == ((2, 4, 2), ((0, 2),))
    assert found.unparsed_rate == pytest.approx(1 / 6)
    assert found.pairs[1].judgment.why.startswith("missing")
    assert (found.orders.pairs, found.orders.unparsed) == (3, 1)


def test_an_answer_of_which_nothing_is_known_has_no_place() -> None:
    texts = ("5 8", "hm", "7 6", "hm", "hm", "hm")
    found = ranking(3, THREE, [said(text) for text in texts], "scores")
    assert found.rewards == (-4, 4, None)
    assert found.order == (1, 0)
    nothing = ranking(3, THREE, [said("hm")] * 6, "scores")
    assert (nothing.rewards, nothing.order) == ((None,) * 3, ())
    assert (nothing.best, nothing.worst, nothing.tie) == (None, None, True)
    assert (nothing.position_bias, nothing.orders.consistency) == (None, 0)


def test_equal_answers_are_a_tie_in_the_order_given() -> None:
    found = ranking(3, THREE, [said("5 5")] * 6, "scores")
    assert (found.rewards, found.order, found.tie) == ((0, 0, 0), (0, 1, 2), True)


def test_relative_scores_of_each_kind() -> None:
    assert relative_score(said("5 8"), "scores") == 3
    assert relative_score(said("5 8"), "verdict") == 1
    for text, value in (("[[A>>B]]", -1), ("[[A>B]]", -1), ("[[A=B]]", 0), ("[[B>A]]", 1)):
        assert relative_score(said(text, "wildvision"), "verdict") == value
    two = {"expected_a": 5.5, "expected_b": 7.25, "preference": 0.2, "valid": 1.0, "known": 1.0}
    assert relative_score(said("5 8", probabilities=two), "probability") == 1.75
    side = {"A": 0.25, "B": 0.625, "tie": 0.125, "preference": 0.3, "valid": 1.0, "known": 1.0}
    assert relative_score(said("[[A]]", "mt-bench", probabilities=side), "probability") == 0.375
    assert relative_score(said("5 8"), "probability") is None
    assert relative_score(said("hm"), "verdict") is None


def _points(prompt: str) -> str:
    """Scores by the length of the answers, and one point more for the first."""
    parts = [prompt.split(f"[Assistant {n}]\n")[1].split("\n[End")[0] for n in (1, 2)]
    first, second = (len(part) for part in parts)
    return f"{first + 1} {second}\nThe longer one."


def test_a_critic_ranks_by_all_ordered_pairs(critic_folder: Path, script: Any) -> None:
    engine = script(_points)
    found = Critic.load(critic_folder).rank(None, "Which?", ["aaa", "a", "aaaaa"])
    assert isinstance(found, Ranking)
    assert len(engine.asked) == 6
    assert [(p.first, p.second) for p in found.pairs] == THREE
    assert found.pairs[0].judgment.scores == (4, 1)
    # r_i is 2 sum_k (n_i - n_k) for lengths n.
    assert (found.rewards, found.order) == ((0, -12, 12), (2, 0, 1))
    assert found.position_bias == 1
    (settings,) = engine.settings
    assert (settings.stop, settings.max_new_tokens) == (("\n",), 16)


def test_a_subset_of_pairs_and_another_template(critic_folder: Path, script: Any) -> None:
    engine = script(lambda prompt: "I prefer it.\n[[B>A]]")
    critic = Critic.load(critic_folder)
    found = critic.rank(
        None, "Which?", ["x", "y", "z"], pairs=[(0, 1), (0, 2)], template="wildvision"
    )
    assert found.rewards == (-2, 1, 1)
    assert (found.order, found.counted) == ((1, 2, 0), (2, 1, 1))
    assert found.position_bias is None
    assert found.pairs[0].judgment.reason == "I prefer it."
    assert engine.settings[-1].stop == ()  # asked with reasons, as the verdict stands last
    full = critic.rank(
        None, "Which?", ["x", "y"], asking=Asking(), relative="verdict", reference="R-E-F"
    )
    assert full.unparsed_rate == 1  # no two scores in that text
    assert "R-E-F" in engine.asked[-1]


def test_wrong_rankings_are_refused(critic_folder: Path, script: Any) -> None:
    script(_points)
    critic = Critic.load(critic_folder)
    with pytest.raises(InputError, match="there are 1 answers to rank; give two or more"):
        critic.rank(None, "Which?", ["a"])
    for pairs, wrong in (
        ([(0, 0)], r"pair \(0, 0\) is none of 2 answers"),
        ([(0, 2)], r"pair \(0, 2\) is none of 2 answers; .* from 0 to 1"),
        ([(0, 1), (0, 1)], "pairs: one stands twice"),
        ([], "pairs: none are given"),
    ):
        with pytest.raises(InputError, match=wrong):
            critic.rank(None, "Which?", ["a", "b"], pairs=pairs)
    with pytest.raises(InputError, match="critic-pointwise compares no two answers"):
        critic.rank(None, "Which?", ["a", "b"], template="critic-pointwise")
    with pytest.raises(InputError, match="mt-bench asks for no scores"):
        critic.rank(None, "Which?", ["a", "b"], template="mt-bench", relative="scores")
    with pytest.raises(InputError, match="relative is 'margin'; it should be one of 'scores', "):
        critic.rank(None, "Which?", ["a", "b"], relative="margin")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="responses is a text; it should be a list"):
        critic.rank(None, "Which?", "ab")
