"""Experiments as Python files, and fields changed by words."""

import re
from pathlib import Path

import pytest

from critic_jax.errors import InputError
from critic_jax.training.config import TrainConfig, load_config


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
