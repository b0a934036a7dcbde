"""Experiments as Python files, and fields changed by words."""

import re
from pathlib import Path

import pytest
from jax.sharding import AbstractMesh

from critic_jax.errors import InputError
from critic_jax.models.build import abstract
from critic_jax.models.config import PRESETS
from critic_jax.sharding import MESH_AXES, param_shardings
from critic_jax.training.config import AlignConfig, DpoConfig, TrainConfig, load_config, read_config
from critic_jax.training.tuning import tuning_of

CONFIGS = Path(__file__).parents[2] / "configs"


def test_fields_are_changed_by_words(config_file: Path) -> None:
    config = load_config(str(config_file), [])
    assert (config.global_batch, config.row_tokens, config.seed) == (2, 128, 0)
    words = ["--seed", "5", "--row-tokens=256", "--labels", "upstream-sft"]
    changed = load_config(str(config_file), words)
    assert (changed.seed, changed.row_tokens, changed.labels) == (5, 256, "upstream-sft")
    assert (changed.init, changed.global_batch) == (config.init, 2)


def test_the_packaged_experiments_are_found_by_name() -> None:
    config = load_config("digits_critic", ["--epochs", "3"])
    assert isinstance(config, TrainConfig) and config.epochs == 3


EXPERIMENTS = sorted(
    p.stem for p in CONFIGS.glob("*.py") if not p.stem.startswith(("__init__", "judge_"))
)
# Values of critic_7b that are in the paper: nothing marks them as another's.
STATED = ("init", "global_batch", "epochs", "learning_rate")


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_every_packaged_experiment_loads_and_opens_with_its_command(name: str) -> None:
    config = read_config(name, [], TrainConfig, DpoConfig, AlignConfig)
    opening = (CONFIGS / f"{name}.py").read_text().split('"""')[1]
    verb = {TrainConfig: "train", DpoConfig: "dpo", AlignConfig: "align"}[type(config)]
    assert f"\n    critic-jax {verb} {name}" in opening
    tuning = tuning_of(config)
    assert tuning.quantized == name.endswith("_qlora")
    assert (tuning.lora is not None) == name.endswith(("_lora", "_qlora"))
    assert bool(config.data) != bool(config.parts)
    assert config == load_config(str(CONFIGS / f"{name}.py"), [], type(config))


def test_the_recipe_is_the_papers_and_says_what_is_not() -> None:
    config = load_config("critic_7b", [])
    assert (config.global_batch, config.learning_rate, config.epochs) == (32, 2e-6, 1)
    source = (CONFIGS / "critic_7b.py").read_text()
    marked = ""
    for line in source[source.index("config = ") :].splitlines():
        field = re.match(r"    (\w+)=", line)
        comment = line.partition("#")[2]
        marked = comment if not field else marked
        if field and field[1] not in STATED:
            # Beside the field, or above it and those before it.
            assert re.match(r" (ours|script)", comment) or "Ours:" in marked, line
    for name in ("critic_72b", "critic_0p5b", "critic_7b_v05"):
        other = load_config(name, [])
        assert (other.global_batch, other.learning_rate, other.epochs) == (32, 2e-6, 1)
    pointwise, pairwise = load_config("critic_7b_v05", []).parts
    assert (pointwise.configs, pointwise.sample) == (("pointwise",), 42_000)
    assert (pairwise.configs, pairwise.sample) == (("pairwise",), 11_000)


@pytest.mark.parametrize("name", ["0.5b", "7b", "72b"])
def test_the_recipes_meshes_fit_the_models(name: str) -> None:
    config = load_config(f"critic_{name.replace('.', 'p')}", [])
    for chips in {"0.5b": (1, 2, 4), "7b": (32,), "72b": (64,)}[name]:
        mesh = AbstractMesh((1, chips // config.tensor, config.tensor), MESH_AXES)
        param_shardings(abstract(PRESETS[name]())[1], mesh)
        assert config.rows % (config.accumulate * mesh.shape["fsdp"]) == 0


def test_the_defaults_are_the_papers() -> None:
    config = TrainConfig(init="", data="", output="")
    assert (config.learning_rate, config.global_batch, config.epochs) == (2e-6, 32, 1)
    assert (config.labels, config.weight_decay, config.clip_norm) == ("answer", 0.0, 1.0)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--learning_rat", "1"], "no field --learning_rat; did you mean --learning_rate?"),
        (["--row-token=9"], "no field --row_token; did you mean --row_tokens?"),
        (["--zzz", "1"], "no field --zzz; fields: init, data, output"),
    ],
)
def test_an_unknown_field_is_named(config_file: Path, words: list[str], said: str) -> None:
    with pytest.raises(InputError, match=re.escape(said)):
        load_config(str(config_file), words)


def test_a_file_without_a_config_is_named(tmp_path: Path) -> None:
    path = tmp_path / "empty.py"
    path.write_text("config = 3\n")
    with pytest.raises(InputError, match=f"{path}: must define `config`"):
        load_config(str(path), [])
