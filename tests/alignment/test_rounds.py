"""Whole runs of rounds, in this process."""

from __future__ import annotations

from pathlib import Path

from critic_jax.cli import main


def test_try(config: Path, tmp_path: Path) -> None:
    assert main(["align", str(config), "--output", str(tmp_path / "run")]) == 0
    import subprocess

    print(
        subprocess.run(
            ["find", tmp_path / "run", "-maxdepth", "3"], capture_output=True, text=True
        ).stdout
    )
    print((tmp_path / "run/round_2/round.json").read_text())
    for p in (
        "round_1/pairs.jsonl",
        "round_1/dropped.jsonl",
        "round_2/compared.jsonl",
        "summary.json",
    ):
        print((tmp_path / "run" / p).read_text())
    (Path("/tmp/team/tmp/rep.html")).write_text((tmp_path / "run/report.html").read_text())
