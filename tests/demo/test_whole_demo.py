"""The whole demo through its command, and its numbers again through the README's commands."""

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from digits_evaluation import evaluates_itself
from killed import finish, kill_while_it_writes, start

from critic_jax.data import read_json_lines
from critic_jax.demo.policy import answers_right
from critic_jax.evaluation.agreement import agreement
from critic_jax.files import write_json_lines

README = Path(__file__).parents[2] / "README.md"
DEMO = README.parent / "docs" / "demo.md"

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("digits")]


def critic_jax(*words: str, cwd: Path) -> None:
    command = [str(Path(sys.executable).with_name("critic-jax")), *words]
    subprocess.run(command, cwd=cwd, check=True, timeout=1500)


def test_a_critic_from_scratch_judges_scans_it_has_never_seen(digits_run: Path) -> None:
    summary = json.loads((digits_run / "summary.json").read_text())
    assert summary["pairwise_accuracy"] >= 0.95
    assert summary["order_consistency"] >= 0.95
    assert summary["pointwise_pearson"] >= 0.90
    assert summary["unparsed_rate"] <= 0.01
    # Blind, or looking at the wrong picture, it does no better than a coin.
    assert 0.40 <= summary["blank_accuracy"] <= 0.60
    assert 0.40 <= summary["exchanged_accuracy"] <= 0.60
    # It reads scans that it has never seen.
    labels = [label for _, label in read_json_lines(digits_run / "heldout/labels.jsonl")]
    digit_of = {label["id"]: label["digit"] for label in labels}
    results = [result for _, result in read_json_lines(digits_run / "heldout/results.jsonl")]
    read = [f"shows a {digit_of[r['id']]}" in r["raw"] for r in results]
    assert sum(read) / len(read) >= 0.85
    assert "<html" in (digits_run / "report.html").read_text()[:200]

    printed = re.findall(r"^critic-jax (.*runs/demo.*)$", README.read_text(), re.M)
    assert [words.split()[0] for words in printed] == ["judge", "report"]
    for words in printed:
        critic_jax(*shlex.split(words), cwd=digits_run.parents[1])
    again = [result for _, result in read_json_lines(digits_run.parent / "again/results.jsonl")]
    for name, value in agreement(again, labels).items():
        assert value == pytest.approx(summary[name], abs=1e-9), name
    assert "<html" in (digits_run.parent / "again/report.html").read_text()[:200]


def test_a_policy_learns_from_the_critic(digits_run: Path) -> None:
    summary = json.loads((digits_run / "summary.json").read_text())
    greedy, sampled = summary["policy_accuracy"], summary["policy_sample_accuracy"]
    assert len(greedy) == len(sampled) == 4
    assert greedy[-1] >= greedy[0] + 0.20
    assert sampled[-1] >= sampled[0] + 0.10
    # 300 answers each: the difference of two shares has a standard deviation of at most 0.041.
    assert summary["policy_accuracy_shuffled_critic"] <= greedy[0] + 2 * 0.041
    # Ten digits, as often each: on white paper one answer a question is right for a tenth of them.
    assert abs(summary["policy_accuracy_blank"] - 0.1) <= 3 * 0.018
    # The likeliest answers are given again, by the model that is left and by one answer a scan.
    shown = [line for _, line in read_json_lines(digits_run / "policy/heldout/digits.jsonl")]
    printed = re.findall(r"^critic-jax (generate .*policy_.*)$", DEMO.read_text(), re.M)
    assert len(printed) == 2
    for words, accuracy in zip(printed, (greedy[0], greedy[-1]), strict=True):
        critic_jax(*shlex.split(words), cwd=digits_run.parents[1])
        output = digits_run.parents[1] / words.split()[-1]
        lines = [line for _, line in read_json_lines(output)]
        assert len(lines) == 300 and answers_right(lines, shown) == accuracy
    assert "A policy learns from the critic" in (digits_run / "report.html").read_text()
    assert (digits_run / "rounds/report.html").exists()


def test_a_critic_in_eight_bits_gives_the_same_verdicts(digits_run: Path) -> None:
    source, output = digits_run / "heldout/input.jsonl", digits_run / "int8/results.jsonl"
    words = ["--model", digits_run / "critic", "--input", source, "--output", output]
    critic_jax("judge", *map(str, words), "--order", "both", "--weights", "int8", cwd=digits_run)
    full = [result for _, result in read_json_lines(digits_run / "heldout/results.jsonl")]
    small = [result for _, result in read_json_lines(output)]
    same = [
        [one.get(name) for name in ("id", "order", "state", "verdict", "score")]
        == [other.get(name) for name in ("id", "order", "state", "verdict", "score")]
        for one, other in zip(full, small, strict=True)
    ]
    assert sum(same) / len(same) >= 0.99
    assert small[0]["fingerprint"] != full[0]["fingerprint"]


def test_agreement_probes_and_a_leaderboard_of_known_skill(digits_run: Path) -> None:
    evaluates_itself(digits_run)


def test_2000_lines_killed_five_times_equal_an_uninterrupted_run(digits_run: Path) -> None:
    lines = [line for _, line in read_json_lines(digits_run / "heldout/input.jsonl")]
    lines = [line | {"id": f"{line['id']}-{turn}"} for turn in range(3) for line in lines][:2000]
    source = write_json_lines(digits_run / "heldout/storm.jsonl", lines)
    whole, output = digits_run / "whole/results.jsonl", digits_run / "storm/results.jsonl"
    words = ["judge", "--model", digits_run / "critic", "--input", source, "--no-cache", "--output"]
    finish(start(*words, whole, quick=False))
    partial = output.with_name("results.jsonl.partial")
    kill_while_it_writes([*words, output], [partial], kills=5, seed=0, quick=False)
    found = [result for _, result in read_json_lines(output)]
    assert len(found) == 2000 and [r["id"] for r in found] == [line["id"] for line in lines]
    assert output.read_bytes() == whole.read_bytes()
    assert {path.name for path in output.parent.iterdir()} == {"results.jsonl", "summary.json"}
