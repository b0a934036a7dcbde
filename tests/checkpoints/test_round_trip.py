"""Hugging Face -> ours -> Hugging Face, bit for bit, whatever the layout, ties and type."""

import json
from pathlib import Path

import numpy as np
import pytest
from hub_folders import assert_same_bits, read_folder, renamed, small_model, write_folder

from critic_jax.checkpoints import load_checkpoint, save_checkpoint
from critic_jax.checkpoints.convert import convert
from critic_jax.checkpoints.export import export
from critic_jax.checkpoints.info import describe
from critic_jax.checkpoints.weights import LAYOUTS

EXPORTS = {"lmms-lab": "original", "hf": "hf-old"}


@pytest.mark.parametrize("dtype", ["bfloat16", "float32", "float16"])
@pytest.mark.parametrize("tied", [True, False], ids=["tied", "untied"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_there_and_back_bit_for_bit(tmp_path: Path, layout: str, tied: bool, dtype: str) -> None:
    config = small_model(tied)
    tensors = write_folder(tmp_path / "hub", config, layout, dtype, files=3)
    said = convert(str(tmp_path / "hub"), tmp_path / "ours")
    assert (said["layout"], said["dtype"], said["tensors"]) == (layout, dtype, len(tensors))
    assert said["parameters"] == sum(t.size for t in tensors.values())
    fingerprint = describe(tmp_path / "ours")["fingerprint"]
    assert fingerprint == describe(tmp_path / "hub")["fingerprint"]
    for name, keys in EXPORTS.items():
        written = export(str(tmp_path / "ours"), tmp_path / name, name, shard=60_000)
        assert written["files"] > 1 and written["dtype"] == dtype
        assert_same_bits(read_folder(tmp_path / name), renamed(tensors, config, layout, keys))
        assert written["fingerprint"] == fingerprint == describe(tmp_path / name)["fingerprint"]
    # Straight from one layout of Hugging Face's to the other, without a checkpoint between.
    export(str(tmp_path / "lmms-lab"), tmp_path / "port", "hf")
    assert_same_bits(read_folder(tmp_path / "port"), read_folder(tmp_path / "hf"))


@pytest.mark.parametrize("rows", [151936, 152000, 152064, 152128])
def test_the_stored_rows_of_the_vocabulary_come_back(tmp_path: Path, rows: int) -> None:
    config = small_model(tied=False, rows=rows)
    tensors = write_folder(tmp_path / "hub", config, "original", "bfloat16")
    convert(str(tmp_path / "hub"), tmp_path / "ours")
    for layout, keys in EXPORTS.items():
        export(str(tmp_path / "ours"), tmp_path / layout, layout)
        assert_same_bits(read_folder(tmp_path / layout), renamed(tensors, config, "original", keys))


def test_what_orbax_itself_saved_is_exported_alike(tmp_path: Path) -> None:
    config = small_model(tied=False)
    tensors = write_folder(tmp_path / "hub", config, "original", "bfloat16")
    save_checkpoint(tmp_path / "ours", load_checkpoint(tmp_path / "hub"))
    export(str(tmp_path / "ours"), tmp_path / "back", "lmms-lab")
    assert_same_bits(read_folder(tmp_path / "back"), tensors)
    assert describe(tmp_path / "ours")["fingerprint"] == describe(tmp_path / "hub")["fingerprint"]


@pytest.mark.parametrize(("layout", "name"), [("original", "lmms-lab"), ("hf-old", "hf")])
def test_settings_come_back_as_they_were(tmp_path: Path, layout: str, name: str) -> None:
    write_folder(tmp_path / "hub", small_model(tied=True), layout, "float32")
    convert(str(tmp_path / "hub"), tmp_path / "ours")
    export(str(tmp_path / "ours"), tmp_path / "back", name)

    def read(folder: str, file: str) -> dict:
        return json.loads((tmp_path / folder / file).read_text())

    came, went = read("hub", "config.json"), read("back", "config.json")
    assert_holds(went, came)  # a field that we know nothing of included
    assert "faster_token_stride" in went or "note" in went
    settings = read("hub", "generation_config.json")
    back = read("back", "generation_config.json")
    assert {k: back[k] for k in settings} == settings
    assert len(back["eos_token_id"]) == 2
    ours, hub = load_checkpoint(tmp_path / "back"), load_checkpoint(tmp_path / "hub")
    assert (ours.config, ours.geometry) == (hub.config, hub.geometry)
    assert len(ours.geometry.pinpoints) == 6
    assert ours.tokenizer.digest() == hub.tokenizer.digest()


def assert_holds(went: dict, came: dict) -> None:
    """Every field of `came` stands in `went`, at any depth; a type that was left open is filled."""
    for name, value in came.items():
        if isinstance(value, dict) and value:
            assert_holds(went[name], value)
        elif (name, value) != ("dtype", None):
            assert went[name] == value, name


def test_the_other_family_gets_the_same_pictures(tmp_path: Path) -> None:
    write_folder(tmp_path / "hub", small_model(tied=True), "original", "float32")
    export(str(tmp_path / "hub"), tmp_path / "port", "hf")
    export(str(tmp_path / "port"), tmp_path / "back", "lmms-lab")
    start, port, back = (load_checkpoint(tmp_path / n) for n in ("hub", "port", "back"))
    assert start.config == port.config == back.config
    # Only how the unpadded side is rounded is the family's own.
    assert (start.geometry, port.geometry.unpad) == (back.geometry, "hf")
    assert port.geometry.pinpoints == start.geometry.pinpoints


def test_a_tower_with_more_layers_than_are_kept(tmp_path: Path) -> None:
    config = small_model(tied=True)
    tensors = write_folder(tmp_path / "hub", config, "hf-old", "float32")
    values = json.loads((tmp_path / "hub" / "config.json").read_text())
    # The config drops the last of three layers, whose tensors are there all the same.
    (tmp_path / "hub" / "config.json").write_text(json.dumps(values | {"vision_feature_layer": -2}))
    said = convert(str(tmp_path / "hub"), tmp_path / "ours")
    dropped = {k for k in tensors if ".encoder.layers.2." in k}
    assert said["passed_over"] == len(dropped) == 16
    export(str(tmp_path / "ours"), tmp_path / "back", "hf")
    assert_same_bits(
        read_folder(tmp_path / "back"), {k: v for k, v in tensors.items() if k not in dropped}
    )
    back = json.loads((tmp_path / "back" / "config.json").read_text())
    assert (back["vision_feature_layer"], back["vision_config"]["num_hidden_layers"]) == (-1, 2)


def test_another_type_on_request(tmp_path: Path) -> None:
    tensors = write_folder(tmp_path / "hub", small_model(tied=True), "original", "float32")
    export(str(tmp_path / "hub"), tmp_path / "half", "lmms-lab", dtype="bfloat16")
    import ml_dtypes

    half = {k: v.astype(ml_dtypes.bfloat16) for k, v in tensors.items()}
    assert_same_bits(read_folder(tmp_path / "half"), half)
    assert json.loads((tmp_path / "half" / "config.json").read_text())["torch_dtype"] == "bfloat16"
    loaded = load_checkpoint(tmp_path / "half")
    assert {np.dtype(p.dtype).name for p in _leaves(loaded.params)} == {"bfloat16"}


def _leaves(tree: dict) -> list:
    return [x for v in tree.values() for x in (_leaves(v) if isinstance(v, dict) else [v])]
