"""The digits critic through all of `critic-jax evaluate`; the whole demo lends it to this."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

from critic_jax.data import read_json_lines
from critic_jax.demo.answers import ask, word_answer, wrong_claim
from critic_jax.demo.digits import make_digits
from critic_jax.files import write_json_lines

SKILLS = {"never": 0.0, "seldom": 0.25, "half": 0.5, "often": 0.75, "always": 1.0}
ANCHOR = "half"
QUESTIONS = 40


def evaluates_itself(out: Path) -> None:
    """Agreement, probes, a leaderboard of five answerers of known skill, and a page of it all.

    `out` is a demo's folder: critic/, and heldout/ with input, labels and results in both orders.
    """
    folder = out / "evaluation"
    files = [
        _agreement(out, folder / "agreement.json"),
        _probes(out, folder / "probes"),
        _leaderboard(out, folder),
    ]
    page = folder / "page.html"
    _run("evaluate", "page", *files, "--output", page)
    text = page.read_text()
    for heading in ("Judges and labels", "Probes", "Leaderboards", "scores", "winners"):
        assert heading in text


def _run(*words: object) -> str:
    command = [str(Path(sys.executable).with_name("critic-jax")), *map(str, words)]
    return subprocess.run(
        command, check=True, timeout=600, stdout=subprocess.PIPE, text=True
    ).stdout


def _agreement(out: Path, path: Path) -> Path:
    held = out / "heldout"
    files = ("--results", held / "results.jsonl", "--labels", held / "labels.jsonl")
    text = _run("evaluate", "agreement", *files, "--group", "kind", "--json", "--resamples", 200)
    found = json.loads(text)
    accuracy = found["pairwise"]["accuracy"]["unparsed_wrong"]
    low, high = accuracy["interval"]
    assert 0.85 <= low <= accuracy["value"] <= high
    assert accuracy["value"] == found["pairwise_accuracy"]
    assert set(found["pairwise"]["groups"]) == {"digit", "parity"}
    assert abs(found["pairwise"]["position_bias"]["value"]) <= 0.1
    assert found["pointwise"]["kendall_tau"]["unparsed_wrong"]["value"] >= 0.6
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def _probes(out: Path, folder: Path) -> Path:
    held = out / "heldout"
    files = ("--input", held / "input.jsonl", "--labels", held / "labels.jsonl")
    words = ("--model", out / "critic", *files, "--output", folder, "--limit", 30, "--json")
    found = json.loads(_run("evaluate", "probe", *words, "--resamples", 50))
    pairs = {form: found[form]["pairs"] for form in ("plain", "swapped", "blank", "exchanged")}
    assert pairs["plain"]["accuracy"]["value"] >= 0.8
    assert pairs["swapped"]["moved"]["value"] <= 0.2
    for blind in ("blank", "exchanged"):  # at a loss: half, give or take three standard errors
        assert 0.2 <= pairs[blind]["accuracy"]["value"] <= 0.8
        assert pairs[blind]["moved"]["value"] > pairs["swapped"]["moved"]["value"]
    return folder / "probes.json"


def _leaderboard(out: Path, folder: Path) -> Path:
    """Each answerer beside the middle one, on the same questions about scans never seen.

    Of the shuffled questions the first are answered right, as many as the skill says; where two
    answerers claim the same they say it in the same words, so that only place can decide.
    """
    draw = random.Random(0)
    lines: list[dict[str, Any]] = []
    for n, scan in enumerate(draw.sample(make_digits(0).heldout, QUESTIONS)):
        question = ask("digit", draw)
        claims = question.truth(scan.digit), wrong_claim(question, scan.digit, draw)
        right, wrong = (word_answer(question, c, "terse", draw, heldout=True).text for c in claims)
        said = {m: right if n < skill * QUESTIONS else wrong for m, skill in SKILLS.items()}
        for name in said:
            if name != ANCHOR:
                sides = (ANCHOR, name) if n % 2 else (name, ANCHOR)
                answers = {f"response_{s}": said[m] for s, m in zip("ab", sides, strict=True)}
                where = {"image": str(out / "heldout" / "pictures" / scan.name)}
                common = {"id": f"{n}|{sides[0]}|{sides[1]}", "question": question.text}
                lines.append({**common, **where, **answers, "template": "critic-pairwise"})
    asked = write_json_lines(folder / "battles_input.jsonl", lines)
    results = folder / "battles_results.jsonl"
    _run("judge", "--model", out / "critic", "--input", asked, "--output", results)
    battles = []
    for _, result in read_json_lines(results):
        question_id, a, b = result["id"].split("|")
        battle = {"question_id": question_id, "model_a": a, "model_b": b}
        battles.append(battle | {"verdict": result.get("verdict")})
    file = write_json_lines(folder / "battles.jsonl", battles)
    words = ("--battles", file, "--anchor", ANCHOR, "--json", "--resamples", 200)
    text = _run("evaluate", "leaderboard", *words)
    rows = json.loads(text)["rows"]
    assert [row["model"] for row in rows] == sorted(SKILLS, key=lambda name: -SKILLS[name])
    assert all(row["votes"] == QUESTIONS for row in rows if row["model"] != ANCHOR)
    best, worst = rows[0], rows[-1]
    assert best["interval"][0] > 50 > worst["interval"][1]
    path = folder / "leaderboard.json"
    path.write_text(text)
    return path
