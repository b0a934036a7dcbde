"""Lines with several answers: every ordered pair is asked, and rewards come of the verdicts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from critic_jax.judging.judgment import Judgment
from critic_jax.judging.rank import Ranking, Relative, check_relative, ordered_pairs, ranking
from critic_jax.judging.templates import get_template


def rank_fields(
    judgments: Sequence[Judgment], count: int, relative: Relative | None = None
) -> dict[str, Any]:
    """The fields of a result that ranks `count` answers, from its pairs' judgments in order.

    relative: what rewards are made of, by default as in `rank.check_relative`. rewards and ranking:
    those of `rank.Ranking`, best first. state: `unparsed` where an answer has
    no pair that was parsed in both orders, `tie` where no single answer is best.
    """
    template = get_template(judgments[0].template)
    pairs = ordered_pairs(count)
    return ranked_fields(ranking(count, pairs, judgments, check_relative(template, relative)))


def ranked_fields(ranked: Ranking) -> dict[str, Any]:
    """The same of a ranking."""
    fields: dict[str, Any] = {}
    if None in ranked.rewards:
        fields["state"] = "unparsed"
        fields["why"] = "an answer has no pair that was parsed in both orders"
    else:
        rewards, order = ranked.rewards, ranked.order
        fields["state"] = "tie" if rewards[order[0]] == rewards[order[1]] else "value"
        fields |= {"rewards": list(rewards), "ranking": list(order)}
    said = [_pair_fields(p.first, p.second, p.judgment) for p in ranked.pairs]
    one = ranked.pairs[0].judgment
    return fields | {"pairs": said, "template": one.template, "model": one.model}


def _pair_fields(first: int, second: int, one: Judgment) -> dict[str, Any]:
    """One pair as the result tells it: who was asked what is said once, on the line."""
    said = {n: v for n, v in one.to_dict().items() if n not in ("template", "model")}
    return {"first": first, "second": second, **said}
