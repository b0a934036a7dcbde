"""Leaderboards: WildVision-Bench's own counts and its own scores, limits, intervals."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from critic_jax.cli import main
from critic_jax.evaluation.bradley_terry import scores, win_probability
from critic_jax.evaluation.leaderboard import Battle, leaderboard
from critic_jax.evaluation.statistics import Bootstrap
from critic_jax.files import write_json_lines

NONE = Bootstrap(0)

# Votes on five models against claude-3-sonnet, and what the table in the README of
# github.com/WildVision-AI/WildVision-Bench (79dacc0) tells of them: score, win rate, reward. Of 25
# ties of llava-1.5-7b-hf, 20 are verdicts that are missing.
PUBLISHED = {
    "gpt-4o": ((255, 148, 14, 72, 11, 0), (89.15, 80.6, 56.4)),
    "gpt-4-vision-preview": ((182, 177, 22, 91, 28, 0), (79.78, 71.8, 39.4)),
    "Reka-Flash": ((135, 159, 28, 116, 62, 0), (64.65, 58.8, 18.9)),
    "llava-1.5-7b-hf": ((28, 62, 5, 174, 211, 20), (15.5, 18.0, -47.8)),
    "unum-cloud/uform-gen2-qwen-500m": ((16, 38, 11, 115, 320, 0), (7.81, 10.8, -68.5)),
}
LABELS = ("B>>A", "B>A", "A=B", "A>B", "A>>B", None)


def votes(model: str, counts: tuple[int, ...], anchor: str = "claude") -> list[Battle]:
    said = [label for label, count in zip(LABELS, counts, strict=True) for _ in range(count)]
    return [Battle(f"q{n}", anchor, model, verdict) for n, verdict in enumerate(said)]


def test_the_published_table_of_wildvision_bench() -> None:
    battles = [b for model, (counts, _) in PUBLISHED.items() for b in votes(model, counts)]
    rows = {row["model"]: row for row in leaderboard(battles, "claude", NONE)}
    for model, (counts, (score, win_rate, reward)) in PUBLISHED.items():
        row = rows[model]
        assert row["score"] == pytest.approx(score, abs=0.005 + 1e-9)
        assert 100 * row["win_rate"] == pytest.approx(win_rate, abs=0.05 + 1e-9)
        assert row["reward"] == pytest.approx(reward, abs=0.05 + 1e-9)
        assert row["votes"] == 500 and row["counts"]["missing"] == counts[5]
        # Beside the anchor alone the likelihood's maximum is a share: strong ones thrice, a win
        # two, a tie one each way.
        much_better, better, tie, worse, much_worse, _ = counts
        won, lost = 2 * (3 * much_better + better) + tie, 2 * (3 * much_worse + worse) + tie
        assert row["score"] == pytest.approx(100 * won / (won + lost), abs=1e-9)
        elo = 1000 + 400 * math.log10(won / lost)
        assert row["elo"] == pytest.approx(elo, abs=1e-8)
    assert rows["claude"]["score"] == 50.0 and rows["claude"]["elo"] == 1000.0
    assert next(iter(rows)) == "gpt-4o"


def test_many_opponents_as_a_logistic_regression_has_them() -> None:
    """The fit as the benchmark sets it up: every battle twice, a tie won once by each."""
    draw = np.random.default_rng(0)
    names = [f"m{n}" for n in range(5)]
    battles = []
    for n in range(300):
        a, b = draw.choice(5, 2, replace=False)
        verdict = LABELS[min(4, max(0, round(draw.normal(2 + 0.5 * (a - b), 1.2))))]
        battles.append(Battle(str(n), names[a], names[b], verdict))
    x, y = [], []
    for b in battles:
        assert b.verdict is not None
        row = np.zeros(5)
        row[names.index(b.model_a)], row[names.index(b.model_b)] = math.log(10), -math.log(10)
        won = {"A": (1, 1), "B": (0, 0)}.get(b.verdict[0] if b.verdict != "A=B" else "", (1, 0))
        for _ in range(3 if ">>" in b.verdict else 1):
            x += [row, row]
            y += won
    fit = LogisticRegression(fit_intercept=False, C=np.inf, tol=1e-10, max_iter=10_000)
    coefficients = 400 * fit.fit(np.array(x), np.array(y)).coef_[0]
    for row in leaderboard(battles, "m2", NONE):
        expected = coefficients[names.index(row["model"])] - coefficients[2] + 1000
        assert row["elo"] == pytest.approx(expected, abs=1e-2)


def test_the_gradient_vanishes_at_the_scores() -> None:
    draw = np.random.default_rng(1)
    wins = draw.integers(1, 50, (7, 7)).astype(float)
    np.fill_diagonal(wins, 0)
    found = scores(wins, 3)
    chance = 1 / (1 + 10 ** ((found[None, :] - found[:, None]) / 400))
    expected = ((wins + wins.T) * chance).sum(axis=1)
    assert np.abs(expected - wins.sum(axis=1)).max() < 1e-8


def test_who_never_loses_is_above_and_who_never_meets_is_nowhere() -> None:
    battles = [
        Battle("1", "best", "mid", "A>B"),
        Battle("2", "mid", "anchor", "A>B"),
        Battle("3", "anchor", "mid", "A>B"),
        Battle("4", "anchor", "worst", "A>>B"),
        Battle("5", "far", "away", "A=B"),
        Battle("6", "mid", "lost", None),
    ]
    rows = {row["model"]: row for row in leaderboard(battles, "anchor", NONE)}
    assert rows["best"]["score"] == 100.0 and rows["best"]["elo"] is None
    assert rows["worst"]["score"] == 0.0 and rows["worst"]["elo"] is None
    assert rows["mid"]["score"] == pytest.approx(50.0, abs=1e-9)
    assert rows["far"]["score"] is None and rows["lost"]["score"] is None
    assert rows["lost"] | {"counts": 0} == {
        **{"model": "lost", "score": None, "elo": None, "interval": None, "counts": 0},
        **{"win_rate": 0.0, "reward": 0.0, "votes": 1},
    }
    # Far from the maximum too: one model wins a thousand times for each that it loses.
    wins = np.array([[0, 1000.0, 1], [1, 0, 1000.0], [0, 1, 0]])
    assert np.isfinite(win_probability(scores(wins, 2))).all()


@pytest.mark.parametrize(
    ("sets", "resamples", "least"),
    [(60, 60, 0.83), pytest.param(200, 150, 0.89, marks=pytest.mark.slow)],
)
def test_intervals_cover_the_true_probability_as_often_as_they_say(
    sets: int, resamples: int, least: float
) -> None:
    draw = np.random.default_rng(2)
    # Weak verdicts, no ties: the chance that `it` wins is what the score estimates.
    chance, covered = 0.7, 0
    for n in range(sets):
        said = ["B>A" if win else "A>B" for win in draw.random(80) < chance]
        battles = [Battle(str(q), "anchor", "it", verdict) for q, verdict in enumerate(said)]
        rows = leaderboard(battles, "anchor", Bootstrap(resamples, seed=n))
        row = next(row for row in rows if row["model"] == "it")
        covered += row["interval"][0] <= 100 * chance <= row["interval"][1]
    assert least <= covered / sets  # of 0.95; some four standard errors below


def test_the_command(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    lines = [vars(b) for b in votes("it", (2, 1, 1, 1, 0, 1), "anchor")]
    file = write_json_lines(tmp_path / "battles.jsonl", lines)
    words = ["evaluate", "leaderboard", "--battles", str(file), "--anchor", "anchor"]
    assert main([*words, "--json", "--resamples", "50"]) == 0
    rows = json.loads(capsys.readouterr().out)["rows"]
    assert [row["model"] for row in rows] == ["it", "anchor"]
    assert set(rows[0]) >= {"model", "score", "win_rate", "reward", "votes", "interval"}
    assert rows[0]["score"] == pytest.approx(100 * 15 / 18, abs=1e-9)
    assert rows[0]["win_rate"] == 0.5 and rows[1]["win_rate"] == pytest.approx(1 / 6)
    assert rows[0]["reward"] == pytest.approx(200 / 6) == pytest.approx(-rows[1]["reward"])
    assert main([*words, "--resamples", "50"]) == 0
    head, first, *_ = capsys.readouterr().out.splitlines()
    assert head.split()[:3] == ["model", "score", "elo"] and first.split()[0] == "it"


def test_wildvisions_own_verdict_files(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    folder = tmp_path / "judge_gpt-4o_reference_claude"
    for model, said in {"good": ["B>>A", "B>A"], "bad": ["A>B", "no label here"]}.items():
        lines = [
            {"question_id": f"q{n}", "model": model, "judge": "gpt-4o", "games": [{"score": score}]}
            for n, score in enumerate(said)
        ]
        lines[1]["games"].append({"score": "A>B"})  # a second game, in which the model is A
        write_json_lines(folder / f"{model}.jsonl", lines)
    words = ["evaluate", "leaderboard", "--anchor", "claude", "--resamples", "0", "--json"]
    assert main([*words, "--battles", str(folder)]) == 0
    rows = {row["model"]: row for row in json.loads(capsys.readouterr().out)["rows"]}
    assert rows["good"]["score"] == 100.0 and rows["good"]["votes"] == 3
    assert rows["good"]["reward"] == pytest.approx(200 / 3)
    assert rows["bad"]["score"] == pytest.approx(50.0) and rows["bad"]["counts"]["missing"] == 1
    lost = write_json_lines(tmp_path / "x" / "good.jsonl", [{"games": []}])
    assert main([*words, "--battles", str(lost)]) == 2
    assert "is named judge_JUDGE_reference_MODEL" in capsys.readouterr().err
    broken = write_json_lines(folder / "good.jsonl", [{"question_id": 1, "model": "m", "games": 3}])
    assert main([*words, "--battles", str(broken)]) == 2
    assert "field 'games' should be a list" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ({"verdict": "A<B"}, "field 'verdict' is 'A<B'; it should be one of A>>B A>B"),
        ({"model_b": ""}, "field 'model_b' should be a model's name"),
        ({"model_b": "other"}, "anchor 'anchor' is in no battle; the models are other, x"),
    ],
)
def test_wrong_battles_are_one_line(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, line: dict[str, Any], words: str
) -> None:
    battle = {"question_id": 1, "model_a": "x", "model_b": "y", "verdict": None}
    file = write_json_lines(tmp_path / "battles.jsonl", [battle | line])
    assert main(["evaluate", "leaderboard", "--battles", str(file), "--anchor", "anchor"]) == 2
    err = capsys.readouterr().err
    assert words in err and err.count("\n") == 1


def test_a_missing_field_is_named(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    file = write_json_lines(tmp_path / "battles.jsonl", [{"question_id": 1, "model_a": "x"}])
    assert main(["evaluate", "leaderboard", "--battles", str(file), "--anchor", "x"]) == 2
    assert "battles.jsonl line 1: field 'model_b' is missing" in capsys.readouterr().err
