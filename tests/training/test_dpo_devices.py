"""A preference run shared by two devices of this machine, beside one on a single device."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from train_command import COMMAND

from critic_jax.checkpoints import load_checkpoint
from critic_jax.files import write_json_lines

CONFIG = """\
from critic_jax.training.config import DpoConfig

config = DpoConfig(
    init={start!r},
    data={data!r},
    output="set on the command line",
    global_batch=2,
    rows=2,
    row_tokens=64,
    row_tiles=0,
    epochs=2,
    learning_rate=1e-3,
    beta=0.5,
    dtype="float32",
    remat="none",
    save_every=99,
)
"""


def run(config: Path, output: Path, devices: int) -> list[dict[str, Any]]:
    """The lines of its metrics. The command is a process: JAX counts its devices once."""
    # Level 0 compiles in half the time. The scheduler may start more gathers than threads.
    flags = (
        f"--xla_force_host_platform_device_count={devices} --xla_backend_optimization_level=0"
        " --xla_cpu_enable_concurrency_optimized_scheduler=false"
    )
    done = subprocess.run(
        [sys.executable, "-c", COMMAND, "dpo", config, "--output", output],
        env=os.environ | {"XLA_FLAGS": flags, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        timeout=400,
    )
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in (output / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.slow
def test_two_devices_take_the_steps_of_one(start: Path, tmp_path: Path) -> None:
    said = [
        ("Say 1.", "One.", "Two."),
        ("Say 2.", "It is two.", "It is one."),
        ("No?", "No", "Yes."),
    ]
    lines = [
        {"id": f"p{n}", "prompt": prompt, "chosen": chosen, "rejected": rejected}
        for n, (prompt, chosen, rejected) in enumerate(said)
    ]
    data = write_json_lines(tmp_path / "pairs.jsonl", lines)
    config = tmp_path / "aligned.py"
    config.write_text(CONFIG.format(start=str(start), data=str(data)))
    one, two = (run(config, tmp_path / f"on_{count}", count) for count in (1, 2))
    assert len(one) == len(two) >= 2 and one[-1]["loss"] < one[0]["loss"]
    names = [name for name in one[0] if name.startswith(("loss", "rewards", "logps", "grad_norm"))]
    assert len(names) == 8
    for ours, expected in zip(two, one, strict=True):
        for name in names:
            assert ours[name] == pytest.approx(expected[name], rel=1e-4, abs=1e-4), name
    # The references too, and what was trained.
    references = [
        [json.loads(line)["reference_logprobs"] for line in path.read_text().splitlines()]
        for path in (tmp_path / "on_1" / "pairs.jsonl", tmp_path / "on_2" / "pairs.jsonl")
    ]
    for ours, expected in zip(*references, strict=True):
        assert ours["chosen"] == pytest.approx(expected["chosen"], rel=1e-5)
        assert ours["rejected"] == pytest.approx(expected["rejected"], rel=1e-5)
    scales = [
        np.asarray(load_checkpoint(tmp_path / name / "policy").params["decoder"]["norm"]["scale"])
        for name in ("on_1", "on_2")
    ]
    np.testing.assert_allclose(*scales, rtol=1e-4)
