"""From a checkpoint to files that torch tools load."""

from __future__ import annotations

import json
import math
import time
from pathlib import Path
from typing import Any, Literal

import numpy as np

from critic_jax import __version__
from critic_jax.checkpoints.blocks import Block, ahead, blocks, parameters
from critic_jax.checkpoints.convert import peak_memory_gb
from critic_jax.checkpoints.fingerprint import WeightsDigest, fingerprint
from critic_jax.checkpoints.hf_settings import (
    CHAT_TEMPLATE,
    generation_settings,
    merged,
    original_config,
    processor_files,
    transformers_config,
)
from critic_jax.checkpoints.huggingface import HuggingFaceFolder
from critic_jax.checkpoints.model_card import model_card
from critic_jax.checkpoints.publish import published
from critic_jax.checkpoints.store import Manifest, open_checkpoint, prescribed
from critic_jax.checkpoints.tensor_files import DTYPES
from critic_jax.checkpoints.tensor_writer import Planned, ShardWriter, plan_shards, write_index
from critic_jax.checkpoints.weights import LAYOUTS
from critic_jax.progress import progress
from critic_jax.text import ChatTokenizer

Layout = Literal["lmms-lab", "hf"]
Dtype = Literal["bfloat16", "float16", "float32"]

# `hf`: the names that the hub's ports have, which every release of transformers reads.
_KEYS = {"lmms-lab": "original", "hf": "hf-old"}
SHARD = 5 * 10**9


def export(
    source: str, target: Path, layout: Layout, dtype: Dtype | None = None, shard: int = SHARD
) -> dict[str, Any]:
    """Write the model `source` (ours, a Hugging Face folder or a hub id) for torch, at `target`.

    dtype: cast to it; by default values keep their bits. shard: bytes of a file at most. Memory
    does not grow with the model. `target` appears whole or not at all, and is never replaced.
    Returns what was written. Raises InputError for a damaged source or a target that exists.
    """
    began = time.perf_counter()
    read, manifest, tokenizer = open_checkpoint(source)
    params = parameters(manifest.config)
    cast = next((d for d in DTYPES.values() if d.name == dtype), None)
    digest = WeightsDigest()
    with published(target) as building, progress() as bar:
        keys = {p.weight.path: p.weight.keys(LAYOUTS[_KEYS[layout]]) for p in params}
        planned = [
            Planned(key, cast or read.dtype(p), p.weight.stored_shape(p.each))
            for p in params
            for key in keys[p.weight.path]
        ]
        shards = plan_shards(planned, shard)
        total = sum(t.nbytes for t in planned)
        task = bar.add_task("exporting, MB", total=total // 10**6)

        def fetch(block: Block) -> np.ndarray:
            tensor = read.read(block)
            if cast is not None:
                tensor = tensor.astype(cast)
            digest.add(block, tensor)
            return tensor

        every = (b for p in params for b in blocks(p, read.dtype(p).itemsize))
        fetched = ahead(fetch, every)
        written = 0
        for file, tensors in shards.items():
            size = sum(t.nbytes for t in tensors)
            with ShardWriter(building / file, tensors) as shard_file:
                while size:
                    _, values = next(fetched)
                    shard_file.write(values)
                    size -= values.nbytes
                    written += values.nbytes
                    bar.update(task, completed=written // 10**6)
        write_index(building, shards)
        weights = digest.hexdigest()
        name = target.absolute().name
        types = ", ".join(sorted({t.dtype.name for t in planned}))
        stamp = fingerprint(weights, tokenizer, prescribed(manifest.meta))
        _write_settings(building, name, layout, types, manifest, tokenizer, stamp)
        HuggingFaceFolder(building)  # what was written reads back: names, shapes, config
    return {
        "source": source,
        "target": str(target),
        "layout": layout,
        "dtype": types,
        "tensors": len(planned),
        "parameters": sum(math.prod(p.shape) for p in params),
        "files": len(shards),
        "fingerprint": stamp,
        "seconds": round(time.perf_counter() - began, 1),
        "peak_memory_gb": peak_memory_gb(),
    }


def _write_settings(
    folder: Path,
    name: str,
    layout: Layout,
    dtype: str,
    manifest: Manifest,
    tokenizer: ChatTokenizer,
    stamp: str,
) -> None:
    config, geometry, meta = manifest.config, manifest.geometry, manifest.meta
    kept = meta.get("source", {})
    came_with = kept.get("config.json", {})
    torch_dtype = dtype if "," not in dtype else "float32"
    rows = config.decoder.vocab_size
    if layout == "hf":
        # Without a row to spare there is no <video>; the id then lies beyond every id in use.
        video = tokenizer.added("<video>")
        video = tokenizer.vocab_size if video is None else video
        files = tokenizer.files_with({"<image>": tokenizer.image, "<video>": video}, rows)
        made = transformers_config(config, geometry, torch_dtype, tokenizer, video)
        same = "text_config" in came_with
        template = files.get("chat_template.jinja", b"").decode() or CHAT_TEMPLATE
        files |= {n: t.encode() for n, t in processor_files(geometry, template).items()}
    else:
        files = tokenizer.files
        made = original_config(config, geometry, torch_dtype, tokenizer)
        same = "mm_vision_tower" in came_with
    if same:  # the family that it came in: what we don't model is given back as it was
        made = merged(made, came_with)
        others = {n: v for n, v in kept.items() if n != "config.json"}
        files |= {n: (json.dumps(v, indent=2) + "\n").encode() for n, v in others.items()}
    settings = generation_settings(meta.get("generation") or {}, tokenizer)
    files["config.json"] = (json.dumps(made, indent=2) + "\n").encode()
    files["generation_config.json"] = (json.dumps(settings, indent=2) + "\n").encode()
    for file, content in files.items():
        (folder / file).write_bytes(content)
    base = meta.get("base") or meta.get("from")
    facts = {
        "made from": base and (base if _is_hub_id(base) else Path(base).name),
        "training steps": meta.get("step"),
        "parameters": f"{sum(math.prod(p.shape) for p in parameters(config)):,}",
        "type": dtype,
        "fingerprint": f"`{stamp}`",
        "exported by": f"critic_jax {__version__}, layout `{layout}`",
    }
    card = model_card(name, layout, facts, base if base and _is_hub_id(base) else None)
    (folder / "README.md").write_text(card, encoding="utf-8")


def _is_hub_id(name: str) -> bool:
    """A folder's path says nothing to others, and may say too much."""
    return name.count("/") == 1 and name[0] not in "./~"
