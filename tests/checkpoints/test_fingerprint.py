"""A fingerprint stands for a model: it changes with anything that its answers may depend on."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hub_folders import small_model, write_folder
from safetensors.numpy import load_file, save_file
from tiny_critic import tiny_checkpoint, tiny_tokenizer

from critic_jax.checkpoints import load_checkpoint, save_checkpoint
from critic_jax.checkpoints.fingerprint import digest_of_params
from critic_jax.checkpoints.info import describe
from critic_jax.judging.critic import Critic


def test_it_is_the_same_wherever_the_model_lies(tmp_path: Path) -> None:
    made = tiny_checkpoint()
    save_checkpoint(tmp_path / "ours", made)
    found = load_checkpoint(tmp_path / "ours")
    expected = tiny_checkpoint().fingerprint()
    assert expected == made.fingerprint() == found.fingerprint()
    assert expected == describe(tmp_path / "ours")["fingerprint"]
    assert len(expected) == 16 and int(expected, 16) >= 0
    # A manifest of an older version holds no digest: the weights are read.
    manifest = json.loads((tmp_path / "ours" / "critic.json").read_text())
    assert manifest.pop("weights") == digest_of_params(made.config, made.params)
    (tmp_path / "ours" / "critic.json").write_text(json.dumps(manifest))
    assert describe(tmp_path / "ours")["fingerprint"] == expected
    assert Critic.load(tmp_path / "ours").fingerprint == expected


def flip(params: Any, *path: str, index: Any, change: Callable[[Any], Any]) -> Any:
    """Parameters with one element changed."""
    copy = jax.tree.map(np.array, params)
    leaf = copy
    for name in path[:-1]:
        leaf = leaf[name]
    leaf[path[-1]][index] = change(leaf[path[-1]][index])
    return copy


@pytest.mark.parametrize(
    ("path", "index"),
    [
        (("decoder", "embedding"), (700, 63)),
        (("decoder", "layers", "o", "kernel"), (1, 3, 15, 0)),
        (("decoder", "layers", "gate", "kernel"), (0, 0, 127)),
        (("tower", "layers", "q", "bias"), (1, 2, 3)),
        (("tower", "patch", "kernel"), (47, 0)),
        (("tower", "post_norm", "scale"), (5,)),
        (("newline",), (0,)),
    ],
)
def test_one_bit_of_one_weight_changes_it(path: tuple[str, ...], index: Any) -> None:
    made = tiny_checkpoint()
    before = digest_of_params(made.config, made.params)
    changed = flip(made.params, *path, index=index, change=lambda v: np.nextafter(v, np.inf))
    assert digest_of_params(made.config, changed) != before
    again = jax.tree.map(jnp.asarray, made.params)
    assert digest_of_params(made.config, again) == before


def test_exchanged_rows_and_layers_change_it() -> None:
    made = tiny_checkpoint()
    before = digest_of_params(made.config, made.params)
    for path in (("embedding",), ("layers", "up", "kernel"), ("layers", "norm1", "scale")):
        copy = jax.tree.map(np.array, made.params)
        leaf = copy["decoder"]
        for name in path:
            leaf = leaf[name]
        leaf[[0, 1]] = leaf[[1, 0]]
        assert digest_of_params(made.config, copy) != before, path


def test_the_type_tokenizer_and_settings_change_it() -> None:
    made = tiny_checkpoint()
    seen = {made.fingerprint()}
    half = tiny_checkpoint()
    half.params = jax.tree.map(lambda p: jnp.asarray(p, jnp.bfloat16), half.params)
    seen.add(half.fingerprint())
    other = tiny_checkpoint()
    other.tokenizer = tiny_tokenizer(799)
    seen.add(other.fingerprint())
    seen.add(made.fingerprint(repetition_penalty=1.05))
    seen.add(tiny_checkpoint(max_new_tokens=13).fingerprint())
    assert len(seen) == 5


def test_a_folder_of_hugging_face_is_read_for_it(tmp_path: Path) -> None:
    write_folder(tmp_path / "hub", small_model(tied=True), "hf-old", "bfloat16")
    first = describe(tmp_path / "hub")
    assert load_checkpoint(tmp_path / "hub").fingerprint() == first["fingerprint"]
    assert first["sampler"] == {"temperature": 0, "repetition_penalty": 1.05}
    assert (first["dtype"], first["meta"]["layout"]) == ("bfloat16", "hf-old")
    tensors = load_file(tmp_path / "hub" / "model.safetensors")
    row = tensors["language_model.model.layers.0.mlp.down_proj.weight"][63]
    row.view(np.uint16)[95] ^= 1
    save_file(tensors, tmp_path / "hub" / "model.safetensors")
    assert describe(tmp_path / "hub")["fingerprint"] != first["fingerprint"]


def test_eight_devices_load_their_slices_straight_from_the_files(tmp_path: Path) -> None:
    """And hold what one device holds, with the same fingerprint."""
    write_folder(tmp_path / "hub", small_model(tied=False), "original", "bfloat16", files=2)
    done = subprocess.run(
        [sys.executable, Path(__file__).parents[1] / "eight_devices.py", str(tmp_path / "hub")],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    whole = load_checkpoint(tmp_path / "hub")
    assert set(found["fingerprints"]) == {whole.fingerprint()}
    assert found["equal"] == ["data", "fsdp", "tensor", "fsdp x tensor"]
    # No piece read at once was larger than a device's share of the parameter; of what is not
    # split, that is the whole.
    assert found["pieces"] > 0 and found["largest_over_share"] == 1.0
