"""The verb aot on a config of preference training: the step, and the pass over the reference."""

import json
import math
from pathlib import Path
from typing import Any

import jax
import pytest

from critic_jax.aot.programs import dpo_step, reference_pass
from critic_jax.aot.topology import topology
from critic_jax.cli import main
from critic_jax.models.config import tiny
from critic_jax.sharding import make_mesh
from critic_jax.training.config import DpoConfig, load_config


def shares(tree: Any) -> int:
    """Bytes of each device's part of the arrays."""
    return sum(
        math.prod(leaf.sharding.shard_shape(leaf.shape)) * leaf.dtype.itemsize
        for leaf in jax.tree.leaves(tree)
    )


@pytest.mark.slow
def test_both_steps_of_preference_training_compile(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "aligned.py"
    path.write_text(
        "from critic_jax.training.config import DpoConfig\n"
        "config = DpoConfig(init='runs/tiny', data='', output='', rows=2, row_tokens=256,\n"
        "    row_tiles=2, global_batch=4, fsdp=2, tensor=2)\n"
    )
    words = ["--topology", "v5e:2x2", "--model", "tiny", "--json"]
    assert main(["aot", str(path), *words]) == 0
    steps = json.loads(capsys.readouterr().out)["steps"]
    assert set(steps) == {"dpo", "reference"}
    config = load_config(str(path), [], DpoConfig)
    mesh = make_mesh(1, 2, 2, topology("v5e:2x2").devices)
    for name, make in (("dpo", dpo_step), ("reference", reference_pass)):
        step = steps[name]
        assert step["fits"] and step["tokens_per_chip"] == 128
        # Small arrays are padded to the chip's tiles.
        held = shares(make(config, tiny(), mesh).arguments)
        assert held <= step["argument_bytes"] < 4 * held
    # The reference has no moments, and no backward pass.
    assert steps["reference"]["argument_bytes"] < 0.5 * steps["dpo"]["argument_bytes"]
    assert steps["reference"]["peak_bytes"] < steps["dpo"]["peak_bytes"]
    assert 0 < 2.5 * steps["reference"]["flops"] < steps["dpo"]["flops"]
