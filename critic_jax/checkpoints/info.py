"""What a checkpoint is, in words and numbers, from its metadata alone."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from critic_jax.checkpoints.huggingface import nested_shapes, read_config, shards
from critic_jax.checkpoints.store import MANIFEST, read_manifest, standing
from critic_jax.errors import InputError


def describe(path: Path) -> dict[str, Any]:
    """Layout, sizes, parameters by part, and provenance of a checkpoint folder.

    Raises InputError if it is neither ours nor a Hugging Face folder.
    """
    folder = standing(path)
    if (folder / MANIFEST).exists():
        config, geometry, meta = read_manifest(folder)
        layout = "critic_jax"
    elif (folder / "config.json").exists():
        config, geometry = read_config(folder)
        meta = {"shards": len(shards(folder))}
        layout = "huggingface"
    else:
        raise InputError(f"{path}: neither a checkpoint of ours nor a Hugging Face folder")
    parts: dict[str, int] = {}
    for name, shape in nested_shapes(config).items():
        parts[name[0]] = parts.get(name[0], 0) + math.prod(shape)
    return {
        "path": str(path),
        "layout": layout,
        "parameters": sum(parts.values()),
        "parameters_by_part": parts,
        "model": config.to_dict(),
        "geometry": geometry.to_dict(),
        "meta": meta,
    }
