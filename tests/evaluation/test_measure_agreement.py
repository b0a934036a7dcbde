"""`evaluate agreement`: every number counted by hand or by scipy, on files as users write them."""

import json
from pathlib import Path
from typing import Any

import pytest
from scipy.stats import kendalltau, pearsonr

from critic_jax.cli import main
from critic_jax.files import write_json_lines


def agree(
    folder: Path, results: list[dict[str, Any]], labels: list[dict[str, Any]], *words: str
) -> list[str]:
    files = {"results": results, "labels": labels}
    paths = [f"--{n}={write_json_lines(folder / f'{n}.jsonl', v)}" for n, v in files.items()]
    return ["evaluate", "agreement", *paths, *words]


def measure(
    capsys: pytest.CaptureFixture[str],
    folder: Path,
    results: list[dict[str, Any]],
    labels: list[dict[str, Any]],
    *words: str,
) -> dict[str, Any]:
    assert main([*agree(folder, results, labels, *words), "--json", "--resamples=20"]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def values(found: dict[str, Any]) -> Any:
    """The document with each estimate as its value."""
    if isinstance(found, dict):
        return found["value"] if "value" in found else {k: values(v) for k, v in found.items()}
    return found


def test_comparisons_counted_by_hand(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    truth = {"a": "A", "b": "B>A", "c": "tie", "d": "A=B", "e": "A"}
    group = {"a": "x", "b": "x", "c": "x", "d": "y", "e": "y"}
    labels = [{"id": i, "verdict": v, "group": group[i]} for i, v in truth.items()]
    results = [
        {"id": "a", "verdict": "A>>B"},  # right
        {"id": "b", "verdict": None},  # unparsed
        {"id": "c", "verdict": "A=B"},  # right
        {"id": "d", "verdict": "B"},  # wrong
        {"id": "e", "verdict": "tie"},  # wrong
        {"id": "z", "verdict": "A"},  # no label
    ]
    labels.append({"id": "nobody", "verdict": "A"})
    document = measure(capsys, tmp_path, results, labels)
    found = values(document)["pairwise"]
    assert (document["unlabelled"], document["unjudged"]) == (1, 1)
    assert found["labelled"] == 5 and found["unparsed_rate"] == 1 / 5
    assert found["accuracy"] == {"unparsed_wrong": 2 / 5, "unparsed_left_out": 2 / 4}
    assert found["accuracy_without_ties"] == {"unparsed_wrong": 1 / 3, "unparsed_left_out": 1 / 2}
    x, y = found["groups"]["x"], found["groups"]["y"]
    assert x["accuracy"] == {"unparsed_wrong": 2 / 3, "unparsed_left_out": 1}
    assert y["accuracy"] == {"unparsed_wrong": 0, "unparsed_left_out": 0}
    assert found["macro"]["accuracy"]["unparsed_wrong"] == pytest.approx(1 / 3, abs=1e-12)
    assert found["macro"]["accuracy"]["unparsed_left_out"] == 1 / 2
    assert document["pairwise_accuracy"] == 2 / 5 and document["unparsed_rate"] == 1 / 5
    low, high = document["pairwise"]["accuracy"]["unparsed_wrong"]["interval"]
    assert 0 <= low <= 2 / 5 <= high <= 1


def test_both_orders_counted_by_hand(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    labels = [{"id": i, "verdict": v} for i, v in {"a": "A", "b": "B", "c": "tie"}.items()]
    results = [
        {"id": "a", "order": "ab", "verdict": "A"},
        {"id": "a", "order": "ba", "verdict": "A"},  # agree, right
        {"id": "b", "order": "ab", "verdict": "A"},
        {"id": "b", "order": "ba", "verdict": "B"},  # the first shown wins twice
        {"id": "c", "order": "ab", "verdict": "tie"},
        {"id": "c", "order": "ba", "state": "unparsed"},
    ]
    found = values(measure(capsys, tmp_path, results, labels))["pairwise"]
    assert found["accuracy"] == {"unparsed_wrong": 4 / 6, "unparsed_left_out": 4 / 5}
    assert found["agreement_of_both_orders"] == pytest.approx(1 / 3, abs=1e-12)
    assert found["consistency_of_both_orders"] == pytest.approx(1 / 3, abs=1e-12)
    # Of five verdicts: first wins a-ab, b-ab, b-ba; second wins a-ba; the tie is neither.
    assert found["position_bias"] == pytest.approx((3 - 1) / 5, abs=1e-12)


def test_models_are_ordered_by_their_points(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    said = [("p", "q", "A", "A"), ("q", "r", "A", "B"), ("p", "r", "tie", "A"), ("r", "p", "B", 0)]
    labels = [
        {"id": str(n), "model_a": a, "model_b": b, "verdict": true}
        for n, (a, b, true, _) in enumerate(said)
    ]
    results = [{"id": str(n), "verdict": v or None} for n, (*_, v) in enumerate(said)]
    found = values(measure(capsys, tmp_path, results, labels))["pairwise"]["kendall_tau"]
    # Labels: p 2.5 of 3, q 1 of 2, r 0.5 of 3. The judge: p 2 of 3, q 0 of 2, r 1 of 3; without the
    # unparsed one p 2 of 2, q 0 of 2, r 1 of 2, against the labels' p 1.5 of 2, q 1 of 2, r 0.5.
    assert found["unparsed_wrong"] == pytest.approx(1 / 3, abs=1e-12)
    assert found["unparsed_left_out"] == pytest.approx(1 / 3, abs=1e-12)


def test_scores_are_scipys_by_answer_and_by_model(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    truth, given = [1, 5, 3, 4, 2, 5], [2, 5, 3, 3, None, 4]
    labels = [
        {"id": n, "score": t, "model": "uvw"[n // 2], "group": "even" if n % 2 else "odd"}
        for n, t in enumerate(truth)
    ]
    results = [{"id": n, "score": g} for n, g in enumerate(given)]
    found = values(measure(capsys, tmp_path, results, labels))["pointwise"]
    read = [(g, t) for g, t in zip(given, truth, strict=True) if g is not None]
    ours, theirs = zip(*read, strict=True)
    filled = [5 if g is None else g for g in given]  # 2 is nearer to 1 than to 5
    for name, scipys in (("pearson", pearsonr), ("kendall_tau", kendalltau)):
        left_out = scipys(ours, theirs).statistic
        assert found[name]["unparsed_left_out"] == pytest.approx(left_out, abs=1e-9)
        wrong = scipys(filled, truth).statistic
        assert found[name]["unparsed_wrong"] == pytest.approx(wrong, abs=1e-9)
        by_model = scipys([3.5, 3, 4], [3, 3.5, 5]).statistic
        assert found[f"model_{name}"]["unparsed_left_out"] == pytest.approx(by_model, abs=1e-9)
    groups = [pearsonr(filled[n::2], truth[n::2]).statistic for n in (0, 1)]
    macro = found["macro"]["pearson"]["unparsed_wrong"]
    assert macro == pytest.approx(sum(groups) / 2, abs=1e-9)


def test_rankings_by_their_distance(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    labels = [{"id": i, "ranking": [0, 1, 2, 3]} for i in "abc"]
    results = [
        {"id": "a", "ranking": [0, 1, 2, 3]},
        {"id": "b", "ranking": [1, 0, 2, 3]},
        {"id": "c", "state": "unparsed"},
    ]
    found = values(measure(capsys, tmp_path, results, labels))["ranking"]["levenshtein"]
    assert found == {"unparsed_wrong": 0.5, "unparsed_left_out": 0.25}


def test_a_table_for_people(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    labels = [{"id": str(n), "verdict": "A"} for n in range(9)]
    results = [{"id": str(n), "verdict": "A" if n % 3 else "B"} for n in range(9)]
    assert main(agree(tmp_path, results, labels)) == 0
    out = capsys.readouterr().out
    assert "pairwise.accuracy.unparsed_wrong" in out and "0.6667 (0.3333 to" in out


@pytest.mark.parametrize(
    ("result", "label", "words"),
    [
        ({"id": "1", "verdict": "C"}, {"id": "1", "verdict": "A"}, "results.jsonl line 1: field"),
        ({"verdict": "A"}, {"id": "1", "verdict": "A"}, "field 'id' is missing"),
        ({"id": "1", "verdict": "A"}, {"id": "1", "score": 3}, "the label is a score"),
        ({"id": "1", "verdict": "A"}, {"id": "2", "verdict": "A"}, "labels no id of"),
        ({"id": "1", "ranking": [1, 1]}, {"id": "1", "ranking": [0, 1]}, "places from 0"),
        ({"id": "1", "verdict": "A"}, {"id": "1"}, "labels.jsonl line 1: a label is"),
        ({"id": "1", "verdict": "A"}, {"id": "1", "verdict": "A", "group": 1.5}, "field 'group'"),
    ],
)
def test_wrong_files_are_one_line(
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    result: dict[str, Any],
    label: dict[str, Any],
    words: str,
) -> None:
    assert main(agree(tmp_path, [result], [label])) == 2
    err = capsys.readouterr().err
    assert words in err and err.count("\n") == 1


def test_an_id_judged_twice_is_told(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    results = [{"id": "1", "verdict": "A"}, {"id": "1", "verdict": "B"}]
    assert main(agree(tmp_path, results, [{"id": "1", "verdict": "A"}])) == 2
    assert "line 2: field 'id': '1' is judged twice" in capsys.readouterr().err
