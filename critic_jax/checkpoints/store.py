"""Our checkpoint, a folder:

- `critic.json`: format, sizes, picture geometry, step, provenance, a digest of the weights;
- `params/`: Orbax, one array a parameter (layers stacked);
- `tokenizer/`: what the tokenizer was loaded from, or tokenizer.json.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint.experimental.v1 as ocp
from etils import epath
from jax.sharding import Mesh

from critic_jax.checkpoints.arrays import ArrayReader, read_tree
from critic_jax.checkpoints.blocks import parameters
from critic_jax.checkpoints.fingerprint import digest_of_params, fingerprint
from critic_jax.checkpoints.hf_config import read_config, read_json
from critic_jax.checkpoints.hub import local_folder
from critic_jax.checkpoints.huggingface import Hold, HuggingFaceFolder, read_params
from critic_jax.checkpoints.publish import building_folder, published, standing
from critic_jax.errors import InputError
from critic_jax.files import write_json
from critic_jax.hosts import is_first, wait_for_all
from critic_jax.imaging import ImageGeometry
from critic_jax.models.build import Params, abstract, get_in, set_in
from critic_jax.models.config import ModelConfig
from critic_jax.remote import sent
from critic_jax.sharding import make_mesh, param_shardings
from critic_jax.text import ChatTokenizer

MANIFEST = "critic.json"
FORMAT = 1


# Chunks of what Orbax saves: a layer at a time, so that exporting reads one without the others.
_CHUNK = 64 * 2**20


@dataclass
class Checkpoint:
    """A model's parameters with everything needed to use them.

    `meta` holds name, step, provenance and settings of generation; `weights` the digest of the
    parameters, where it is known already.
    """

    config: ModelConfig
    geometry: ImageGeometry
    params: Params
    tokenizer: ChatTokenizer
    meta: dict[str, Any]
    weights: str = ""

    def fingerprint(self, **settings: Any) -> str:
        """16 digits that stand for this model, asked with `settings` of the sampler.

        The settings are those of `prescribed` unless given.
        """
        self.weights = self.weights or digest_of_params(self.config, self.params)
        return fingerprint(self.weights, self.tokenizer, {**prescribed(self.meta), **settings})


def written_fingerprint(path: str | os.PathLike[str], **settings: Any) -> str | None:
    """`Checkpoint.fingerprint` of a folder of ours, from what its manifest says; None where it does
    not: the weights would have to be read for it. Raises InputError for a damaged manifest."""
    folder = standing(path)
    if not (folder / MANIFEST).exists():
        return None
    manifest = read_manifest(folder)
    if not manifest.weights:
        return None
    tokenizer = ChatTokenizer.load(folder / "tokenizer")
    return fingerprint(manifest.weights, tokenizer, {**prescribed(manifest.meta), **settings})


def prescribed(meta: Mapping[str, Any]) -> dict[str, Any]:
    """The sampler settings that a checkpoint brings along and that judging keeps.

    A repetition penalty (Qwen2's own 1.05 or 1.1 stands in released critics, whose greedy verdicts
    were made with it) and the length of an answer. Judging is greedy whatever else is in there.
    """
    generation = meta.get("generation") or {}
    names = ("repetition_penalty", "max_new_tokens")
    return {name: generation[name] for name in names if generation.get(name) is not None}


def save_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Write a checkpoint, in place of one of ours if it is there; it appears whole or not at all.

    On several processes all take part, each with what its devices hold, in a folder they share.
    Raises InputError if `path` is something other than a checkpoint of ours.
    """
    with _published_together(path.absolute()) as building:
        weights = _save_params(building / "params", checkpoint)
        if is_first():
            _save_rest(building, checkpoint, weights)


def send_checkpoint(place: epath.Path, checkpoint: Checkpoint) -> None:
    """Write a checkpoint behind a URL such as gs://bucket/runs/critic, in place of what is there.

    It has its manifest last, and without one it is no checkpoint. On several processes all take
    part, each with what its devices hold. Raises WorkError where writing fails.
    """
    if is_first() and place.exists():
        (place / MANIFEST).unlink(missing_ok=True)
        place.rmtree()
    wait_for_all(f"{place.name} begun")
    weights = _save_params(place / "params", checkpoint)
    if is_first():
        with tempfile.TemporaryDirectory() as name:
            _save_rest(Path(name), checkpoint, weights)
            sent(Path(name), str(place), quiet=True)
    wait_for_all(f"{place.name} written")


def _save_params(folder: Path | epath.Path, checkpoint: Checkpoint) -> str:
    """Write the parameters; returns their digest."""
    stacked = {p.weight.path for p in parameters(checkpoint.config) if p.weight.layers}
    options = ocp.options.ArrayOptions.Saving.StorageOptions

    def stored(path: Any, value: Any) -> Any:
        by_layer = tuple(str(key.key) for key in path) in stacked
        return options(chunk_byte_size=_CHUNK, shard_axes=(0,) if by_layer else None)

    context = ocp.Context()
    context.array.saving.scoped_storage_options_creator = stored
    with context:
        ocp.save(folder, checkpoint.params)
    return digest_of_params(checkpoint.config, checkpoint.params)


def _save_rest(folder: Path, checkpoint: Checkpoint, weights: str) -> None:
    """Write tokenizer and manifest."""
    checkpoint.tokenizer.save(folder / "tokenizer")
    write_manifest(folder, checkpoint.config, checkpoint.geometry, checkpoint.meta, weights)


@contextmanager
def _published_together(path: Path) -> Iterator[Path]:
    """`published` by the first process; the others find the folder that it made."""
    if is_first():
        with published(path, MANIFEST) as building:
            wait_for_all(f"{path.name} begun")
            yield building
            wait_for_all(f"{path.name} filled")
    else:
        wait_for_all(f"{path.name} begun")
        yield building_folder(path)
        wait_for_all(f"{path.name} filled")
    wait_for_all(f"{path.name} published")


def write_manifest(
    folder: Path,
    config: ModelConfig,
    geometry: ImageGeometry,
    meta: dict[str, Any],
    weights: str,
) -> None:
    """Write `critic.json`; comes last of all files."""
    manifest = {
        "format": FORMAT,
        "model": config.to_dict(),
        "geometry": geometry.to_dict(),
        "meta": meta,
        "weights": weights,
    }
    write_json(folder / MANIFEST, manifest)


@dataclass(frozen=True)
class Manifest:
    """What `critic.json` says; `weights` is empty in those that older versions wrote."""

    config: ModelConfig
    geometry: ImageGeometry
    meta: dict[str, Any]
    weights: str


def read_manifest(path: Path) -> Manifest:
    """The manifest of a checkpoint of ours. Raises InputError if it is damaged."""
    values = read_json(path / MANIFEST)
    if values.get("format") != FORMAT:
        raise InputError(f"{path / MANIFEST}: format {values.get('format')!r}, expected {FORMAT}")
    try:
        config = ModelConfig.from_dict(values["model"])
        geometry = ImageGeometry.from_dict(values["geometry"])
        return Manifest(config, geometry, dict(values["meta"]), values.get("weights", ""))
    except (KeyError, TypeError, ValueError) as e:
        raise InputError(f"{path / MANIFEST}: not a checkpoint's manifest ({e})") from None


def find_model(model: str | os.PathLike[str]) -> Path:
    """The folder of a model on this machine: ours or Hugging Face's; hub ids are downloaded.

    Raises InputError for anything else.
    """
    folder = standing(local_folder(model))
    if not folder.exists():
        raise InputError(f"{model}: no such checkpoint folder")
    if not (folder / MANIFEST).exists() and not (folder / "config.json").exists():
        raise InputError(f"{model}: holds neither {MANIFEST} (ours) nor config.json (Hugging Face)")
    return folder


def read_sizes(model: str | os.PathLike[str]) -> ModelConfig:
    """The sizes of a model on this machine; nothing but its manifest or config.json is read.

    Raises InputError for what is no model.
    """
    folder = find_model(model)
    if (folder / MANIFEST).exists():
        return read_manifest(folder).config
    return read_config(folder)[0]


def open_checkpoint(
    model: str | os.PathLike[str],
) -> tuple[ArrayReader | HuggingFaceFolder, Manifest, ChatTokenizer]:
    """A model without its parameters: what reads them block by block, manifest, tokenizer.

    A Hugging Face folder gets the manifest that converting it would write, without the digest.
    Raises InputError for what is no model, or is damaged.
    """
    folder = find_model(model)
    if (folder / MANIFEST).exists():
        manifest = read_manifest(folder)
        tokenizer = ChatTokenizer.load(folder / "tokenizer")
        return ArrayReader(folder / "params", manifest.config), manifest, tokenizer
    read = HuggingFaceFolder(folder)
    return read, Manifest(read.config, read.geometry, read.meta(str(model)), ""), read.tokenizer()


def load_checkpoint(
    model: str | os.PathLike[str], mesh: Mesh | None = None, hold: Hold | None = None
) -> Checkpoint:
    """Load a checkpoint of ours, a Hugging Face folder or a hub id, onto `mesh` (default: all
    devices). Parameters keep the type that they are stored in, unless `hold` turns each into
    something else: of a Hugging Face folder, before the next one is read.

    Raises InputError if `model` is none of them, or is damaged.
    """
    folder = find_model(model)
    mesh = mesh or make_mesh()
    if (folder / MANIFEST).exists():
        manifest = read_manifest(folder)
        params = _restore(folder / "params", manifest.config, mesh)
        if hold is not None:
            for param in parameters(manifest.config):
                path = param.weight.path
                set_in(params, path, hold(path, get_in(params, path), param.axes))
        tokenizer = ChatTokenizer.load(folder / "tokenizer")
        return Checkpoint(
            manifest.config, manifest.geometry, params, tokenizer, manifest.meta, manifest.weights
        )
    read = HuggingFaceFolder(folder)
    tokenizer = read.tokenizer()
    params = read_params(read, mesh, hold)
    return Checkpoint(read.config, read.geometry, params, tokenizer, read.meta(str(model)))


def _restore(path: Path, config: ModelConfig, mesh: Mesh) -> Params:
    reader = ArrayReader(path, config)
    target: Params = {}
    shardings = param_shardings(abstract(config)[1], mesh)
    for param in parameters(config):
        sharding = get_in(shardings, param.weight.path)
        shape = jax.ShapeDtypeStruct(param.shape, reader.dtype(param), sharding=sharding)
        set_in(target, param.weight.path, shape)
    try:
        # Not by Orbax, to which all processes of a run are one: each may load a model of its own.
        return read_tree(path, target)
    except (MemoryError, RuntimeError):  # the machine's fault, or the device's
        raise
    except Exception as e:  # of damaged files all sorts of things are raised
        lines = str(e).splitlines() or [type(e).__name__]
        said = f"{path}: not readable as this model's parameters ({lines[0][:300]})"
        raise InputError(said) from None
