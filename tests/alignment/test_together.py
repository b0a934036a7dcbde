"""Two processes share a round: its rollouts, its judging and its training."""

import json
from pathlib import Path
from typing import Any

import pytest
from together import run

from critic_jax.data import read_json_lines
from critic_jax.files import write_json_lines

SHARED = ("rollouts.jsonl", "judged/judgments.jsonl", "pairs.jsonl", "dropped.jsonl")


def read(path: Path) -> list[dict[str, Any]]:
    return [line for _, line in read_json_lines(path)]


@pytest.mark.slow
@pytest.mark.xdist_group("digits")
def test_two_processes_give_the_pairs_that_one_gives(
    digits_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A policy and a critic that know digits, so that verdicts are read and pairs come of them."""
    asked = digits_run / "policy/asked_for_critic/prompts.jsonl"
    lines = [line | {"image": str(asked.parent / line["image"])} for line in read(asked)[:40]]
    data = write_json_lines(tmp_path / "prompts.jsonl", lines)
    words: list[str | Path] = ["align", "digits_rounds", "--rounds", "1", "--data", data]
    words += ["--init", digits_run / "policy_0", "--judge", digits_run / "critic", "--output"]
    outputs = [tmp_path / name for name in ("alone", "together")]
    for processes, output in enumerate(outputs, 1):
        monkeypatch.setenv("CRITIC_JAX_CACHE", f"{output}-cache")  # neither knows the other's
        ended = run([[*words, output]], processes)
        assert [code for ((code, _, _),) in ended] == [0] * processes, ended
        # Said once.
        assert [out.count("\n") for ((_, out, _),) in ended] == [1, 0][:processes]
    alone, together = (output / "round_1" for output in outputs)
    for name in SHARED:
        assert (together / name).read_text() == (alone / name).read_text(), name
    assert len(read(alone / "pairs.jsonl")) > 8
    one, two = (json.loads((folder / "round.json").read_text()) for folder in (alone, together))
    for name in ("pairs", "dropped", "margin_mean", "judgments", "position_bias", "source"):
        assert one[name] == two[name], name
    # Training on two devices rounds otherwise, and on the same pairs.
    first, second = (read(folder / "dpo/metrics.jsonl") for folder in (alone, together))
    assert [line["step"] for line in first] == [line["step"] for line in second]
    for a, b in zip(first, second, strict=True):
        assert b["loss"] == pytest.approx(a["loss"], rel=1e-4)
        assert b["grad_norm"] == pytest.approx(a["grad_norm"], rel=1e-3)
