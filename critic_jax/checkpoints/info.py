"""What a checkpoint is, in words and numbers."""

from __future__ import annotations

import math
import os
from typing import Any

from critic_jax.checkpoints.arrays import ArrayReader
from critic_jax.checkpoints.blocks import Param, blocks, parameters
from critic_jax.checkpoints.fingerprint import WeightsDigest, fingerprint
from critic_jax.checkpoints.huggingface import HuggingFaceFolder
from critic_jax.checkpoints.store import MANIFEST, find_model, prescribed, read_manifest
from critic_jax.progress import progress
from critic_jax.text import ChatTokenizer


def describe(model: str | os.PathLike[str]) -> dict[str, Any]:
    """Layout, sizes, parameters by part, types, provenance, sampler settings and fingerprint.

    A checkpoint of ours has the digest of its weights written down; those of a Hugging Face folder
    are read once through, which takes as long as the disk does. Raises InputError if `model` is
    neither, or is damaged.
    """
    folder = find_model(model)
    if (folder / MANIFEST).exists():
        manifest = read_manifest(folder)
        config, geometry, meta = manifest.config, manifest.geometry, manifest.meta
        source: ArrayReader | HuggingFaceFolder = ArrayReader(folder / "params", config)
        tokenizer, layout = ChatTokenizer.load(folder / "tokenizer"), "critic_jax"
        weights = manifest.weights
    else:
        source = HuggingFaceFolder(folder)
        config, geometry, meta = source.config, source.geometry, source.meta(str(model))
        tokenizer, layout, weights = source.tokenizer(), "huggingface", ""
        meta["shards"] = len(source.files)
    found = parameters(config)
    parts: dict[str, int] = {}
    for param in found:
        part = param.weight.path[0]
        parts[part] = parts.get(part, 0) + math.prod(param.shape)
    sampler = prescribed(meta)
    meta = {name: value for name, value in meta.items() if name != "source"}
    return {
        "path": str(model),
        "layout": layout,
        "fingerprint": fingerprint(weights or _digest(source, found), tokenizer, sampler),
        "parameters": sum(parts.values()),
        "parameters_by_part": parts,
        "dtype": ", ".join(sorted({source.dtype(p).name for p in found})),
        "sampler": {"temperature": 0, "repetition_penalty": 1.0, **sampler},
        "model": config.to_dict(),
        "geometry": geometry.to_dict(),
        "meta": meta,
    }


def _digest(source: ArrayReader | HuggingFaceFolder, found: tuple[Param, ...]) -> str:
    digest = WeightsDigest()
    with progress() as bar:
        for param in bar.track(found, description="reading weights"):
            for block in blocks(param, source.dtype(param).itemsize):
                digest.add(block, source.read(block))
    return digest.hexdigest()
