"""Runs that train adapters, or some parts alone: what changes, what is left behind."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from safetensors.numpy import load_file
from tiny_critic import tiny_checkpoint

from critic_jax.checkpoints import load_checkpoint, save_checkpoint
from critic_jax.checkpoints.adapters import adapted
from critic_jax.checkpoints.blocks import shapes
from critic_jax.cli import main
from critic_jax.models.build import Params, assemble, set_in
from critic_jax.models.llava import Llava
from critic_jax.models.lora import Lora
from critic_jax.models.nf4 import dense, quantize
from critic_jax.sharding import make_mesh
from critic_jax.training.config import load_config
from critic_jax.training.optimizer import optimizer
from critic_jax.training.result import write_result
from critic_jax.training.run_folder import RunFolder
from critic_jax.training.state import fresh_state, saved, state_shapes, whole
from critic_jax.training.tuning import Tuning, joined, tuning_of

Data = Callable[..., Path]
LORA = Lora(4, 8.0, ("decoder.[qo]", "decoder.down", "tower.fc?"))


def flat(params: Params) -> dict[tuple[str, ...], np.ndarray]:
    return {
        tuple(key.key for key in path): np.asarray(leaf)
        for path, leaf in jax.tree_util.tree_leaves_with_path(params)
    }


def adapters_of(folder: Path, config: Any) -> Params:
    """The adapters of a peft folder, by the paths that our model has them at."""
    tensors = load_file(folder / "adapter_model.safetensors")
    found: Params = {}
    for weight in adapted(config, LORA):
        layout = {"decoder": "model.language_model.", "tower": "model.vision_tower."}
        names = [key.removesuffix(".weight") for key in weight.keys(layout)]
        kernel = shapes(config)[weight.path]
        inputs, outputs = kernel[1 : 1 + weight.inputs], kernel[1 + weight.inputs :]
        for ours, theirs, shape in (
            ("a", "lora_A", (*inputs, LORA.rank)),
            ("b", "lora_B", (LORA.rank, *outputs)),
        ):
            each = [tensors.pop(f"base_model.model.{n}.{theirs}.weight") for n in names]
            stacked = np.stack([e.T.reshape(shape) for e in each])
            set_in(found, (*weight.path[:-1], "adapter", ours), stacked)
    assert not tensors
    return found


def logits(model: Llava) -> np.ndarray:
    """Of a row with a picture."""
    rng = np.random.default_rng(0)
    batch = {
        "tokens": rng.integers(0, 700, (1, 24)).astype(np.int32),
        "tiles": rng.integers(0, 256, (1, 1, 16, 16, 3), np.uint8),
        "tap_index": rng.integers(0, 17, (1, 24, 4)).astype(np.int32),
        "tap_weight": np.where(np.arange(24)[None, :, None] < 12, 0.25, 0).repeat(4, 2),
        "position": np.arange(24, dtype=np.int32)[None],
        "visible_until": np.full((1, 24), 24, np.int32),
    }
    batch["tap_weight"] = batch["tap_weight"].astype(np.float32)
    return np.asarray(nnx.jit(lambda model: model.logits(model(batch)[0]))(model))


def test_a_run_changes_adapters_and_what_is_unfrozen_and_nothing_else(
    config_file: Path, data: Data, tmp_path: Path, capsys: Any
) -> None:
    output = tmp_path / "run"
    place = tmp_path / "start"
    shutil.copytree(config_file.with_name("start"), place)
    words = ["train", str(config_file), "--data", str(data()), "--output", str(output)]
    words += [
        "--init",
        str(place),
        "--adapters",
        "qlora",
        "--lora-rank",
        "4",
        "--lora-alpha",
        "8",
        "--lora-layers",
    ]
    words += [*LORA.layers, "--projector-rate", "0.5", "--moments", "bfloat16"]
    words += ["--remat", "block", "--accumulate", "2"]
    assert main(words) == 0
    lines = [json.loads(line) for line in (output / "metrics.jsonl").read_text().splitlines()]
    assert lines[-1]["loss"] < 0.95 * lines[0]["loss"]

    start = load_checkpoint(config_file.with_name("start"))
    critic = load_checkpoint(output / "critic")
    before, after = flat(start.params), flat(critic.params)
    kernels = {weight.path for weight in adapted(start.config, LORA)}
    assert len(kernels) == 5
    in_four = {path for path in before if "layers" in path and path[-1] == "kernel"}
    in_four = {path for path in in_four if path[0] == "decoder"}
    for path, value in before.items():
        changes = path in kernels | in_four or path[0] in ("projector", "newline")
        assert np.array_equal(value, after[path]) != changes, path

    # The folder of adapters, on what was trained, answers as the merged model does.
    base: Params = {}
    for path, value in after.items():
        unmerged = before[path] if path in kernels | in_four else value
        set_in(base, path, in_four_bits(path, unmerged) if path in in_four else unmerged)
    adapters = adapters_of(output / "adapters", start.config)
    expected = logits(assemble(start.config, joined(base, adapters), lora=LORA))
    found = logits(assemble(start.config, critic.params))
    untrained = logits(assemble(start.config, start.params))
    assert np.abs(found - expected).max() <= 1e-5 * np.abs(expected).max()
    assert np.abs(found - untrained).max() > 1e-2 * np.abs(expected).max()

    # Of a finished run the same command reads the state back and writes the same critic.
    fingerprint = critic.fingerprint()
    assert main(words) == 0
    assert load_checkpoint(output / "critic").fingerprint() == fingerprint
    # It does not go on from another start.
    save_checkpoint(place, tiny_checkpoint(seed=1))
    assert main(words) == 2
    said = f"{place}: is not the model that {output} was begun with"
    assert said in capsys.readouterr().err
    # Two states of what is trained and its moments, and nothing of what is frozen.
    written = sum(f.stat().st_size for f in (output / "state").rglob("*") if f.is_file())
    trained = sum(
        v.size for v in flat({**adapters, "projector": start.params["projector"]}).values()
    )
    everything = sum(value.size for value in before.values())
    assert written < 2 * 3 * 4 * trained + 200_000 < 2 * 3 * 4 * everything


def test_merged_adapters_answer_as_adapters_do(start: Path, tmp_path: Path) -> None:
    begun, mesh, tuning = load_checkpoint(start), make_mesh(), Tuning(0.0, 0.0, 0.0, LORA)
    params, begun.params = begun.params, {}
    state = fresh_state(params, begun.config, optax.sgd(0.1), mesh, tuning)
    rng = np.random.default_rng(0)
    state["params"] = jax.tree.map(
        lambda v: v + 0.1 * rng.normal(size=v.shape).astype(np.float32), state["params"]
    )
    expected = logits(assemble(begun.config, whole(state), lora=LORA))
    write_result(RunFolder.of(tmp_path), str(start), begun, state, tuning, mesh, {"name": "merged"})
    critic = load_checkpoint(tmp_path / "critic")
    found = logits(assemble(critic.config, critic.params))
    assert np.abs(found - expected).max() <= 1e-5 * np.abs(expected).max()
    untrained = load_checkpoint(start)
    for path, value in flat(untrained.params).items():
        changes = LORA.adapts(path[:-1]) and path[-1] == "kernel"
        assert np.array_equal(value, flat(critic.params)[path]) != changes, path
    settings = json.loads((tmp_path / "adapters/adapter_config.json").read_text())
    assert (settings["r"], settings["lora_alpha"], settings["peft_type"]) == (4, 8.0, "LORA")
    assert settings["base_model_name_or_path"] == str(start)
    ours = adapters_of(tmp_path / "adapters", critic.config)
    assert all(jax.tree.leaves(jax.tree.map(np.array_equal, ours, state["params"])))


def test_a_frozen_part_has_no_gradient_no_moments_and_no_float32(start: Path) -> None:
    words = ["--tower-rate", "0", "--dtype", "bfloat16"]
    config = replace(load_config("digits_critic", words), weight_decay=0.1)
    tuning, tx, begun = tuning_of(config), optimizer(config, 6), load_checkpoint(start)
    shapes = state_shapes(begun.config, tx, make_mesh(), tuning)
    assert set(shapes["params"]) == {"decoder", "projector", "newline"}
    assert {leaf.dtype for leaf in jax.tree.leaves(shapes["frozen"])} == {jnp.dtype("bfloat16")}
    sizes = [leaf.size for leaf in jax.tree.leaves(shapes["opt_state"])]
    trained = sum(leaf.size for leaf in jax.tree.leaves(shapes["params"]))
    assert sum(sizes) == 2 * trained + 2  # two moments, two counts of steps
    before = begun.params["tower"]["patch"]["kernel"].astype(jnp.bfloat16)
    state = fresh_state(begun.params, begun.config, tx, make_mesh(), tuning)
    assert np.array_equal(state["frozen"]["tower"]["patch"]["kernel"], before)
    described = (jax.tree.map(lambda v: (v.shape, v.dtype), s) for s in (shapes, state))
    assert next(described) == next(described)
    assert set(saved(state)) == {"params", "opt_state", "step"}


def in_four_bits(path: tuple[str, ...], value: np.ndarray) -> np.ndarray:
    tail = {"down": ("ffn", "embed"), "o": ("heads", "head_dim", "embed")}
    middle = {"gate": ("embed", "ffn"), "up": ("embed", "ffn")}
    axes = tail.get(path[2]) or middle.get(path[2]) or ("embed", "heads", "head_dim")
    held = quantize(jnp.asarray(value), ("layers", *axes), jnp.dtype(jnp.float32))
    return np.asarray(dense(held, jnp.dtype(jnp.float32)))


def check_meshes(ways: str) -> int:
    """How many meshes a step was the same on."""
    done = subprocess.run(
        [sys.executable, Path(__file__).parents[1] / "adapter_meshes.py", ways],
        env={**os.environ, "JAX_PLATFORMS": "cpu", "JAX_DEFAULT_MATMUL_PRECISION": "highest"},
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert found.pop("one")["loss"] > 1
    for way, far in found.items():
        assert far["loss"] < 1e-6 and far["gradient"] < 1e-5 and far["params"] < 1e-6, way
        assert far["same"], way
    return len(found)


def test_a_step_of_adapters_is_the_same_however_it_is_shared() -> None:
    assert check_meshes("few") == 1


@pytest.mark.slow
def test_a_step_of_adapters_is_the_same_on_every_other_mesh() -> None:
    assert check_meshes("others") == 2
