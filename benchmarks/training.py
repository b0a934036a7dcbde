"""Training on judgments of photographs, beside transformers and torch: float32, on this CPU.

    python benchmarks/training.py

The same weights, sequences and loss on both sides: a decoder of Qwen2 0.5B's width with 6 layers
and its whole vocabulary, four layers of the real tower, 640x480 photographs, judgments of 900
tokens. Each variant runs in a process of its own, which says how long a step took (forward,
backward, AdamW), its largest memory, and how long compiling took before: `write FOLDER` makes the
weights, `python benchmarks/training.py VARIANT FOLDER` measures one. Nothing else should run
meanwhile.
"""

import json
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from beside_torch import (
    IMAGE,
    VOCABULARY,
    Clock,
    in_process,
    peak_gb,
    photographs,
    torch_model,
    torch_norm,
    torch_optimizer,
    write_weights,
)

from critic_jax.imaging import ImageGeometry, Visual, picture
from critic_jax.tree import Path as TokenPath
from critic_jax.tree import build, pack, size, token_keys

RATE = 2e-6


@dataclass(frozen=True)
class Variant:
    """judgments: of each picture. batch: records that torch takes at once."""

    side: str
    judgments: tuple[int, ...]
    share: bool = False
    every_logit: bool = False
    batch: int = 1


PLAIN, MANY = (1, 1), (3, 2)  # 2.5 judgments a picture
VARIANTS = {
    "torch, one by one": Variant("torch", PLAIN),
    "torch, two at once": Variant("torch", PLAIN, batch=2),
    "torch, every logit": Variant("torch", PLAIN, every_logit=True),
    "critic_jax": Variant("jax", PLAIN),
    "critic_jax, every logit": Variant("jax", PLAIN, every_logit=True),
    "2.5 judgments: torch, one by one": Variant("torch", MANY),
    "2.5 judgments: critic_jax, each alone": Variant("jax", MANY),
    "2.5 judgments: critic_jax": Variant("jax", MANY, share=True),
}


def records(judgments: tuple[int, ...]) -> list[tuple[Visual, TokenPath]]:
    """Prompts of 150 to 350 tokens below a picture, judgments of 900; random tokens."""
    dice, found = np.random.default_rng(0), []
    for image, count in zip(photographs(len(judgments)), judgments, strict=True):
        visual = picture(image, ImageGeometry())
        for _ in range(count):
            system = np.arange(14) + 100
            prompt = dice.integers(1000, 151_000, dice.integers(150, 351))
            answer = dice.integers(1000, 151_000, 900)
            seen = np.full(len(visual.tap_index), IMAGE)
            tokens = np.concatenate([system, seen, prompt, answer]).astype(np.int32)
            weights = np.zeros(len(tokens), np.float32)
            weights[-len(answer) :] = 1 / len(answer)
            found.append((visual, TokenPath(tokens, weights, (visual,), (len(system),))))
    return found


def run_jax(variant: Variant, folder: Path) -> dict[str, float]:
    import jax
    import jax.numpy as jnp
    import optax

    from critic_jax.checkpoints.huggingface import HuggingFaceFolder, read_params
    from critic_jax.sharding import make_mesh
    from critic_jax.training.sft import StepOptions, make_step

    paths = [path for _, path in records(variant.judgments)]
    ends = np.cumsum(variant.judgments)
    groups = [[n] for n in range(len(paths))]
    if variant.share:
        groups = [list(range(e - c, e)) for e, c in zip(ends, variant.judgments, strict=True)]
    keys = token_keys(paths)
    longest = max(size(build(keys, group)) for group in groups)
    tiles = max(len(paths[group[0]].visuals[0].tiles) for group in groups)
    rows = [pack(paths, [g], longest, tiles, (384, 384, 3), 729).arrays() for g in groups]
    batch = {name: np.stack([row[name] for row in rows]) for name in rows[0]}
    if variant.every_logit:  # weights too small to change the loss
        batch["weights"] = np.where(batch["weights"] == 0, np.float32(1e-30), batch["weights"])
    batch = jax.device_put(batch | {"records": np.float32(len(paths))})
    read = HuggingFaceFolder(folder)
    tx = optax.adamw(RATE, weight_decay=0.0)
    params = jax.tree.map(lambda p: p.astype(jnp.float32), read_params(read, make_mesh()))
    state = {"params": params, "opt_state": tx.init(params), "step": jnp.int32(0)}
    del params
    # A row at a time, as the peer takes a record: no more need be in memory at once.
    options = StepOptions("products", len(rows))
    step = make_step(read.config, jnp.dtype(jnp.float32), tx, options)
    clock = Clock()
    take = step.lower(state, batch).compile()
    compiled = clock.lap()["seconds"]
    state, metrics = take(state, batch)
    jax.block_until_ready(state)
    taken = clock.lap() | {"peak_gb": peak_gb()}
    used = sum(size(build(keys, group)) for group in groups) / (longest * len(groups))
    norm = float(metrics["grad_norm"])
    found = _result(paths, taken, float(metrics["loss"]), norm, used)
    return found | {"compile_seconds": compiled}


def run_torch(variant: Variant, folder: Path) -> dict[str, float]:
    import torch

    model = torch_model(folder)
    model.train()
    optimizer = torch_optimizer(model, RATE)
    of_records = records(variant.judgments)
    paths = [path for _, path in of_records]
    total, slots = 0.0, 0
    clock = Clock()
    for first in range(0, len(of_records), variant.batch):
        part = of_records[first : first + variant.batch]
        longest = max(len(path) for _, path in part)
        slots += longest * len(part)
        ids = torch.zeros(len(part), longest, dtype=torch.long)
        mask, labels = torch.zeros_like(ids), torch.full_like(ids, -100)
        for n, (_, path) in enumerate(part):
            end = len(path)
            ids[n, :end], mask[n, :end] = torch.from_numpy(path.tokens).long(), 1
            labels[n, end - 900 : end] = ids[n, end - 900 : end]
        tiles = np.stack([visual.tiles for visual, _ in part])
        pixels = (torch.from_numpy(tiles).float() / 255 - 0.5) / 0.5
        kept: dict[str, torch.Tensor] = {}
        targets = labels[:, 1:]
        if not variant.every_logit:
            # One choice of places for the whole batch is all that the model offers.
            places = (targets != -100).any(0).nonzero()[:, 0]
            kept, targets = {"logits_to_keep": places}, targets[:, places]
        logits = model(
            input_ids=ids,
            attention_mask=mask if variant.batch > 1 else None,
            pixel_values=pixels.permute(0, 1, 4, 2, 3),
            image_sizes=torch.tensor([[480, 640]] * len(part)),
            use_cache=False,
            **kept,
        ).logits
        logits = logits if kept else logits[:, :-1]
        # All judgments are as long: the mean over tokens is the mean over records.
        loss = torch.nn.functional.cross_entropy(
            logits.reshape(-1, VOCABULARY), targets.reshape(-1), ignore_index=-100
        )
        loss = loss * len(part) / len(of_records)
        loss.backward()
        total += loss.item()
    optimizer.step()
    taken = clock.lap() | {"peak_gb": peak_gb()}
    norm = torch_norm(model)
    return _result(paths, taken, total, norm, sum(map(len, paths)) / slots)


def _result(
    paths: list[TokenPath], taken: dict[str, float], loss: float, norm: float, used: float
) -> dict[str, float]:
    return taken | {
        "loss": loss,
        "grad_norm": norm,
        "useful_tokens": sum(map(len, paths)),
        "slots_in_use": used,
    }


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        in_process("write", name)
        found: dict[str, dict[str, float]] = {}
        for label in VARIANTS:
            found[label] = result = in_process(label, name)
            rate = result["useful_tokens"] / result["seconds"]
            print(
                f"{label:<38} {result['seconds']:6.1f} s a step, "
                f"{result['core_seconds']:.1f} of the processors, {rate:6.1f} useful tokens/s, "
                f"slots in use {100 * result['slots_in_use']:5.1f} %, {result['peak_gb']:.2f} GB, "
                f"loss {result['loss']:.6f}, gradient {result['grad_norm']:.6f}, "
                f"compiled in {result.get('compile_seconds', 0):.1f} s",
                flush=True,
            )
    _summary(found)


def _summary(found: dict[str, dict[str, float]]) -> None:
    def seconds(label: str) -> float:
        return found[label]["seconds"]

    tuned = min(("torch, one by one", "torch, two at once"), key=seconds)
    many = "2.5 judgments: "
    print(f"plain sequences: {seconds(tuned) / seconds('critic_jax'):.2f}x")
    peer, ours = seconds(f"{many}torch, one by one"), seconds(f"{many}critic_jax")
    print(f"2.5 judgments a picture: {peer / ours:.2f}x, of which")
    print(f"  trunks shared: {seconds(f'{many}critic_jax, each alone') / ours:.2f}x")
    padding = found["critic_jax"]["slots_in_use"] / found[tuned]["slots_in_use"]
    print(f"  slots in use, plain sequences: {padding:.2f}x")
    every, needed = seconds("critic_jax, every logit"), seconds("critic_jax")
    print(f"  logits where needed, ours: {every / needed:.2f}x; ", end="")
    print(f"torch's: {seconds('torch, every logit') / seconds('torch, one by one'):.2f}x")
    print(f"  the rest, plain and with every logit: {seconds('torch, every logit') / every:.2f}x")


if __name__ == "__main__":
    if len(sys.argv) == 1:
        main()
    elif sys.argv[1] == "write":
        write_weights(Path(sys.argv[2]))
        print("{}")
    else:
        chosen = VARIANTS[sys.argv[1]]
        run = run_torch if chosen.side == "torch" else run_jax
        print(json.dumps(run(chosen, Path(sys.argv[2]))))
