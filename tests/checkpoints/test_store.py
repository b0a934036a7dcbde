"""Our own checkpoint folder: back bit for bit, whole or not at all, and clear when damaged."""

import gc
import json
import os
import shutil
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny_critic import GEOMETRY, tiny_checkpoint

from critic_jax.checkpoints import Checkpoint, load_checkpoint, save_checkpoint
from critic_jax.checkpoints.info import describe
from critic_jax.errors import InputError


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("saved") / "critic"
    save_checkpoint(path, tiny_checkpoint())
    return path


@pytest.fixture
def copy(saved: Path, tmp_path: Path) -> Path:
    """A checkpoint to spoil."""
    return Path(shutil.copytree(saved, tmp_path / "critic"))


def assert_same(ours: Checkpoint, other: Checkpoint) -> None:
    assert jax.tree.structure(ours.params) == jax.tree.structure(other.params)
    for a, b in zip(jax.tree.leaves(ours.params), jax.tree.leaves(other.params), strict=True):
        assert a.dtype == b.dtype and np.asarray(a).tobytes() == np.asarray(b).tobytes()


def first_weight(checkpoint: Checkpoint) -> float:
    return float(checkpoint.params["newline"][0])


def test_a_checkpoint_comes_back_bit_for_bit(saved: Path, tmp_path: Path) -> None:
    made, loaded = tiny_checkpoint(), load_checkpoint(saved)
    assert_same(loaded, made)
    assert (loaded.config, loaded.geometry, loaded.meta) == (made.config, GEOMETRY, made.meta)
    text = 'Which digit is it? <|im_end|>\n "7" é'
    assert loaded.tokenizer.encode(text) == made.tokenizer.encode(text)
    assert loaded.tokenizer.stop_ids == made.tokenizer.stop_ids
    save_checkpoint(tmp_path / "again", loaded)
    assert_same(load_checkpoint(tmp_path / "again"), made)
    names = {p.relative_to(saved) for p in (saved / "tokenizer").iterdir()}
    assert names
    for name in names:
        assert (saved / name).read_bytes() == (tmp_path / "again" / name).read_bytes()


def test_bfloat16_parameters_keep_their_values(tmp_path: Path) -> None:
    made = tiny_checkpoint()
    half = jax.tree.map(lambda p: jnp.asarray(p, jnp.bfloat16), made.params)
    save_checkpoint(
        tmp_path / "half",
        Checkpoint(made.config, made.geometry, half, made.tokenizer, made.meta),
    )
    loaded = load_checkpoint(tmp_path / "half")
    for a, b in zip(jax.tree.leaves(loaded.params), jax.tree.leaves(half), strict=True):
        np.testing.assert_array_equal(np.asarray(a, np.float32), np.asarray(b, np.float32))


def test_an_older_checkpoint_is_replaced(copy: Path) -> None:
    save_checkpoint(copy, tiny_checkpoint(seed=1))
    assert_same(load_checkpoint(copy), tiny_checkpoint(seed=1))
    assert [p.name for p in copy.parent.iterdir()] == ["critic"]


def test_what_is_no_checkpoint_is_not_overwritten(tmp_path: Path) -> None:
    folder, file = tmp_path / "thesis", tmp_path / "notes.txt"
    folder.mkdir()
    for path in (folder / "chapter.tex", file):
        path.write_text("years of work")
    for path in (folder, file):
        with pytest.raises(InputError, match=rf"{path}: exists and is no checkpoint"):
            save_checkpoint(path, tiny_checkpoint())
    assert (folder / "chapter.tex").read_text() == file.read_text() == "years of work"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["notes.txt", "thesis"]


@pytest.mark.parametrize("survived", [0, 1])
def test_a_save_that_is_cut_short_leaves_the_older_one(
    copy: Path, monkeypatch: pytest.MonkeyPatch, survived: int
) -> None:
    real, moves = os.replace, []

    def replace(source: str | Path, target: str | Path) -> None:
        if Path(target).parent == copy.parent:
            if len(moves) == survived:
                raise KeyboardInterrupt
            moves.append(target)
        real(source, target)

    with monkeypatch.context() as patched:
        patched.setattr(os, "replace", replace)
        with pytest.raises(KeyboardInterrupt):
            save_checkpoint(copy, tiny_checkpoint(seed=1))
    assert len(moves) == survived
    assert_same(load_checkpoint(copy), tiny_checkpoint())
    assert describe(copy)["layout"] == "critic_jax"
    save_checkpoint(copy, tiny_checkpoint(seed=2))
    assert_same(load_checkpoint(copy), tiny_checkpoint(seed=2))
    assert [p.name for p in copy.parent.iterdir()] == ["critic"]


def test_a_damaged_manifest_is_named(copy: Path) -> None:
    manifest = copy / "critic.json"
    good = json.loads(manifest.read_text())
    for text, said in [
        ("{", "not valid JSON"),
        ("[]", "a JSON object is expected, found list"),
        (json.dumps(good | {"format": 99}), "format 99, expected 1"),
        (json.dumps({k: v for k, v in good.items() if k != "model"}), "'model'"),
        (json.dumps(good | {"model": {"decoder": {"depth": 3}, "tower": {}}}), "depth"),
    ]:
        manifest.write_text(text)
        with pytest.raises(InputError, match=rf"{manifest}: .*{said}"):
            load_checkpoint(copy)


def test_other_sizes_than_the_manifests_are_refused(copy: Path) -> None:
    manifest = copy / "critic.json"
    values = json.loads(manifest.read_text())
    values["model"]["decoder"]["ffn_size"] += 1
    manifest.write_text(json.dumps(values))
    with pytest.raises(InputError, match=f"{copy / 'params'}: not readable as this model's"):
        load_checkpoint(copy)


# Orbax leaves coroutines behind when one of many arrays cannot be read.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("damage", ["gone", "emptied", "cut"])
def test_damaged_parameters_are_refused(copy: Path, damage: str) -> None:
    params = copy / "params"
    if damage == "cut":
        largest = max((p for p in params.rglob("*") if p.is_file()), key=lambda p: p.stat().st_size)
        largest.write_bytes(largest.read_bytes()[: largest.stat().st_size // 2])
    else:
        shutil.rmtree(params)
        if damage == "emptied":
            params.mkdir()
    with pytest.raises(InputError) as raised:
        load_checkpoint(copy)
    said = str(raised.value)
    assert said.startswith(f"{params}: not readable as this model's parameters (")
    assert len(said) < 600
    gc.collect()


def test_what_is_no_checkpoint_is_told(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=f"{tmp_path / 'none'}: no such checkpoint folder"):
        load_checkpoint(tmp_path / "none")
    with pytest.raises(InputError, match=f"{tmp_path}: holds neither critic.json"):
        load_checkpoint(tmp_path)
    with pytest.raises(InputError, match=f"{tmp_path}: holds neither critic.json"):
        describe(tmp_path)


def test_describe_counts_parameters_by_part(saved: Path) -> None:
    made, found = tiny_checkpoint(), describe(saved)
    v, d, f = made.config.decoder.vocab_size, 64, 128
    heads = 2 * (d * 64 + 64 * d) // 2 + 2 * d * 32  # q and o; k and v
    layer = heads + (64 + 2 * 32) + 3 * d * f + 2 * d
    tower_layer = 4 * (48 * 48 + 48) + 2 * 48 * 96 + 96 + 48 + 4 * 48
    parts = {
        "decoder": v * d + 2 * layer + d,
        "newline": d,
        "projector": 48 * d + d + d * d + d,
        "tower": (48 * 48 + 48) + 16 * 48 + 2 * tower_layer + 2 * 48,
    }
    assert found["parameters_by_part"] == parts
    assert found["parameters"] == sum(parts.values())
    assert found["parameters"] == sum(p.size for p in jax.tree.leaves(made.params))
    assert (found["layout"], found["meta"]) == ("critic_jax", made.meta)
    assert found["geometry"] == GEOMETRY.to_dict()
    assert found["model"] == made.config.to_dict()
