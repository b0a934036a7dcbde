"""Hugging Face folders in every layout, and one clear line for each that is damaged."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import ml_dtypes
import numpy as np
import pytest
from hub_folders import renamed
from safetensors.numpy import load_file, save_file
from torch_peer import make_peer, peer_tokenizer, read_peer, save_peer

from critic_jax.checkpoints import load_checkpoint
from critic_jax.checkpoints.hf_config import read_config
from critic_jax.checkpoints.info import describe
from critic_jax.checkpoints.weights import LAYOUTS
from critic_jax.errors import InputError
from critic_jax.models.build import Params

Tensors = dict[str, np.ndarray]
SAVED = "hf-old-bare-tower"
WEIGHTS = "model.safetensors"
NORM = "language_model.model.norm.weight"
DOWN = "language_model.model.layers.1.mlp.down_proj.weight"


@pytest.fixture(scope="module")
def peer(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Tensors, Params]:
    """A folder as transformers saves it, its tensors, and what they are read as."""
    folder = save_peer(make_peer(tied=False), tmp_path_factory.mktemp("peer"))
    hub, params = read_peer(folder)
    assert hub.layout == SAVED
    return folder, load_file(folder / WEIGHTS), params


@pytest.fixture
def make(peer: tuple[Path, Tensors, Params], tmp_path: Path) -> Callable[..., Path]:
    """Make a folder of the peer's config and the given files of tensors."""

    def folder(**files: Tensors) -> Path:
        (tmp_path / "config.json").write_text((peer[0] / "config.json").read_text())
        for stem, tensors in files.items():
            save_file(tensors, tmp_path / f"{stem}.safetensors")
        return tmp_path

    return folder


def read(folder: Path) -> tuple[Params, str]:
    hub, params = read_peer(folder)
    return params, hub.layout


def assert_equal(ours: Params, expected: Params) -> None:
    assert jax.tree.structure(ours) == jax.tree.structure(expected)
    jax.tree.map(np.testing.assert_array_equal, ours, expected)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_gives_the_same_parameters(
    peer: tuple[Path, Tensors, Params], make: Callable[..., Path], layout: str
) -> None:
    _, tensors, params = peer
    folder = make(model=renamed(tensors, read_config(peer[0])[0], SAVED, layout))
    found, name = read(folder)
    assert name == layout
    assert_equal(found, params)


def test_a_stored_copy_of_a_tied_head_and_rotary_constants_are_passed_over(tmp_path: Path) -> None:
    folder = save_peer(make_peer(tied=True), tmp_path)
    tensors = load_file(folder / WEIGHTS)
    head = "language_model.lm_head.weight"
    before, _ = read(folder)
    assert head not in tensors and "untied_head" not in before["decoder"]
    tensors[head] = tensors["language_model.model.embed_tokens.weight"].copy()
    tensors["language_model.model.layers.0.self_attn.rotary_emb.inv_freq"] = np.ones(8, np.float32)
    save_file(tensors, folder / WEIGHTS)
    assert_equal(read(folder)[0], before)


def test_bfloat16_shards_with_an_index(
    peer: tuple[Path, Tensors, Params], make: Callable[..., Path]
) -> None:
    _, tensors, params = peer
    half = {name: t.astype(ml_dtypes.bfloat16) for name, t in tensors.items()}
    names = sorted(half)
    parts = {"model-1-of-2": names[: len(names) // 2], "model-2-of-2": names[len(names) // 2 :]}
    folder = make(**{stem: {n: half[n] for n in part} for stem, part in parts.items()})
    # A file that the index does not name, such as an adapter's, is not looked at.
    save_file({NORM: half[NORM]}, folder / "adapter.safetensors")
    where = {n: f"{stem}.safetensors" for stem, part in parts.items() for n in part}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": where}))
    found, _ = read(folder)
    assert {leaf.dtype for leaf in jax.tree.leaves(found)} == {np.dtype(ml_dtypes.bfloat16)}
    assert_equal(found, jax.tree.map(lambda p: np.asarray(p).astype(ml_dtypes.bfloat16), params))
    peer_tokenizer().save(folder)
    assert describe(folder)["meta"]["shards"] == 2


def test_load_checkpoint_takes_the_folder_with_its_tokenizer_and_sampler_settings(
    peer: tuple[Path, Tensors, Params], make: Callable[..., Path]
) -> None:
    _, tensors, params = peer
    folder = make(model=tensors)
    with pytest.raises(InputError, match=f"{folder} holds no tokenizer.json, nor vocab.json"):
        load_checkpoint(folder)
    peer_tokenizer().save(folder)
    (folder / "generation_config.json").write_text('{"repetition_penalty": 1.05}')
    loaded = load_checkpoint(folder)
    assert_equal(loaded.params, params)
    assert loaded.tokenizer.stop_ids == peer_tokenizer().stop_ids
    assert loaded.meta == {
        "name": folder.name,
        "from": str(folder),
        "layout": SAVED,
        "dtype": "float32",
        "source": {"config.json": json.loads((folder / "config.json").read_text())},
        "generation": {"repetition_penalty": 1.05},
    }
    assert loaded.geometry == read_config(folder)[1]


def damaged(change: Callable[[Tensors], None], tensors: Tensors) -> Tensors:
    copy = dict(tensors)
    change(copy)
    return copy


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda t: t.pop(DOWN), f"1 tensors missing, the first is {DOWN}"),
        (lambda t: t.update(extra=t[NORM].copy()), "1 unknown tensors, the first is extra"),
        (
            lambda t: t.update({NORM: np.ones(65, np.float32)}),
            f"tensor {NORM} has shape [65], the config asks for [64]",
        ),
        (
            lambda t: t.update({DOWN: t[DOWN][:, :-1].copy()}),
            f"tensor {DOWN} has shape [64, 95], the config asks for [64, 96]",
        ),
        # The right size the other way round: read as it is, it would scramble the model silently.
        (lambda t: t.update({DOWN: t[DOWN].T.copy()}), f"tensor {DOWN} has shape [96, 64], "),
        (
            lambda t: t.update({e: t[e].T.copy() for e in t if e.endswith("embed_tokens.weight")}),
            "tensor language_model.model.embed_tokens.weight has shape [64, 500], ",
        ),
        (lambda t: t.pop("image_newline"), "the tensor names are of no known LLaVA-OneVision"),
    ],
)
def test_wrong_tensors_are_named(
    peer: tuple[Path, Tensors, Params], make: Callable[..., Path], change: Any, said: str
) -> None:
    folder = make(model=damaged(change, peer[1]))
    where = folder / WEIGHTS if said.startswith("tensor ") else folder
    with pytest.raises(InputError, match=re.escape(f"{where}: {said}")):
        read(folder)


def test_a_tensor_in_two_shards_is_named(
    peer: tuple[Path, Tensors, Params], make: Callable[..., Path]
) -> None:
    folder = make(a=peer[1], b={NORM: peer[1][NORM]})
    said = re.escape(f"{folder / 'b.safetensors'}: tensor {NORM} is in another shard too")
    with pytest.raises(InputError, match=said):
        read(folder)


@pytest.mark.parametrize("kept", [0, 5, 4000, -1])
def test_a_file_that_is_cut_off_is_named(
    peer: tuple[Path, Tensors, Params], make: Callable[..., Path], kept: int
) -> None:
    folder = make(model=peer[1])
    file = folder / WEIGHTS
    file.write_bytes(file.read_bytes()[:kept])
    with pytest.raises(InputError, match=f"{file}: not a readable safetensors file"):
        read(folder)


@pytest.mark.parametrize(
    ("index", "said"),
    [
        ({"weight_map": {NORM: "model-2.safetensors"}}, "names model-2.safetensors, which is not"),
        ({"weight_map": [NORM]}, "field 'weight_map' should name the file of each tensor"),
        ({"metadata": {}}, "field 'weight_map' should name the file of each tensor"),
        ([], "a JSON object is expected, found list"),
    ],
)
def test_a_wrong_index_is_named(make: Callable[..., Path], index: Any, said: str) -> None:
    folder = make()
    path = folder / "model.safetensors.index.json"
    path.write_text(json.dumps(index))
    with pytest.raises(InputError, match=re.escape(f"{path}: {said}")):
        read(folder)


def test_pickled_weights_are_not_read(make: Callable[..., Path]) -> None:
    folder = make()
    (folder / "pytorch_model.bin").write_bytes(b"\x80\x04cposix\nsystem\n.")
    with pytest.raises(InputError, match=rf"{folder}: holds no \.safetensors weights \(pickled"):
        read(folder)
