"""From a Hugging Face folder to a checkpoint of ours, block by block."""

from __future__ import annotations

import math
import os
import resource
import time
from pathlib import Path
from typing import Any

import numpy as np

from critic_jax.checkpoints.arrays import ArrayWriter
from critic_jax.checkpoints.blocks import Block, ahead, blocks
from critic_jax.checkpoints.fingerprint import WeightsDigest
from critic_jax.checkpoints.huggingface import HuggingFaceFolder
from critic_jax.checkpoints.publish import published
from critic_jax.checkpoints.store import MANIFEST, find_model, write_manifest
from critic_jax.errors import InputError
from critic_jax.progress import progress

# The bits of an exponent of ones, which only infinities and NaN have.
_EXPONENT: dict[str, Any] = {
    "bfloat16": np.uint16(0x7F80),
    "float16": np.uint16(0x7C00),
    "float32": np.uint32(0x7F800000),
}


def convert(source: str, target: Path) -> dict[str, Any]:
    """Write the model `source` (a folder or hub id) as a checkpoint at `target`.

    Values keep their bits and their type. Memory does not grow with the model: a few blocks are
    held at a time. `target` appears whole or not at all. Returns what was read, how long it took
    and the most memory that the process ever held; `warnings` names tensors with values that are
    not finite. Raises InputError for a damaged source, before anything is written where possible.
    """
    began = time.perf_counter()
    folder = find_model(source)
    if (folder / MANIFEST).exists():
        raise InputError(f"{source}: is a checkpoint of critic_jax already; nothing to convert")
    read = HuggingFaceFolder(folder)
    tokenizer = read.tokenizer()
    digest = WeightsDigest()
    warnings: list[str] = []
    tensors = 0
    with published(target, MANIFEST) as building, progress() as bar:
        total = sum(math.prod(p.shape) * read.dtype(p).itemsize for p in read.params)
        task = bar.add_task("converting, MB", total=total // 10**6)
        moved = 0
        with ArrayWriter(building / "params") as writer:
            for param in read.params:
                writer.create(param, read.dtype(param))

            def look(block: Block) -> tuple[np.ndarray, bool]:
                tensor = read.read(block)
                digest.add(block, tensor)
                return tensor, finite(tensor)

            every = (b for p in read.params for b in blocks(p, read.dtype(p).itemsize))
            for block, (tensor, sound) in ahead(look, every):
                key = read.keys(block.param)[block.layer or 0]
                if not sound and key not in warnings:
                    warnings.append(key)
                writer.write(block, block.param.weight.read(tensor, block.shape))
                tensors += block.part.start == 0
                moved += tensor.nbytes
                bar.update(task, completed=moved // 10**6)
        tokenizer.save(building / "tokenizer")
        meta = read.meta(source)
        weights = digest.hexdigest()
        write_manifest(building, read.config, read.geometry, meta, weights)
    return {
        "source": source,
        "target": str(target),
        "layout": read.layout,
        "dtype": meta["dtype"],
        "tensors": tensors,
        "parameters": sum(math.prod(p.shape) for p in read.params),
        "passed_over": len(read.passed_over),
        "seconds": round(time.perf_counter() - began, 1),
        "peak_memory_gb": peak_memory_gb(),
        "warnings": [f"{key} holds values that are NaN or infinite" for key in warnings],
    }


def finite(tensor: np.ndarray) -> bool:
    """Whether no value is NaN or infinite; quicker than numpy's own test for 16 bits."""
    ones = _EXPONENT[tensor.dtype.name]
    words = tensor.reshape(-1).view(ones.dtype)
    buffer = np.empty(min(len(words), 2**19), ones.dtype)  # small enough to stay in the cache
    for at in range(0, len(words), len(buffer)):
        part = words[at : at + len(buffer)]
        if np.bitwise_and(part, ones, out=buffer[: len(part)]).max() == ones:
            return False
    return True


def peak_memory_gb() -> float:
    """The most memory that this process ever held, in GB (10^9 bytes)."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    unit = 1 if os.uname().sysname == "Darwin" else 1024
    return round(peak * unit / 1e9, 2)
