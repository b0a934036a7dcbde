"""The verb aot: what it says of steps, against what is known of them."""

import json
import math
import re
from pathlib import Path
from typing import Any

import jax
import pytest

from critic_jax.aot import report
from critic_jax.aot.programs import sft_step, with_row_tokens
from critic_jax.aot.report import Needs, largest_rows, model_sizes, parameter_count
from critic_jax.aot.topology import HBM, topology
from critic_jax.cli import main
from critic_jax.errors import InputError
from critic_jax.models.config import PRESETS, onevision_72b, tiny
from critic_jax.progress import progress
from critic_jax.sharding import make_mesh
from critic_jax.training.config import TrainConfig

CONFIG = TrainConfig(
    init="runs/7b", data="", output="", rows=4, row_tokens=256, row_tiles=4, fsdp=2, tensor=2
)
WORDS = ["--topology", "v5e:2x2", "--model", "tiny", "--json"]


@pytest.fixture
def config_file(tmp_path: Path) -> str:
    fields = "rows=4, row_tokens=256, row_tiles=4, fsdp=2, tensor=2"
    path = tmp_path / "tried.py"
    path.write_text(
        "from critic_jax.training.config import TrainConfig\n"
        f"config = TrainConfig(init='runs/tiny', data='', output='', {fields})\n"
    )
    return str(path)


def shares(tree: Any) -> int:
    """Bytes of each device's part of the arrays."""
    return sum(
        math.prod(leaf.sharding.shard_shape(leaf.shape)) * leaf.dtype.itemsize
        for leaf in jax.tree.leaves(tree)
    )


def test_a_step_and_what_it_needs(config_file: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["aot", config_file, *WORDS]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["mesh"] == {"data": 1, "fsdp": 2, "tensor": 2} and found["chips"] == 4
    assert found["parameters"] == parameter_count(tiny())
    step = found["steps"]["sft"]
    assert step["tokens_per_chip"] == 256 and step["fits"] and step["hbm_bytes"] == 16 * 2**30
    program = sft_step(CONFIG, tiny(), make_mesh(1, 2, 2, topology("v5e:2x2").devices))
    # Small arrays are padded to the chip's tiles.
    assert shares(program.arguments) <= step["argument_bytes"] < 3 * shares(program.arguments)
    assert step["peak_bytes"] > step["argument_bytes"] + step["temp_bytes"] > 2 * 2**20
    assert step["host_bytes"] == 0
    sent = step["collective_bytes"]
    # Each layer's parameters are gathered along fsdp, and their gradients added along it.
    assert sent["all-gather"] > 0 and sent["reduce-scatter"] + sent["all-reduce"] > 0
    # 6 operations a parameter of the layers and a token, 8 with the layers computed again; then
    # attention, which is computed again within the tower's layers, and the head's chunks.
    decoder, tower = tiny().decoder, tiny().tower
    each = decoder.hidden_size * decoder.head_dim * 2 * (decoder.num_heads + decoder.num_kv_heads)
    each += 3 * decoder.hidden_size * decoder.ffn_size
    layers = 8 * each * decoder.num_layers * 256
    in_tower = 4 * tower.hidden_size**2 + 2 * tower.hidden_size * tower.ffn_size
    layers += 8 * in_tower * tower.num_layers * 4 * tower.patches
    # The loop over quarters of the head's chunk of 512 counts once for each of two groups of rows.
    quarter = 6 * decoder.vocab_size * decoder.hidden_size * 128 * 2
    assert layers < step["flops"] - quarter < 2.5 * layers


@pytest.mark.slow
def test_layer_inputs_lie_on_the_host(config_file: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["aot", config_file, *WORDS, "--remat", "offload"]) == 0
    step = json.loads(capsys.readouterr().out)["steps"]["sft"]
    decoder = tiny().decoder
    inputs = decoder.num_layers * 4 * 256 * decoder.hidden_size
    assert step["host_bytes"] >= 2 * inputs / 4  # bfloat16, shared by four devices


@pytest.mark.slow
def test_what_does_not_fit(
    config_file: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A vocabulary that takes 45 GB of each chip with its moments."""
    monkeypatch.setitem(PRESETS, "wide", lambda: tiny(240_000_000))
    words = ["--topology", "v5e:2x2", "--model", "wide", "--json", "--fsdp", "4", "--tensor", "1"]
    assert main(["aot", config_file, *words]) == 1
    step = json.loads(capsys.readouterr().out)["steps"]["sft"]
    assert not step["fits"] and step["temp_bytes"] is None
    assert step["peak_bytes"] > 45e9 > step["hbm_bytes"]


@pytest.mark.parametrize("most", [2048, 10_240, 16_384, 63_488, 131_072])
def test_the_longest_rows_are_found(most: int, monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[int] = []

    def needs(make: Any, config: TrainConfig, *_: Any) -> Needs:
        tried.append(config.row_tokens)
        assert config.row_tiles == round(config.row_tokens / 1024)
        return Needs(4, 0, 0, 0, 0, 0, 0, config.row_tokens <= most, 0, {}, 0)

    monkeypatch.setattr(report, "needs", needs)
    config = with_row_tokens(CONFIG, 16_384)
    config = TrainConfig(**{**vars(config), "row_tiles": 16})
    with progress() as bar:
        found = largest_rows(config, tiny(), topology("v5e:2x2"), bar)
    assert found.row_tokens == most and len(tried) == len(set(tried)) <= 8


def test_no_rows_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    none = Needs(4, 0, 0, 0, 0, 0, 0, False, 0, {}, 0)
    monkeypatch.setattr(report, "needs", lambda *_: none)
    with progress() as bar, pytest.raises(InputError, match="no rows of 2048 tokens or more fit"):
        largest_rows(CONFIG, tiny(), topology("v5e:2x2"), bar)


def test_sizes_of_a_model_that_is_not_read(tmp_path: Path) -> None:
    assert parameter_count(model_sizes("lmms-lab/llava-onevision-qwen2-7b-ov")) == 8_030_348_832
    assert model_sizes("lmms-lab/llava-critic-72b@main") == onevision_72b()
    assert parameter_count(onevision_72b()) == 73_180_522_016
    assert model_sizes("0.5b") == PRESETS["0.5b"]()
    with pytest.raises(
        InputError, match=r"its name tells no size; give --model, one of tiny, 0.5b"
    ):
        model_sizes("runs/start")


@pytest.mark.parametrize(
    "words, said",
    [
        (["--topology", "v9:2x2"], "topology v9:2x2: .*; names are like v4:4x4x4, v5e:4x8"),
        (["--topology", "v5e:4x8"], "mesh data 1 x fsdp 2 x tensor 2 is 4 devices, these are 32"),
        (["--topology", "v5e:2x2", "--rowz", "3"], "no field --rowz; did you mean --rows"),
        (["--topology", "v5e:2x2", "--rows", "3"], "a step's rows must be a multiple"),
        (["--topology", "v5e:2x2", "--tensor", "4", "--fsdp", "1", "--row-tokens", "255"], "must"),
    ],
)
def test_wrong_commands(
    words: list[str], said: str, config_file: str, capfd: pytest.CaptureFixture[str]
) -> None:
    assert main(["aot", config_file, *words, "--model", "tiny"]) == 2
    error = capfd.readouterr().err
    assert error.count("\n") == 1 and error.startswith("critic-jax: error: ")
    assert re.search(said, error)


@pytest.mark.parametrize("name, chips", [("v5e:1x1", 1), ("v5e:2x4", 8), ("v4:2x2x1", 4)])
def test_chips_of_a_slice(name: str, chips: int) -> None:
    slice_ = topology(name)
    assert slice_.chips == chips
    assert len(slice_.devices) * slice_.hbm_bytes == chips * HBM[slice_.kind]
