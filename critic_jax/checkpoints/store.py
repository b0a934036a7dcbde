"""Our checkpoint, a folder:

- `critic.json`: format, sizes, picture geometry, step, provenance;
- `params/`: Orbax, one array a parameter (layers stacked);
- `tokenizer/`: what the tokenizer was loaded from, or tokenizer.json.
"""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint.experimental.v1 as ocp
from flax import nnx
from jax.sharding import Mesh

from critic_jax.checkpoints.huggingface import read_config, read_json, read_params
from critic_jax.errors import InputError
from critic_jax.files import write_json
from critic_jax.imaging import ImageGeometry
from critic_jax.models.build import Params, abstract
from critic_jax.models.config import ModelConfig
from critic_jax.sharding import make_mesh, param_shardings
from critic_jax.text import ChatTokenizer

MANIFEST = "critic.json"
FORMAT = 1


@dataclass
class Checkpoint:
    """A model's parameters with everything needed to use them.

    `meta` holds name, step, provenance and settings of generation.
    """

    config: ModelConfig
    geometry: ImageGeometry
    params: Params
    tokenizer: ChatTokenizer
    meta: dict[str, Any]


def save_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Write a checkpoint, in place of one of ours if it is there; it appears whole or not at all.

    Raises InputError if `path` is something other than a checkpoint of ours.
    """
    path = path.absolute()
    if path.exists() and not (path / MANIFEST).exists():
        raise InputError(f"{path}: exists and is no checkpoint; name another folder")
    building = path.with_name(f".{path.name}.building")
    shutil.rmtree(building, ignore_errors=True)
    building.mkdir(parents=True)
    ocp.save(building / "params", checkpoint.params)
    checkpoint.tokenizer.save(building / "tokenizer")
    manifest = {
        "format": FORMAT,
        "model": checkpoint.config.to_dict(),
        "geometry": checkpoint.geometry.to_dict(),
        "meta": checkpoint.meta,
    }
    write_json(building / MANIFEST, manifest)
    aside = _aside(path)
    if path.exists():
        shutil.rmtree(aside, ignore_errors=True)
        os.replace(path, aside)
    os.replace(building, path)
    shutil.rmtree(aside, ignore_errors=True)


def standing(path: str | os.PathLike[str]) -> Path:
    """Where the checkpoint of `path` stands: aside, if a kill cut a save between its two moves."""
    folder = Path(path).absolute()
    aside = _aside(folder)
    return aside if not folder.exists() and aside.exists() else folder


def _aside(path: Path) -> Path:
    return path.with_name(f".{path.name}.old")


def read_manifest(path: Path) -> tuple[ModelConfig, ImageGeometry, dict[str, Any]]:
    """Sizes, geometry and meta of a checkpoint of ours, without its parameters."""
    values = read_json(path / MANIFEST)
    if values.get("format") != FORMAT:
        raise InputError(f"{path / MANIFEST}: format {values.get('format')!r}, expected {FORMAT}")
    try:
        config = ModelConfig.from_dict(values["model"])
        return config, ImageGeometry.from_dict(values["geometry"]), values["meta"]
    except (KeyError, TypeError) as e:
        raise InputError(f"{path / MANIFEST}: not a checkpoint's manifest ({e})") from None


def load_checkpoint(path: str | os.PathLike[str], mesh: Mesh | None = None) -> Checkpoint:
    """Load a checkpoint of ours, or a Hugging Face folder, onto `mesh` (default: all devices).

    Raises InputError if `path` is neither, or is damaged.
    """
    folder = standing(path)
    mesh = mesh or make_mesh()
    if (folder / MANIFEST).exists():
        config, geometry, meta = read_manifest(folder)
        params = _restore(folder / "params", config, mesh)
        tokenizer = ChatTokenizer.load(folder / "tokenizer")
        return Checkpoint(config, geometry, params, tokenizer, meta)
    if (folder / "config.json").exists():
        config, geometry = read_config(folder)
        params, layout = read_params(folder, config)
        params = jax.device_put(params, param_shardings(abstract(config)[1], mesh))
        meta = {"name": folder.name, "layout": layout, "generation": _generation(folder)}
        return Checkpoint(config, geometry, params, ChatTokenizer.load(folder), meta)
    if not folder.exists():
        raise InputError(f"{path}: no such checkpoint folder")
    raise InputError(f"{path}: holds neither {MANIFEST} (ours) nor config.json (Hugging Face)")


def _restore(path: Path, config: ModelConfig, mesh: Mesh) -> Params:
    _, state = abstract(config)
    shapes = nnx.to_pure_dict(state)
    target = jax.tree.map(
        lambda v, s: jax.ShapeDtypeStruct(v.shape, v.dtype, sharding=s),
        shapes,
        param_shardings(state, mesh),
    )
    try:
        return ocp.load(path, target)
    except (MemoryError, RuntimeError):  # the machine's fault, or the device's
        raise
    except Exception as e:  # of damaged files Orbax raises all sorts of things, Exception included
        lines = str(e).splitlines() or [type(e).__name__]
        said = f"{path}: not readable as this model's parameters ({lines[0][:300]})"
        raise InputError(said) from None


def _generation(folder: Path) -> dict[str, Any]:
    """Sampler settings that a Hugging Face folder brings along, such as its repetition penalty."""
    path = folder / "generation_config.json"
    return read_json(path) if path.exists() else {}
