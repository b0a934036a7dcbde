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
from critic_jax.evaluation.agreement import agreement
from critic_jax.files import write_json_lines

README = Path(__file__).parents[2] / "README.md"


def critic_jax(*words: str, cwd: Path) -> None:
    command = [str(Path(sys.executable).with_name("critic-jax")), *words]
    subprocess.run(command, cwd=cwd, check=True, timeout=1500)


@pytest.mark.slow
def test_a_critic_from_scratch_judges_scans_it_has_never_seen(tmp_path: Path) -> None:
    critic_jax("demo", cwd=tmp_path)
    out = tmp_path / "runs/demo"
    summary = json.loads((out / "summary.json").read_text())
    assert summary["pairwise_accuracy"] >= 0.95
    assert summary["order_consistency"] >= 0.95
    assert summary["pointwise_pearson"] >= 0.90
    assert summary["unparsed_rate"] <= 0.01
    # Blind, or looking at the wrong picture, it does no better than a coin.
    assert 0.40 <= summary["blank_accuracy"] <= 0.60
    assert 0.40 <= summary["exchanged_accuracy"] <= 0.60
    # It reads scans that it has never seen.
    labels = [label for _, label in read_json_lines(out / "heldout/labels.jsonl")]
    digit_of = {label["id"]: label["digit"] for label in labels}
    results = [result for _, result in read_json_lines(out / "heldout/results.jsonl")]
    read = [f"shows a {digit_of[r['id']]}" in r["raw"] for r in results]
    assert sum(read) / len(read) >= 0.85
    assert "<html" in (out / "report.html").read_text()[:200]

    printed = re.findall(r"^critic-jax (.*runs/demo.*)$", README.read_text(), re.M)
    assert [words.split()[0] for words in printed] == ["judge", "report"]
    for words in printed:
        critic_jax(*shlex.split(words), cwd=tmp_path)
    again = [result for _, result in read_json_lines(tmp_path / "runs/again/results.jsonl")]
    for name, value in agreement(again, labels).items():
        assert value == pytest.approx(summary[name], abs=1e-9), name
    assert "<html" in (tmp_path / "runs/again/report.html").read_text()[:200]
    evaluates_itself(out)
    survives_a_storm(out)


def survives_a_storm(out: Path) -> None:
    """2,000 judge lines, killed with -9 five times: each id once, equal to an uninterrupted run.

    Part of the test above, so that the critic is trained once.
    """
    lines = [line for _, line in read_json_lines(out / "heldout/input.jsonl")]
    lines = [line | {"id": f"{line['id']}-{turn}"} for turn in range(3) for line in lines][:2000]
    source = write_json_lines(out / "heldout/storm.jsonl", lines)
    whole, output = out / "whole/results.jsonl", out / "storm/results.jsonl"
    words = ["judge", "--model", out / "critic", "--input", source, "--no-cache", "--output"]
    finish(start(*words, whole))
    partial = output.with_name("results.jsonl.partial")
    kill_while_it_writes([*words, output], [partial], kills=5, seed=0)
    found = [result for _, result in read_json_lines(output)]
    assert len(found) == 2000 and [r["id"] for r in found] == [line["id"] for line in lines]
    assert output.read_bytes() == whole.read_bytes()
    assert {path.name for path in output.parent.iterdir()} == {"results.jsonl", "summary.json"}
