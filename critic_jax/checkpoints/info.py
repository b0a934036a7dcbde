"""What a checkpoint is, in words and numbers."""

from __future__ import annotations

import os
from typing import Any

from critic_jax.checkpoints.arrays import ArrayReader
from critic_jax.checkpoints.blocks import Param, blocks, parameters, parts_of
from critic_jax.checkpoints.fingerprint import WeightsDigest, fingerprint
from critic_jax.checkpoints.huggingface import HuggingFaceFolder
from critic_jax.checkpoints.store import open_checkpoint, prescribed
from critic_jax.progress import progress


def describe(model: str | os.PathLike[str]) -> dict[str, Any]:
    """Layout, sizes, parameters by part, types, provenance, sampler settings and fingerprint.

    A checkpoint of ours has the digest of its weights written down; those of a Hugging Face folder
    are read once through, which takes as long as the disk does. Raises InputError if `model` is
    neither, or is damaged.
    """
    source, manifest, tokenizer = open_checkpoint(model)
    layout = "huggingface" if isinstance(source, HuggingFaceFolder) else "critic_jax"
    found = parameters(manifest.config)
    parts = parts_of(found)
    sampler = prescribed(manifest.meta)
    meta = {name: value for name, value in manifest.meta.items() if name != "source"}
    if isinstance(source, HuggingFaceFolder):
        meta["shards"] = len(source.files)
    weights = manifest.weights or _digest(source, found)
    return {
        "path": str(model),
        "layout": layout,
        "fingerprint": fingerprint(weights, tokenizer, sampler),
        "parameters": sum(parts.values()),
        "parameters_by_part": parts,
        "dtype": ", ".join(sorted({source.dtype(p).name for p in found})),
        "sampler": {"temperature": 0, "repetition_penalty": 1.0, **sampler},
        "model": manifest.config.to_dict(),
        "geometry": manifest.geometry.to_dict(),
        "meta": meta,
    }


def _digest(source: ArrayReader | HuggingFaceFolder, found: tuple[Param, ...]) -> str:
    digest = WeightsDigest()
    with progress() as bar:
        for param in bar.track(found, description="reading weights"):
            for block in blocks(param, source.dtype(param).itemsize):
                digest.add(block, source.read(block))
    return digest.hexdigest()
