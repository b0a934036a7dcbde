"""Lines with several answers: every ordered pair is asked, and rewards come of the verdicts."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import permutations
from typing import Any

from critic_jax.judging.ask import Ask
from critic_jax.judging.judgment import Judgment, winner
from critic_jax.judging.templates import Template

DEFAULT_RANK = "llava-bench"
"""Two scores: how far an answer is ahead counts too."""


def ordered_pairs(count: int) -> list[tuple[int, int]]:
    """All K(K-1) ordered pairs of K answers: (shown first, shown second)."""
    return list(permutations(range(count), 2))


def pair_asks(
    visuals: tuple[Any, ...],
    template: Template,
    texts: dict[str, str | None],
    responses: Sequence[str],
) -> list[Ask]:
    """What a judge is asked to rank answers: one question for each of `ordered_pairs`."""
    return [
        Ask(visuals, template, {**texts, "response_a": responses[i], "response_b": responses[j]})
        for i, j in ordered_pairs(len(responses))
    ]


def rank_fields(judgments: Sequence[Judgment], count: int) -> dict[str, Any]:
    """The fields of a result that ranks `count` answers, from its pairs' judgments in order.

    rewards: r_i = sum over k of a_ki less sum over l of a_il (LLaVA-Critic, section on preference
    learning), a_ij being how much better y_j is than y_i when y_i stands first: the difference of
    two scores, or 1, 0 or -1 by verdict. What a judge favours by place cancels in it, so a pair
    counts only if both its orders were parsed. ranking: places of the answers, the best first,
    equal ones as they came. state: `unparsed` where an answer has no parsed pair, `tie` where no
    single answer is best.
    """
    pairs = ordered_pairs(count)
    found = dict(zip(pairs, judgments, strict=True))
    rewards = [0.0] * count
    parsed = [0] * count
    for (i, j), one in found.items():
        relative, back = _relative(one), _relative(found[j, i])
        if relative is not None and back is not None:
            rewards[j] += relative
            rewards[i] -= relative
            parsed[i] += 1
    ranking = sorted(range(count), key=lambda n: -rewards[n])
    if not all(parsed):
        state = "unparsed"
    else:
        state = "tie" if rewards[ranking[0]] == rewards[ranking[1]] else "value"
    fields: dict[str, Any] = {"state": state}
    if state == "unparsed":
        fields["why"] = "an answer has no pair that was parsed in both orders"
    else:
        fields |= {"rewards": rewards, "ranking": ranking}
    said = [_pair_fields(i, j, one) for (i, j), one in found.items()]
    return fields | {"pairs": said, "template": judgments[0].template, "model": judgments[0].model}


def _pair_fields(first: int, second: int, one: Judgment) -> dict[str, Any]:
    """One pair as the result tells it: who was asked what is said once, on the line."""
    said = {n: v for n, v in one.to_dict().items() if n not in ("template", "model")}
    return {"first": first, "second": second, **said}


def _relative(one: Judgment) -> float | None:
    """How much better the answer shown second is; None for an unparsed judgment."""
    if one.state == "unparsed":
        return None
    if one.scores is not None:
        return one.scores[1] - one.scores[0]
    return {"A": -1.0, "tie": 0.0, "B": 1.0}[winner(one.verdict) or "tie"]
