"""Agreement with labels, on examples small enough to count by hand."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import pearsonr

from critic_jax.errors import InputError
from critic_jax.evaluation.agreement import agreement, agreement_of_files, order_consistency
from critic_jax.files import write_json_lines

NOTHING = {
    "pairwise_accuracy": None,
    "order_consistency": None,
    "pointwise_pearson": None,
    "unparsed_rate": None,
}


def pair(id: str, verdict: str | None, order: str | None = None) -> dict[str, Any]:
    if verdict is None:
        fields: dict[str, Any] = {"id": id, "state": "unparsed", "why": "empty: ..."}
    else:
        state = "tie" if verdict in ("tie", "A=B") else "value"
        fields = {"id": id, "state": state, "verdict": verdict}
    return fields | {"template": "critic-pairwise"} | ({"order": order} if order else {})


def score(id: str, value: float | None) -> dict[str, Any]:
    fields = {"id": id, "state": "unparsed" if value is None else "value"}
    return fields if value is None else fields | {"score": value}


def label(id: str, value: str | float) -> dict[str, Any]:
    return {"id": id, "verdict" if isinstance(value, str) else "score": value}


def test_pairs_count_by_winner_and_the_unparsed_are_wrong() -> None:
    truth = {"a": "A", "b": "B>A", "c": "tie", "d": "A=B", "e": "A", "f": "B", "g": "tie"}
    labels = [label(i, v) for i, v in truth.items()]
    results = [
        pair("a", "A>>B"),  # right: strength does not count
        pair("b", "B"),  # right
        pair("c", "A=B"),  # right: a tie is a tie
        pair("d", "A"),  # wrong: it was a tie
        pair("e", "tie"),  # wrong: it was not
        pair("f", "A>B"),  # wrong
        pair("g", None),  # unparsed: wrong, a tie though it was
        pair("z", "A"),  # no label: not counted
    ]
    found = agreement(results, labels)
    assert found["pairwise_accuracy"] == 3 / 7
    assert found["unparsed_rate"] == 1 / 7
    assert (found["order_consistency"], found["pointwise_pearson"]) == (None, None)


def test_each_order_counts_on_its_own() -> None:
    labels = [label("a", "A"), label("b", "B"), label("c", "tie"), label("d", "A")]
    results = [
        *(pair("a", "A>B", "ab"), pair("a", "A", "ba")),  # consistent, twice right
        *(pair("b", "B", "ab"), pair("b", "A", "ba")),  # inconsistent, once right
        *(pair("c", "tie", "ab"), pair("c", "A=B", "ba")),  # consistent, twice right
        *(pair("d", None, "ab"), pair("d", None, "ba")),  # two unparsed agree on nothing
        pair("e", "A", "ab"),  # no label
    ]
    found = agreement(results, labels)
    assert found["pairwise_accuracy"] == 5 / 8
    assert found["order_consistency"] == 2 / 4
    assert found["unparsed_rate"] == 2 / 8


def test_a_pair_asked_in_one_order_has_no_consistency() -> None:
    assert order_consistency([pair("a", "A", "ab"), pair("b", "A")]) is None
    once = [pair("a", "A", "ab"), pair("b", "A", "ab"), pair("b", None, "ba")]
    assert order_consistency(once) == 0.0
    assert order_consistency([]) is None


def test_pearson_is_that_of_scipy() -> None:
    rng = np.random.default_rng(0)
    truth = rng.normal(50, 20, 30)
    said = truth + rng.normal(0, 15, 30)
    ids = [f"s{n}" for n in range(30)]
    labels = [label(i, float(t)) for i, t in zip(ids, truth, strict=True)]
    results = [score(i, float(s)) for i, s in zip(ids, said, strict=True)]
    found = agreement([*results[::-1], score("s7", None)], labels)
    assert found["pointwise_pearson"] == pytest.approx(pearsonr(said, truth).statistic, abs=1e-12)
    assert found["unparsed_rate"] == 1 / 31


def test_pearson_by_hand_leaves_the_unparsed_out() -> None:
    labels = [label("a", 1), label("b", 2), label("c", 3), label("d", 90)]
    results = [score("a", 2), score("b", 1), score("c", 3), score("d", None)]
    # Deviations (0, -1, 1) and (-1, 0, 1): covariance 1, both variances 2.
    assert agreement(results, labels)["pointwise_pearson"] == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("said", "truth"),
    [([70, 70, 70], [1, 2, 3]), ([1, 2, 3], [5, 5, 5]), ([4], [5]), ([None, None], [1, 2])],
)
def test_pearson_of_constant_scores_is_undefined(said: list, truth: list) -> None:
    results = [score(str(n), s) for n, s in enumerate(said)]
    found = agreement(results, [label(str(n), t) for n, t in enumerate(truth)])
    assert found["pointwise_pearson"] is None
    assert found["pairwise_accuracy"] is None


def test_scores_and_pairs_in_one_file() -> None:
    labels = [label("p", "A"), label("x", 10.0), label("y", 20.0)]
    found = agreement([pair("p", "A"), score("x", 3), score("y", 1)], labels)
    assert found["pairwise_accuracy"] == 1.0
    assert found["pointwise_pearson"] == pytest.approx(-1.0)
    assert found["unparsed_rate"] == 0.0


def test_nothing_asked_is_nothing_found() -> None:
    assert agreement([], []) == NOTHING
    assert agreement([pair("a", "A")], [label("b", "A")]) == NOTHING


def test_files(tmp_path: Path) -> None:
    one = write_json_lines(tmp_path / "one.jsonl", [pair("1", "A"), pair("2", "B")])
    two = write_json_lines(tmp_path / "two.jsonl", [pair("1", "B")])
    labels = write_json_lines(tmp_path / "labels.jsonl", [{"id": 1, "verdict": "A"}])
    found = agreement_of_files([one, two], labels)
    assert {path: n["pairwise_accuracy"] for path, n in found.items()} == {one: 1.0, two: 0.0}
    assert agreement_of_files([one, two], None) == {}
    with pytest.raises(InputError, match=f"{tmp_path / 'none.jsonl'}: no such file"):
        agreement_of_files([one, tmp_path / "none.jsonl"], labels)
