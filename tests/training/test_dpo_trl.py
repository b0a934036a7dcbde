"""The preference step beside TRL's DPOTrainer, whose words golden/trl_dpo.py has written down."""

import json
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from tiny_critic import random_params, tiny_tokenizer
from tree_helpers import PATCHES, TILE

from critic_jax.data.pair_rows import pair_arrays
from critic_jax.data.pairs import Reference
from critic_jax.models.config import tiny
from critic_jax.training.dpo import DpoLoss, dpo_loss, make_dpo_step, make_reference
from critic_jax.training.sft import StepOptions
from critic_jax.tree import Path as TreePath
from critic_jax.tree import pack

GOLDEN = json.loads((Path(__file__).parent / "golden/trl_dpo.json").read_text())
CONFIG, FLOAT32 = tiny(tiny_tokenizer().vocab_size), jnp.dtype(jnp.float32)


def answers(pair: dict[str, list[int]]) -> list[TreePath]:
    """The two answers behind their prompt, every token of them supervised."""
    prompt = pair["prompt_ids"]
    return [
        TreePath(
            np.asarray(prompt + pair[name], np.int32),
            np.float32([0] * len(prompt) + [1] * len(pair[name])),
        )
        for name in ("chosen_ids", "rejected_ids")
    ]


def batch_of(pairs: list[dict[str, list[int]]], references: list[Reference]) -> dict[str, Any]:
    """One row; each pair is a tree."""
    paths = [path for pair in pairs for path in answers(pair)]
    groups = [[2 * n, 2 * n + 1] for n in range(len(pairs))]
    row = pack(paths, groups, 64, 0, TILE, PATCHES)
    arrays = pair_arrays(row, paths, references, 3)
    return {name: value[None] for name, value in arrays.items()} | {
        "records": np.float32(len(pairs))
    }


@pytest.fixture(scope="module")
def said() -> dict[str, np.ndarray]:
    """What policy and reference say of every pair: [pairs, 2]."""
    forward, batch = make_reference(CONFIG, FLOAT32, StepOptions()), batch_of(GOLDEN["pairs"], [])
    return {
        name: np.asarray(forward(random_params(CONFIG, seed), batch))[0]
        for name, seed in GOLDEN["seeds"].items()
    }


def loss_told(told: dict[str, Any]) -> DpoLoss:
    """TRL's settings as ours."""
    (name, *sft) = told["loss_type"]
    weights = told.get("loss_weights", [1.0, 0.0])
    return DpoLoss(
        loss="ipo" if name == "ipo" else "sigmoid",
        beta=GOLDEN["beta"],
        label_smoothing=told.get("label_smoothing", 0.0),
        alpha=weights[0],
        gamma=weights[1] if sft else 0.0,
    )


def check(found: dict[str, Any], expected: dict[str, float]) -> None:
    for number, value in found.items():
        assert float(value) == pytest.approx(expected[number], rel=1e-5, abs=1e-5), number


@pytest.mark.parametrize("name", GOLDEN["cases"])
def test_losses_and_rewards_are_those_of_trl(name: str, said: dict[str, np.ndarray]) -> None:
    case = GOLDEN["cases"][name]
    told, which = loss_told(case["told"]), case["pairs"]
    chosen, rejected = said["policy"][which].T
    lengths = [
        jnp.float32([len(GOLDEN["pairs"][n][answer]) for n in which])
        for answer in ("chosen_ids", "rejected_ids")
    ]
    losses, *rewards = dpo_loss(
        *(jnp.asarray(each) for each in (chosen, rejected, *said["reference"][which].T)),
        beta=told.beta,
        loss=told.loss,
        label_smoothing=told.label_smoothing,
        chosen_tokens=lengths[0],
        rejected_tokens=lengths[1],
    )
    found = {
        "loss": told.alpha * losses - told.gamma * chosen / lengths[0],
        "rewards/chosen": rewards[0],
        "rewards/rejected": rewards[1],
        "rewards/margins": rewards[0] - rewards[1],
        "rewards/accuracies": rewards[0] > rewards[1],
        "logps/chosen": chosen,
        "logps/rejected": rejected,
    }
    check({number: np.mean(value) for number, value in found.items()}, case["found"])


SLOW = [pytest.param(name, marks=pytest.mark.slow) for name in list(GOLDEN["cases"])[1:]]


@pytest.mark.parametrize("name", ["sigmoid", *SLOW])
def test_a_step_says_what_trl_says(name: str, said: dict[str, np.ndarray]) -> None:
    """The norm of the gradient too."""
    case = GOLDEN["cases"][name]
    pairs = [GOLDEN["pairs"][n] for n in case["pairs"]]
    references = [Reference(*map(float, said["reference"][n])) for n in case["pairs"]]
    batch = batch_of(pairs, references)
    params = jax.tree.map(jnp.asarray, random_params(CONFIG, GOLDEN["seeds"]["policy"]))
    tx = optax.sgd(0.0)
    state = {"params": params, "opt_state": tx.init(params), "step": jnp.int32(0)}
    step = make_dpo_step(CONFIG, FLOAT32, tx, loss_told(case["told"]), StepOptions())
    # Run once: it compiles in half the time so.
    quick = step.lower(state, batch).compile(compiler_options={"xla_backend_optimization_level": 0})
    metrics = quick(state, batch)[1]
    check({number: metrics[number] for number in case["found"]}, case["found"])
