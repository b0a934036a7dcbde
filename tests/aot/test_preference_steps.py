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
from critic_jax.models.config import onevision_7b, onevision_72b, tiny
from critic_jax.sampling.replicas import fewest, group
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


@pytest.mark.slow
def test_a_round_samples_and_judges_on_replicas(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A small model takes a chip of its own; training takes all four."""
    path = tmp_path / "rounds.py"
    path.write_text(
        "from critic_jax.training.config import AlignConfig\n"
        "config = AlignConfig(init='runs/tiny', data='', output='', rows=2, row_tokens=256,\n"
        "    row_tiles=2, global_batch=4, fsdp=2, tensor=2, max_new_tokens=32)\n"
    )
    assert main(["aot", str(path), "--topology", "v5e:2x2", "--model", "tiny", "--json"]) == 0
    steps = json.loads(capsys.readouterr().out)["steps"]
    sampling = [
        f"{stage}_{step}" for stage in ("rollout", "judging") for step in ("prefill", "decode")
    ]
    assert list(steps) == [*sampling, "reference", "dpo"]
    assert all(step["fits"] for step in steps.values())
    assert [steps[name]["chips"] for name in steps] == [1, 1, 1, 1, 4, 4]
    assert steps["rollout_prefill"]["tokens_per_chip"] == 16_384
    assert steps["rollout_decode"]["tokens_per_chip"] == steps["judging_decode"]["tokens_per_chip"]
    # The judge has room for longer answers beside the same prompts.
    assert steps["judging_decode"]["peak_bytes"] > steps["rollout_decode"]["peak_bytes"]
    # On one chip nothing is sent.
    assert not any(steps["rollout_decode"]["collective_bytes"].values())


@pytest.mark.parametrize("name, chips", [("v5e:2x4", 4), ("v5e:4x8", 1), ("v5p:4x4x4", 4)])
def test_chips_of_a_host_that_may_run_a_program_of_their_own(name: str, chips: int) -> None:
    everyone = topology(name).devices
    own = [device for device in everyone if device.process_index == 0]
    assert len(own) == 4 and group(own, everyone) == chips


def test_the_fewest_chips_that_hold_a_model() -> None:
    """The 7B's 16.06 GB in bfloat16: two chips of 16 GiB, one of 32 GiB."""
    bfloat16, gib = jax.numpy.dtype("bfloat16"), 2**30
    seven, large = onevision_7b(), onevision_72b()
    assert fewest(seven, bfloat16, 4, 16 * gib) == 2
    assert fewest(seven, bfloat16, 4, 32 * gib) == 1
    # 146.4 GB: more than four chips of 32 GiB have; of eight, 60 % hold it.
    assert fewest(large, bfloat16, 4, 32 * gib) == 0
    assert fewest(large, bfloat16, 8, 32 * gib) == 8
