"""An engine's programs compiled for a slice, against arithmetic."""

import json
from pathlib import Path
from typing import Any

import pytest

from critic_jax.aot.programs import with_row_tokens
from critic_jax.aot.report import needs
from critic_jax.aot.serving import decode_step, held
from critic_jax.aot.topology import topology
from critic_jax.cli import main
from critic_jax.models.config import (
    PRESETS,
    DecoderConfig,
    ModelConfig,
    TowerConfig,
    onevision_7b,
    onevision_72b,
)
from critic_jax.progress import progress
from critic_jax.sampling.config import SamplingConfig
from critic_jax.sharding import make_mesh
from critic_jax.training.config import read_config

CONFIGS = Path(__file__).parents[2] / "configs"
BATCH, CONTEXT, ROOM = 8, 1024, 32


def wide() -> ModelConfig:
    """Two layers, wide enough that what a chip pads is next to nothing."""
    tower = TowerConfig(128, 512, 4, 1, tile_size=64, patch_size=16)
    return ModelConfig(DecoderConfig(4096, 1024, 2048, 2, 8, 4, 128), tower)


def in_layers(model: ModelConfig) -> int:
    """Numbers in the products of the decoder's layers."""
    d = model.decoder
    each = d.hidden_size * d.head_dim * 2 * (d.num_heads + d.num_kv_heads)
    return d.num_layers * (each + 3 * d.hidden_size * d.ffn_size)


def kv_of_token(model: ModelConfig) -> int:
    d = model.decoder
    return 2 * 2 * d.num_layers * d.num_kv_heads * d.head_dim


def test_a_replica_on_four_chips(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """In bfloat16 each chip has a quarter of the weights and half of the key-value heads."""
    monkeypatch.setitem(PRESETS, "wide", wide)
    words = ["aot", str(CONFIGS / "judge_7b.py"), "--topology", "v5e:2x2", "--model", "wide"]
    words += ["--batch", str(BATCH), "--row-tokens", str(CONTEXT), "--row-tiles", "3"]
    words += ["--new-tokens", str(ROOM), "--fsdp", "2", "--tensor", "2", "--json"]
    assert main(words) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["mesh"] == {"data": 1, "fsdp": 2, "tensor": 2}
    assert (found["branches"], found["context"], found["new_tokens"]) == (BATCH, CONTEXT, ROOM)
    assert found["kv_layout"] == "2 of 4 heads to a chip"
    model, of_token = wide(), kv_of_token(wide()) // 2
    assert found["kv_bytes_per_chip"] == (CONTEXT + BATCH * ROOM) * of_token
    table = model.decoder.vocab_size * model.decoder.hidden_size
    decode, prefill = found["steps"]["decode"], found["steps"]["prefill"]
    # Embedding and head; one bool for each branch and token of the vocabulary.
    least = 2 * (in_layers(model) + 2 * table) // 4 + found["kv_bytes_per_chip"]
    least += BATCH * model.decoder.vocab_size
    assert least <= decode["argument_bytes"] < 1.03 * least
    # No head and no answers, but a tower and its projector, of which a chip holds half.
    projector = (model.tower.hidden_size + model.decoder.hidden_size) * model.decoder.hidden_size
    least = 2 * (in_layers(model) + table) // 4 + projector + CONTEXT * of_token
    assert least <= prefill["argument_bytes"] < 1.03 * least
    for step in (decode, prefill):
        assert step["fits"] and step["peak_bytes"] > step["argument_bytes"]
    # Weights stay where they are: what is gathered are logits, of a first token and of a next one.
    gathered = decode["collective_bytes"]["all-gather"]
    logits = 4 * BATCH * model.decoder.vocab_size
    assert 2 * logits <= gathered < 3 * logits < 2 * table // 4


def test_the_judges_on_their_slices() -> None:
    for name, sizes, chips, layout in (
        ("judge_7b", onevision_7b(), "v5e:2x2", "1 of 4 heads to a chip"),
        ("judge_72b", onevision_72b(), "v6e:4x4", "1 of 8 heads to a chip"),
    ):
        config: Any = read_config(str(CONFIGS / f"{name}.py"), [], SamplingConfig)
        opening = (CONFIGS / f"{name}.py").read_text().split('"""')[1]
        assert f"\n    critic-jax aot {name} --topology {chips}\n" in opening
        devices = topology(chips).devices
        found = held(config, sizes, make_mesh(1, config.fsdp, config.tensor, devices))
        assert found["kv_layout"] == layout and found["branches"] == 20
        kv_heads = sizes.decoder.num_kv_heads
        places = config.row_tokens + config.batch * config.new_tokens
        assert found["kv_bytes_per_chip"] == places * kv_of_token(sizes) // kv_heads
        assert with_row_tokens(config, 2 * config.row_tokens).row_tiles == 2 * config.row_tiles


@pytest.mark.slow
def test_decoding_with_7b_on_four_chips_of_v5e() -> None:
    config: Any = read_config(str(CONFIGS / "judge_7b.py"), [], SamplingConfig)
    with progress() as bar:
        found = needs(decode_step, config, onevision_7b(), topology("v5e:2x2"), bar, "decode")
    assert found.fits and found.peak_bytes is not None and found.peak_bytes < 5 * 2**30
    # What travels is under a fiftieth of the weights that a chip holds.
    assert found.collective_bytes is not None
    assert sum(found.collective_bytes.values()) < 2 * in_layers(onevision_7b()) // 4 // 50
