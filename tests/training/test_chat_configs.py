"""The recipes of LLaVA-OneVision-Chat: what is stated, what is ours, and the slices they fit."""

import re
from dataclasses import fields
from pathlib import Path

import pytest
from jax.sharding import AbstractMesh

from critic_jax.models.build import abstract
from critic_jax.models.config import PRESETS
from critic_jax.sharding import MESH_AXES, param_shardings
from critic_jax.training.config import AlignConfig, DpoConfig, load_config
from critic_jax.training.dpo import DpoLoss, loss_of

CONFIGS = Path(__file__).parents[2] / "configs"
# Nothing marks these as the script's or ours.
STATED = {
    "dpo_ov7b": {"init", "epochs"},
    "ov_chat_7b": {"rounds", "judge", "answers", "temperature", "top_p", "start"},
}
CHIPS = 64


@pytest.mark.parametrize("size", ["7b", "72b"])
def test_a_chat_recipe_is_the_scripts_and_fits_its_slice(size: str) -> None:
    config = load_config(f"ov_chat_{size}", [], AlignConfig)
    assert loss_of(config) == DpoLoss("sigmoid", beta=0.1, alpha=1.0, gamma=0.0)
    assert (config.learning_rate, config.warmup_ratio, config.epochs) == (5e-7, 0.1, 1)
    assert config.init == f"lmms-lab/llava-onevision-qwen2-{size}-ov"
    assert (config.rounds, config.answers, config.temperature, config.top_p) == (3, 5, 0.7, 0.9)
    assert (config.start, config.reference) == ("previous", "round")
    mesh = AbstractMesh((1, CHIPS // config.tensor, config.tensor), MESH_AXES)
    param_shardings(abstract(PRESETS[size]())[1], mesh)
    assert config.rows % (config.accumulate * mesh.shape["fsdp"]) == 0


@pytest.mark.parametrize(("name", "kind"), [("dpo_ov7b", DpoConfig), ("ov_chat_7b", AlignConfig)])
def test_what_is_not_stated_is_marked(name: str, kind: type) -> None:
    source = (CONFIGS / f"{name}.py").read_text()
    marked = ""
    given = set()
    for line in source[source.index("config = ") :].splitlines():
        field = re.match(r"    (\w+)=", line)
        comment = line.partition("#")[2]
        marked = comment if not field else marked
        if field:
            given.add(field[1])
            named = re.match(r" (ours|script)", comment) or "Ours:" in marked
            assert bool(named) != (field[1] in STATED[name]), line
    # Whatever this kind of training has of its own stands there.
    own = {field.name for field in fields(kind)} - {field.name for field in fields(kind.__base__)}
    elsewhere = {"endpoint", "scores", "preferences", "reward_function", "memory", "compared"}
    assert own - elsewhere <= given
