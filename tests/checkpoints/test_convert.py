"""Conversion: whole or not at all, small in memory, in a format that Orbax reads by slices."""

import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import jax
import ml_dtypes
import numpy as np
import orbax.checkpoint.experimental.v1 as ocp
import pytest
import tensorstore as ts
from hub_folders import assert_same_bits, read_folder, renamed, write_folder
from safetensors.numpy import load_file, save_file
from tiny_critic import tiny_checkpoint

from critic_jax.checkpoints import load_checkpoint, save_checkpoint
from critic_jax.checkpoints.blocks import BLOCK, Param, blocks, parameters
from critic_jax.checkpoints.convert import convert, finite
from critic_jax.checkpoints.export import export
from critic_jax.checkpoints.info import describe
from critic_jax.cli import main
from critic_jax.errors import InputError, WorkError
from critic_jax.models.config import PRESETS, DecoderConfig, ModelConfig, TowerConfig

# Some 20 M parameters: long enough to be killed in the middle of.
MEDIUM = ModelConfig(
    DecoderConfig(4096, 512, 2048, 4, 8, 4, 64), TowerConfig(96, 192, 2, 3, 384, 14)
)


@pytest.fixture(scope="module")
def medium(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("medium") / "hub"
    write_folder(folder, MEDIUM, "original", "float32", files=3)
    return folder


def test_the_command_says_what_it_read(medium: Path, tmp_path: Path, capsys: Any) -> None:
    assert main(["convert", str(medium), str(tmp_path / "ours"), "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    tensors = read_folder(medium)
    assert (said["tensors"], said["dtype"], said["layout"]) == (len(tensors), "float32", "original")
    assert said["parameters"] == sum(t.size for t in tensors.values())
    assert said["seconds"] > 0 and said["peak_memory_gb"] > 0 and said["warnings"] == []
    assert os.listdir(tmp_path) == ["ours"]


def test_orbax_restores_it_with_no_help_of_ours(medium: Path, tmp_path: Path) -> None:
    convert(str(medium), tmp_path / "ours")
    found = ocp.load(tmp_path / "ours" / "params")
    tensors = read_folder(medium)
    gate = found["decoder"]["layers"]["gate"]["kernel"]
    assert gate.shape == (4, 512, 2048)
    for layer in range(4):
        key = f"model.layers.{layer}.mlp.gate_proj.weight"
        np.testing.assert_array_equal(gate[layer].T, tensors[key])
    out = found["decoder"]["layers"]["o"]["kernel"]
    expected = tensors["model.layers.3.self_attn.o_proj.weight"]  # [D, N * H]
    np.testing.assert_array_equal(out[3].reshape(512, 512).T, expected)
    patch = found["tower"]["patch"]["kernel"]
    conv = tensors["model.vision_tower.vision_tower.vision_model.embeddings.patch_embedding.weight"]
    np.testing.assert_array_equal(patch, conv.reshape(96, -1).T)


def bytes_read() -> int:
    (metric,) = ts.experimental_collect_matching_metrics("/tensorstore/kvstore/file/bytes_read")
    return sum(value["value"] for value in metric["values"])


@pytest.mark.parametrize("ways", [2, 8])
def test_a_device_reads_little_more_than_its_slice(
    medium: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ways: int
) -> None:
    """Of the largest kernel, split as fsdp and as tensor split it."""
    # Chunks as small beside this model as the real ones are beside 7B.
    monkeypatch.setattr("critic_jax.checkpoints.blocks.CHUNK", 2**13)
    convert(str(medium), tmp_path / "ours")
    base = f"file://{tmp_path / 'ours' / 'params' / 'state'}/"
    spec = {
        "driver": "zarr3",
        "kvstore": {"driver": "ocdbt", "base": base, "path": "decoder.layers.gate.kernel/"},
    }
    array = ts.open(spec).result()
    whole = 4 * 512 * 2048 * 4
    for index in (np.s_[:, : 512 // ways], np.s_[:, :, : 2048 // ways]):
        before = bytes_read()
        array[index].read().result()
        share = whole // ways
        assert share <= bytes_read() - before <= 1.1 * share + 100_000


@pytest.mark.parametrize("name", ["0.5b", "7b", "72b"])
def test_blocks_and_chunks_of_real_sizes(name: str) -> None:
    """Blocks cover each parameter once; no piece is too large, and meshes cut at chunk borders."""
    for param in parameters(PRESETS[name]()):
        block, chunk = param.chunks(2)
        assert all(b % c == 0 or b >= s for b, c, s in zip(block, chunk, param.shape, strict=True))
        assert np.prod(block) * 2 <= BLOCK, param
        cut = list(blocks(param, 2))
        assert sum(int(np.prod(b.shape)) for b in cut) == np.prod(param.shape)
        assert [b.layer or 0 for b in cut] == sorted(b.layer or 0 for b in cut)
        if name == "7b" and param.weight.path[-2:] == ("gate", "kernel"):
            assert_cut(param, chunk, fsdp=64, tensor=4)


def assert_cut(param: Param, chunk: tuple[int, ...], fsdp: int, tensor: int) -> None:
    _, embed, ffn = param.shape
    assert embed // fsdp % chunk[1] == 0 and ffn // tensor % chunk[2] == 0


def test_values_that_are_not_finite_are_warned_of(
    medium: Path, tmp_path: Path, capsys: Any
) -> None:
    for file in medium.iterdir():
        (tmp_path / "hub").mkdir(exist_ok=True)
        (tmp_path / "hub" / file.name).write_bytes(file.read_bytes())
    name = "model.layers.1.mlp.up_proj.weight"
    file = next(f for f in (tmp_path / "hub").glob("*.safetensors") if name in load_file(f))
    tensors = load_file(file)
    tensors[name][700, 3] = np.nan
    save_file(tensors, file)
    assert main(["convert", str(tmp_path / "hub"), str(tmp_path / "ours")]) == 0
    assert f"{name} holds values that are NaN or infinite" in capsys.readouterr().out


@pytest.mark.parametrize("dtype", [np.float32, np.float16, ml_dtypes.bfloat16])
def test_finite(dtype: Any) -> None:
    values = np.zeros((1100, 1000), dtype)
    values[:] = np.finfo(np.float16).max / 2
    values[0, :3] = -0.0, 1e-6, -3
    assert finite(values)
    for bad in (np.nan, np.inf, -np.inf):
        for place in ((0, 0), (1099, 999)):
            broken = values.copy()
            broken[place] = bad
            assert not finite(broken)


def test_a_source_that_is_ours_is_told(medium: Path, tmp_path: Path) -> None:
    convert(str(medium), tmp_path / "ours")
    with pytest.raises(InputError, match="ours: is a checkpoint of critic_jax already"):
        convert(str(tmp_path / "ours"), tmp_path / "again")


@pytest.mark.parametrize("verb", ["convert", "export"])
def test_what_is_there_is_not_overwritten(medium: Path, tmp_path: Path, verb: str) -> None:
    target = tmp_path / "thesis"
    target.mkdir()
    (target / "chapter.tex").write_text("years of work")
    words = [verb, str(medium), str(target)] + (["--layout", "hf"] if verb == "export" else [])
    assert main(words) == 2
    assert (target / "chapter.tex").read_text() == "years of work"
    assert os.listdir(tmp_path) == ["thesis"]


DRIVER = """
import sys
from pathlib import Path
from critic_jax.checkpoints.convert import convert
from critic_jax.checkpoints.export import export
print("ready", flush=True)
if sys.argv[1] == "convert":
    convert(sys.argv[2], Path(sys.argv[3]))
else:
    export(sys.argv[2], Path(sys.argv[3]), "hf")
"""


def run_and_kill(verb: str, source: Path, target: Path, after: float) -> bool:
    """Kill the work that many seconds after it began; False if it was done before."""
    call = [sys.executable, "-c", DRIVER, verb, str(source), str(target)]
    with subprocess.Popen(call, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stdout.readline() == b"ready\n"
        time.sleep(after)
        process.send_signal(signal.SIGKILL)
        return process.wait() == -signal.SIGKILL


def storm(verb: str, source: Path, folder: Path, kills: int, seed: int) -> None:
    target, rng = folder / verb, random.Random(seed)
    longest, killed = 3.0, 0
    while killed < kills:
        after = rng.uniform(0, longest)
        # Done before the kill, or killed on its way out.
        if not run_and_kill(verb, source, target, after) or target.exists():
            load_checkpoint(target)
            longest = min(longest, after)
            for made in folder.iterdir():
                shutil.rmtree(made)
            continue
        killed += 1
        assert not target.exists()
        for look in (load_checkpoint, describe):
            with pytest.raises(InputError, match="no such checkpoint folder"):
                look(target)
    if verb == "convert":
        convert(str(source), target)
        assert_same_bits(_back(target, folder / "back"), read_folder(source))
    else:
        export(str(source), target, "hf")
        expected = renamed(read_folder(source), MEDIUM, "original", "hf-old")
        assert_same_bits(read_folder(target), expected)


def _back(ours: Path, target: Path) -> dict[str, np.ndarray]:
    export(str(ours), target, "lmms-lab")
    return read_folder(target)


@pytest.mark.parametrize(("verb", "kills"), [("convert", 5), ("export", 1)])
def test_killed_at_random_moments(medium: Path, tmp_path: Path, verb: str, kills: int) -> None:
    storm(verb, medium, tmp_path, kills, seed=1)


@pytest.mark.slow
@pytest.mark.parametrize("verb", ["convert", "export"])
def test_a_storm_of_kills(medium: Path, tmp_path: Path, verb: str) -> None:
    storm(verb, medium, tmp_path, kills=20, seed=2)


@pytest.mark.parametrize("verb", ["convert", "export"])
def test_without_room_it_is_one_line_and_nothing_stays(
    medium: Path, tmp_path: Path, verb: str
) -> None:
    """A file-size limit stands for a full disk."""
    words = [verb, str(medium), str(tmp_path / "made"), *(["--layout", "hf"] * (verb == "export"))]
    program = "import sys; from critic_jax.cli import main; sys.exit(main(sys.argv[1:]))"
    call = [sys.executable, "-c", program, *words]

    def small() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (3_000_000, 3_000_000))

    done = subprocess.run(call, capture_output=True, text=True, preexec_fn=small)
    assert done.returncode == 1 and done.stderr.count("\n") == 1, done.stderr
    assert f"{tmp_path}: no room left to write (File too large); make room" in done.stderr
    assert os.listdir(tmp_path) == []
    assert main(words) == 0
    assert describe(tmp_path / "made")["parameters"] > 0


def test_an_older_checkpoint_stays_until_the_new_one_is_whole(
    medium: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "critic"
    save_checkpoint(target, tiny_checkpoint())

    def fail(*_: Any) -> bool:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr("critic_jax.checkpoints.convert.finite", fail)
        with pytest.raises(WorkError, match=f"{tmp_path}: no room left to write "):
            convert(str(medium), target)
    assert load_checkpoint(target).config == tiny_checkpoint().config
    assert os.listdir(tmp_path) == ["critic"]
    convert(str(medium), target)
    loaded = load_checkpoint(target)
    assert loaded.config == MEDIUM
    assert sum(p.size for p in jax.tree.leaves(loaded.params)) == sum(
        t.size for t in read_folder(medium).values()
    )
