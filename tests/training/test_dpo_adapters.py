"""The preference step with adapters: beside the whole model's gradients, and as a run."""

import json
from functools import cache
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from PIL import Image
from tiny_critic import tiny_checkpoint
from tree_helpers import gradients_close

from critic_jax.checkpoints import load_checkpoint
from critic_jax.cli import main
from critic_jax.data.encode import Encoder
from critic_jax.data.pair_rows import PairRows
from critic_jax.data.pairs import Reference, read_pairs
from critic_jax.data.plan import Budget
from critic_jax.files import write_json_lines
from critic_jax.models.build import Params, get_in, set_in
from critic_jax.models.lora import Lora
from critic_jax.models.nf4 import dense
from critic_jax.sharding import make_mesh
from critic_jax.training.dpo import DpoLoss, make_dpo_step, make_total
from critic_jax.training.sft import StepOptions
from critic_jax.training.state import fresh_state
from critic_jax.training.tuning import Tuning, joined

FLOAT32 = jnp.dtype(jnp.float32)
# Answers that begin alike, one of several, and one without a picture.
SAID = (
    ("0.png", "Which digit?", "It is a 7, I think.", "It is a 1."),
    ("0.png", "Why?", "It has a bar.", "No."),
    (None, "Which is better?", "The first", "The first one is."),
)
LORA = Lora(4, 8.0, ("decoder.[qo]", "decoder.down"))
LOSS = DpoLoss(beta=0.2, label_smoothing=0.1, gamma=0.5)
RATE = 0.1
QUICK = {"xla_backend_optimization_level": 0}
"""For programs that run once: they compile in half the time."""


def write_pairs(folder: Path) -> Path:
    Image.linear_gradient("L").convert("RGB").resize((16, 16)).save(folder / "0.png")
    lines = []
    for number, (image, prompt, chosen, rejected) in enumerate(SAID):
        line = {"id": f"p{number}", "prompt": prompt, "chosen": chosen, "rejected": rejected}
        lines.append(line | ({"image": image} if image else {}))
    return write_json_lines(folder / "pairs.jsonl", lines)


def leaves(params: Params) -> dict[tuple[str, ...], np.ndarray]:
    return {
        tuple(key.key for key in path): np.asarray(leaf)
        for path, leaf in jax.tree_util.tree_leaves_with_path(params)
    }


def make_batch(folder: Path) -> dict[str, Any]:
    """All pairs in a row, held against numbers that make their losses differ."""
    checkpoint = tiny_checkpoint()
    encoder = Encoder(checkpoint.tokenizer, checkpoint.geometry, "answer")
    rows = PairRows(read_pairs(write_pairs(folder)), encoder, Budget(3, 1, 256, 2), 1, 0)
    rows.references = [Reference(-30.0 - n, -35.0 + n) for n in range(3)]
    assert len(rows) == 1
    return rows[0]


@cache
def whole_step() -> Any:
    """(loss, sums, gradients by the kernels with adapters) of a whole model, summed over pairs."""
    total = make_total(tiny_checkpoint().config, FLOAT32, LOSS, StepOptions())
    by_kernels = jax.value_and_grad(
        lambda k, rest, batch: total(joined(k, rest), batch), has_aux=True
    )
    return jax.jit(by_kernels, compiler_options=QUICK)


def flattened(adapter: Params) -> tuple[np.ndarray, np.ndarray]:
    """An adapter as matrices: a [L, in, rank], b [L, rank, out]."""
    a, b = np.asarray(adapter["a"]), np.asarray(adapter["b"])
    return a.reshape(len(a), -1, LORA.rank), b.reshape(len(b), LORA.rank, -1)


@pytest.mark.slow
@pytest.mark.parametrize("quantized", [False, True])
def test_adapters_move_along_the_gradient_of_the_kernels_they_are_on(
    quantized: bool, tmp_path: Path
) -> None:
    """Of y = x (W + s a b), with G the loss's gradient by the sum: s G b' by a, s a' G by b."""
    checkpoint, batch = tiny_checkpoint(), make_batch(tmp_path)
    tuning = Tuning(0.0, 0.0, 0.0, LORA, quantized)
    start = {path: value.copy() for path, value in leaves(checkpoint.params).items()}
    tx = optax.sgd(RATE)
    state = fresh_state(
        jax.tree.map(jnp.asarray, checkpoint.params), checkpoint.config, tx, make_mesh(), tuning
    )
    # b starts at zero, which would hide the gradient of a.
    dice = np.random.default_rng(1)
    state["params"] = jax.tree.map(
        lambda v: v + 0.05 * dice.normal(size=v.shape).astype(np.float32), state["params"]
    )
    before = jax.tree.map(np.array, state["params"])
    frozen = [np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(state["frozen"])]

    # The whole model with the adapters merged into its kernels.
    merged: Params = {}
    adapted = []
    for path, value in start.items():
        if quantized and path[:2] == ("decoder", "layers") and path[-1] == "kernel":
            held = get_in(state["frozen"], path)
            value = np.asarray(dense(held, FLOAT32))
            assert np.abs(value - start[path]).max() > 1e-3
        if path[-1] == "kernel" and LORA.adapts(path[:-1]):
            a, b = flattened(get_in(before, (*path[:-1], "adapter")))
            value = value + LORA.scale * (a @ b).reshape(value.shape)
            adapted.append(path)
        set_in(merged, path, value)
    assert len(adapted) == 3
    kernels: Params = {}
    rest: Params = {}
    for path, value in leaves(merged).items():
        set_in(kernels if path in adapted else rest, path, value)
    (loss, sums), gradients = whole_step()(kernels, rest, batch)

    step = make_dpo_step(checkpoint.config, FLOAT32, tx, LOSS, StepOptions(lora=LORA))
    after, metrics = step.lower(state, batch).compile(compiler_options=QUICK)(state, batch)
    pairs = float(batch["records"])
    assert float(metrics["loss"]) == pytest.approx(float(loss) / pairs, rel=1e-5)
    for name, value in sums.items():
        assert float(metrics[name]) == pytest.approx(float(value) / pairs, rel=1e-5), name
    assert [np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(after["frozen"])] == frozen

    expected: Params = {}
    for path in adapted:
        place = (*path[:-1], "adapter")
        a, b = flattened(get_in(before, place))
        gradient = np.asarray(get_in(gradients, path)).reshape(len(a), a.shape[1], b.shape[2])
        by_a = LORA.scale * gradient @ b.swapaxes(1, 2) / pairs
        by_b = LORA.scale * a.swapaxes(1, 2) @ gradient / pairs
        for name, by in (("a", by_a), ("b", by_b)):
            shape = get_in(before, (*place, name)).shape
            set_in(expected, (*place, name), jnp.asarray(by.reshape(shape)))
    found = jax.tree.map(
        lambda x, y: jnp.asarray((x - np.asarray(y)) / RATE), before, after["params"]
    )
    gradients_close(found, expected, 1e-5)
    norm = float(optax.tree.norm(expected))
    assert float(metrics["grad_norm"]) == pytest.approx(norm, rel=1e-5)


CONFIG = """\
from critic_jax.training.config import DpoConfig

config = DpoConfig(
    init={start!r},
    data={data!r},
    output="set on the command line",
    global_batch=3,
    rows=1,
    row_tokens=256,
    row_tiles=2,
    epochs=8,
    learning_rate=1e-2,
    beta=0.5,
    dtype="float32",
    save_every=99,
    remat="none",
    adapters="qlora",
    lora_rank=4,
    lora_alpha=8.0,
)
"""


@pytest.mark.slow
def test_a_run_on_four_bits_learns_the_pairs_and_its_reference_is_its_start(
    start: Path, tmp_path: Path
) -> None:
    path, output = tmp_path / "aligned.py", tmp_path / "run"
    path.write_text(CONFIG.format(start=str(start), data=str(write_pairs(tmp_path))))
    assert main(["dpo", str(path), "--output", str(output)]) == 0
    lines = [json.loads(line) for line in (output / "metrics.jsonl").read_text().splitlines()]
    # The reference has the same four bits as the policy: no reward before the first step.
    assert lines[0]["loss"] == pytest.approx(np.log(2), abs=1e-4)
    assert abs(lines[0]["rewards/margins"]) < 1e-3
    assert lines[-1]["rewards/accuracies"] == 1 and lines[-1]["loss"] < 0.5 * lines[0]["loss"]
    before, after = (
        leaves(load_checkpoint(start).params),
        leaves(load_checkpoint(output / "policy").params),
    )
    for place, value in before.items():
        in_layers = place[:2] == ("decoder", "layers") and place[-1] == "kernel"
        assert np.array_equal(value, after[place]) != in_layers, place
    assert (output / "adapters" / "adapter_model.safetensors").is_file()
