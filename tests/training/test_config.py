"""Experiments as Python files, and fields changed by words."""

import re
from pathlib import Path

import pytest
from jax.sharding import AbstractMesh

from critic_jax.errors import InputError
from critic_jax.models.build import abstract
from critic_jax.models.config import PRESETS
from critic_jax.sampling.config import SamplingConfig
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
    words = ["--lora-layers", "tower.q", "decoder.*", "--tower-rate", "None", "--beta2", "0"]
    changed = load_config(str(config_file), [*words, "--share_trunks", "False", "--save-every=7"])
    assert (changed.lora_layers, changed.tower_rate) == (("tower.q", "decoder.*"), None)
    assert (changed.beta2, changed.share_trunks, changed.save_every) == (0.0, False, 7)


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
        (["stray"], "'stray': a field stands in front of its value: --field value"),
        (["-epochs", "3"], "'-epochs': a field stands in front of its value"),
        (["--seed", "1", "2"], "'2': a field stands in front of its value"),
        (["--epochs"], "--epochs: has no value; it should be --epochs VALUE"),
        (["--epochs", "--seed", "1"], "--epochs: has no value"),
        (["--parts", "x"], "--parts: is no field of a command line; set it in a config's file"),
        (["--epochs", "many"], "--epochs 'many': it should be a whole number"),
        (["--epochs=1.5"], "--epochs '1.5': it should be a whole number"),
        (["--beta2", "x"], "--beta2 'x': it should be a number"),
        (["--tower-rate", "x"], "--tower-rate 'x': it should be a number"),
        (["--dtype", "float16"], "--dtype 'float16': it should be one of float32, bfloat16"),
        (["--share-trunks", "maybe"], "--share-trunks 'maybe': it should be True or False"),
    ],
)
def test_wrong_words_are_told(config_file: Path, words: list[str], said: str) -> None:
    with pytest.raises(InputError, match=re.escape(said)):
        load_config(str(config_file), words)


@pytest.mark.parametrize(
    ("field", "value", "right"),
    [
        ("rows", "0", "1 or more"),  # a plan of steps that hold nothing has no end
        ("row_tokens", "-128", "1 or more"),
        ("row_tiles", "-1", "0 or more"),
        ("global_batch", "0", "1 or more"),
        ("epochs", "0", "1 or more"),
        ("save_every", "0", "1 or more"),
        ("keep_states", "0", "1 or more"),
        ("loader_workers", "-1", "0 or more"),
        ("validation_judged", "-5", "0 or more"),
        ("data_parallel", "0", "1 or more"),
        ("fsdp", "-1", "0 or more"),
        ("tensor", "0", "1 or more"),
        ("accumulate", "0", "1 or more"),
        ("seed", "-1", "0 or more and below 2**32"),
        ("learning_rate", "nan", "0 or more"),
        ("learning_rate", "inf", "finite"),
        ("weight_decay", "-1.0", "0 or more"),
        ("warmup_ratio", "1.5", "0 to 1"),
        ("beta2", "1.0", "0 to below 1"),
        ("clip_norm", "0.0", "above 0"),
        ("validation", "1.0", "0 to below 1"),
    ],
)
def test_a_value_out_of_range_is_named(
    config_file: Path, field: str, value: str, right: str
) -> None:
    with pytest.raises(InputError, match=re.escape(f"{field} {value}: it should be {right}")):
        load_config(str(config_file), [f"--{field}", value])


@pytest.mark.parametrize(
    ("field", "value"),
    [("batch", 0), ("row_tokens", 0), ("row_tiles", -1), ("new_tokens", 0), ("tensor", 0)],
)
def test_a_size_of_a_replica_out_of_range_is_named(field: str, value: int) -> None:
    with pytest.raises(InputError, match=f"{field} {value}: it should be a whole number, "):
        read_config("judge_7b", [f"--{field}", str(value)], SamplingConfig)


FIELDS = 'init="a", data="b", output="c"'


@pytest.mark.parametrize(
    ("source", "said"),
    [
        (
            f"config = TrainConfig({FIELDS}, epoch=3)",
            "TrainConfig has no field epoch; did you",
        ),
        (f'config = TrainConfig({FIELDS}, rows="6")', "rows '6': it should be a whole number"),
        (f"config = TrainConfig({FIELDS}, rows=True)", "rows True: it should be a whole number"),
        (f'config = TrainConfig({FIELDS}, beta2="x")', "beta2 'x': it should be a number"),
        (f"config = TrainConfig({FIELDS}, share_trunks=1)", "share_trunks 1: it should be True or"),
        (f'config = TrainConfig({FIELDS}, dtype="float16")', "it should be one of float32, bfl"),
        (f'config = TrainConfig({FIELDS}, lora_layers="tower.q")', "lora_layers 'tower.q': it sh"),
        (f"config = TrainConfig({FIELDS}, rows=0)", "rows 0: it should be 1 or more"),
        ('config = TrainConfig(init="a", data="b", output=3)', "output 3: it should be a text"),
        ('config = TrainConfig(init="a")', "TypeError: TrainConfig.__init__() missing 2 required"),
        ("import nothing_such", "ModuleNotFoundError: No module named 'nothing_such'"),
        ("config = (", "is no Python ('(' was never closed)"),
    ],
)
def test_a_file_that_fails_is_named_with_its_line(tmp_path: Path, source: str, said: str) -> None:
    path = tmp_path / "mine.py"
    path.write_text(f"from critic_jax.training.config import TrainConfig\n{source}\n")
    with pytest.raises(InputError, match=re.escape(f"{path} line 2: ") + f".*{re.escape(said)}"):
        load_config(str(path), [])


def test_a_folder_is_no_config(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is a folder; a config is a Python file"):
        load_config(str(tmp_path), [])


def test_a_file_without_a_config_is_named(tmp_path: Path) -> None:
    path = tmp_path / "empty.py"
    path.write_text("config = 3\n")
    with pytest.raises(InputError, match=f"{path}: must define `config`"):
        load_config(str(path), [])
