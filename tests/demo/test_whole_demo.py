"""The whole demo through its command, and its numbers again through `critic-jax judge`."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from critic_jax.data import read_json_lines
from critic_jax.evaluation.agreement import agreement


def critic_jax(*words: str, cwd: Path) -> None:
    command = [str(Path(sys.executable).with_name("critic-jax")), *words]
    subprocess.run(command, cwd=cwd, check=True, timeout=1500)


@pytest.mark.slow
def test_a_critic_from_scratch_judges_scans_it_has_never_seen(tmp_path: Path) -> None:
    critic_jax("demo", "--out", "demo", cwd=tmp_path)
    out = tmp_path / "demo"
    summary = json.loads((out / "summary.json").read_text())
    assert summary["pairwise_accuracy"] >= 0.95
    assert summary["order_consistency"] >= 0.95
    assert summary["pointwise_pearson"] >= 0.90
    assert summary["unparsed_rate"] <= 0.01
    # Blind, or looking at the wrong picture, it does no better than a coin.
    assert 0.40 <= summary["blank_accuracy"] <= 0.60
    assert 0.40 <= summary["exchanged_accuracy"] <= 0.60
    assert "<html" in (out / "report.html").read_text()[:200]

    words = ("judge", "--model", "demo/critic", "--input", "demo/heldout/input.jsonl")
    labels = {label["id"]: label for _, label in read_json_lines(out / "heldout" / "labels.jsonl")}
    critic_jax(*words, "--output", "again/results.jsonl", "--order", "both", cwd=tmp_path)
    again = [result for _, result in read_json_lines(tmp_path / "again" / "results.jsonl")]
    for name, value in agreement(again, list(labels.values())).items():
        assert value == pytest.approx(summary[name], abs=1e-9), name
