"""Convert and export a model of real size, beside Orbax's own save and a plain copy.

    python benchmarks/weights.py --model 7b --folder /some/disk

Needs four times the model's size on the disk (7b: 64 GB), of which nothing is left in the end, and
for Orbax several times the largest parameter in memory (7b: 3.8 GB). Weights are random bits of a
normal distribution in bfloat16, in four shards of the lmms-lab layout.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import time
from functools import cache
from pathlib import Path

import ml_dtypes
import numpy as np

from critic_jax.checkpoints.blocks import parameters
from critic_jax.checkpoints.hf_settings import original_config
from critic_jax.checkpoints.tensor_writer import Planned, ShardWriter, plan_shards, write_index
from critic_jax.checkpoints.weights import LAYOUTS
from critic_jax.imaging import ImageGeometry
from critic_jax.models.config import PRESETS, ModelConfig
from critic_jax.text import train_tokenizer

BFLOAT16 = np.dtype(ml_dtypes.bfloat16)


@cache
def drawn() -> np.ndarray:
    """Drawn once: 8e9 values would take minutes."""
    values = np.random.default_rng(0).normal(0, 0.02, 2**25).astype(np.float32)
    return values.astype(BFLOAT16)


def random_bits(count: int, seed: int) -> np.ndarray:
    """bfloat16 values, begun elsewhere in those drawn for every seed, and repeated."""
    start = seed * 7919 % 2**20
    part = drawn()[start : start + count]
    return part if len(part) == count else np.resize(part, count)


def make_source(config: ModelConfig, folder: Path) -> int:
    """A model in the lmms-lab layout; returns its bytes."""
    folder.mkdir(parents=True)
    tokenizer = train_tokenizer(["a critic"], 300)
    tokenizer.save(folder)
    values = original_config(config, ImageGeometry(), "bfloat16", tokenizer)
    (folder / "config.json").write_text(json.dumps(values))
    planned = [
        Planned(key, BFLOAT16, p.weight.stored_shape(p.each))
        for p in parameters(config)
        for key in p.weight.keys(LAYOUTS["original"])
    ]
    total = sum(t.nbytes for t in planned)
    shards = plan_shards(planned, max(total // 4 + 10**9, 10**9))
    for file, tensors in shards.items():
        with ShardWriter(folder / file, tensors) as writer:
            for seed, tensor in enumerate(tensors):
                writer.write(random_bits(tensor.nbytes // 2, seed))
    write_index(folder, shards)
    return total


def orbax_save(config: ModelConfig, folder: Path) -> dict[str, float]:
    """Seconds that Orbax takes to save the same arrays, one after the other."""
    import orbax.checkpoint.experimental.v1 as ocp

    seconds = 0.0
    for seed, param in enumerate(parameters(config)):
        values = random_bits(int(np.prod(param.shape)), seed).reshape(param.shape)
        began = time.perf_counter()
        ocp.save(folder / "leaf", {"leaf": values}, overwrite=True)
        seconds += time.perf_counter() - began
        del values
        shutil.rmtree(folder / "leaf")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9
    return {"seconds": round(seconds, 1), "peak_memory_gb": round(peak, 2)}


def plain_copy(source: Path, target: Path) -> dict[str, float]:
    """Seconds to copy the weights' files with an fsync each."""
    target.mkdir()
    began = time.perf_counter()
    for file in sorted(source.glob("*.safetensors")):
        with file.open("rb") as read, (target / file.name).open("wb") as write:
            shutil.copyfileobj(read, write, 16 * 2**20)
            write.flush()
            os.fsync(write.fileno())
    seconds = time.perf_counter() - began
    shutil.rmtree(target)
    return {"seconds": round(seconds, 1)}


def verb(*words: str) -> dict[str, float]:
    """Run a verb of critic-jax in a process of its own, as a user would."""
    call = [sys.executable, "-c", "import sys; from critic_jax.cli import main; sys.exit(main())"]
    done = subprocess.run([*call, *words, "--json"], check=True, capture_output=True, text=True)
    said = json.loads(done.stdout)
    return {name: said[name] for name in ("seconds", "peak_memory_gb")}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", default="7b", choices=PRESETS)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--orbax-only", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    config, folder = PRESETS[options.model](), options.folder
    if options.orbax_only:
        print(json.dumps(orbax_save(config, folder)))
        return
    source, ours = folder / "source", folder / "ours"
    results: dict[str, dict[str, float]] = {}
    size = make_source(config, source)
    try:
        results["plain copy, fsync"] = plain_copy(source, folder / "copy")
        results["convert"] = verb("convert", str(source), str(ours))
        again = [sys.executable, __file__, "--model", options.model, "--folder", str(folder)]
        done = subprocess.run([*again, "--orbax-only"], check=True, capture_output=True, text=True)
        results["Orbax's own save"] = json.loads(done.stdout.splitlines()[-1])
        for layout in ("hf", "lmms-lab"):
            target = folder / layout
            results[f"export --layout {layout}"] = verb(
                "export", str(ours), str(target), "--layout", layout
            )
            shutil.rmtree(target)
    finally:
        for made in (source, ours):
            shutil.rmtree(made, ignore_errors=True)
    print(f"{size / 1e9:.2f} GB of weights")
    print("| what | seconds | GB/s | peak GB |\n|---|---|---|---|")
    for what, found in results.items():
        rate = size / 1e9 / found["seconds"]
        print(f"| {what} | {found['seconds']} | {rate:.2f} | {found.get('peak_memory_gb', '')} |")


if __name__ == "__main__":
    main()
