"""An epoch of DPO on photographs, beside a concatenated step of torch: float32, on this CPU.

    python benchmarks/dpo.py

The same weights, pairs and loss on both sides: a decoder of Qwen2 0.5B's width with 6 layers and
its whole vocabulary, four layers of the real tower, 640x480 photographs (2,929 tokens), answers of
100 tokens. An epoch is the pass over the reference, then a step over all pairs, one at a time, with
AdamW. torch takes chosen and rejected as a batch of two, each with the picture, as LLaVA-NeXT's
trainer does; its reference is the start, asked before the step, so that it needs no second model
either. Each variant runs in a process of its own: once `write FOLDER` has made the weights,
`python benchmarks/dpo.py VARIANT FOLDER [PAIRS]`. Nothing else should run meanwhile.
"""

import json
import sys
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from beside_torch import (
    IMAGE,
    Clock,
    in_process,
    peak_gb,
    photographs,
    torch_model,
    torch_norm,
    torch_optimizer,
    write_weights,
)

from critic_jax.imaging import ImageGeometry, picture
from critic_jax.tree import Path as TokenPath
from critic_jax.tree import build, pack, size, token_keys

RATE, BETA = 5e-7, 0.1
PAIRS, SYSTEM, QUESTION, SAID = 2, 14, 40, 100
ADAM = 16
"""Bytes a parameter in float32: itself, its gradient, two moments."""


@dataclass(frozen=True)
class Variant:
    """share: "tree", "picture" (both answers in a row, each with its prompt, the tower once) or
    "nothing". at_once: answers that torch takes together.
    """

    side: str
    share: str = "tree"
    every_logit: bool = False
    at_once: int = 2


VARIANTS = {
    "torch": Variant("torch"),
    "torch, one answer at a time": Variant("torch", at_once=1),
    "torch, every logit": Variant("torch", every_logit=True),
    "critic_jax, each alone": Variant("jax", "nothing"),
    "critic_jax, picture once": Variant("jax", "picture"),
    "critic_jax, every logit": Variant("jax", every_logit=True),
    "critic_jax": Variant("jax"),
}


def pairs(count: int) -> list[tuple[TokenPath, TokenPath]]:
    """(chosen, rejected) below a picture each; random tokens, and other ones from the first on."""
    dice, found = np.random.default_rng(0), []
    for image in photographs(count):
        visual = picture(image, ImageGeometry())
        system, question, chosen, rejected = (
            dice.integers(1000, IMAGE - 646, length).astype(np.int32)
            for length in (SYSTEM, QUESTION, SAID, SAID)
        )
        seen = np.full(len(visual.tap_index), IMAGE, np.int32)
        both = []
        for answer in (chosen, rejected):
            tokens = np.concatenate([system, seen, question, answer])
            weights = np.zeros(len(tokens), np.float32)
            weights[-SAID:] = 1
            both.append(TokenPath(tokens, weights, (visual,), (SYSTEM,)))
        found.append((both[0], both[1]))
    return found


def rows(variant: Variant, asked: list[tuple[TokenPath, TokenPath]]) -> dict[str, Any]:
    """A row for each pair."""
    from critic_jax.data.pair_rows import pair_arrays

    if variant.share == "nothing":
        # Pictures that do not know that they are equal.
        asked = [
            (chosen, replace(rejected, visuals=tuple(replace(v, key="") for v in rejected.visuals)))
            for chosen, rejected in asked
        ]
    groups = [[0, 1]] if variant.share == "tree" else [[0], [1]]
    tiles = max(len(chosen.visuals[0].tiles) for chosen, _ in asked)
    tiles *= 2 if variant.share == "nothing" else 1
    longest = max(sum(size(build(token_keys(both), group)) for group in groups) for both in asked)
    arrays = []
    for both in asked:
        row = pack(both, groups, longest, tiles, (384, 384, 3), 729)
        arrays.append(pair_arrays(row, both, [], 1))
    batch = {name: np.stack([row[name] for row in arrays]) for name in arrays[0]}
    if variant.every_logit:  # their log-probabilities belong to no answer
        batch["weights"] = np.where(batch["weights"] == 0, np.float32(1e-30), batch["weights"])
    return batch | {"records": np.float32(len(asked))}


def run_jax(variant: Variant, folder: Path, count: int) -> dict[str, Any]:
    import jax
    import jax.numpy as jnp
    import optax

    from critic_jax.checkpoints.huggingface import HuggingFaceFolder, read_params
    from critic_jax.sharding import make_mesh
    from critic_jax.training.dpo import DpoLoss, make_dpo_step, make_reference
    from critic_jax.training.sft import StepOptions

    asked = pairs(count)
    batch = jax.device_put(rows(variant, asked))
    read = HuggingFaceFolder(folder)
    tx = optax.adamw(RATE, weight_decay=0.0)
    params = jax.tree.map(lambda p: p.astype(jnp.float32), read_params(read, make_mesh()))
    # A pair at a time, as the peer: no more need be in memory at once.
    options = StepOptions("products", count)
    dtype = jnp.dtype(jnp.float32)
    state = {"params": params, "opt_state": tx.init(params), "step": jnp.int32(0)}
    step = make_dpo_step(read.config, dtype, tx, DpoLoss(beta=BETA), options)
    clock = Clock()
    ask = make_reference(read.config, dtype, options).lower(params, batch).compile()
    take = step.lower(state, batch).compile()
    del params
    compiled = clock.lap()["seconds"]
    batch["reference"] = jax.block_until_ready(ask(state["params"], batch))
    parts = {"reference": clock.lap()}
    state, metrics = take(state, batch)
    jax.block_until_ready(state)
    parts["step"] = clock.lap()
    parameters = sum(leaf.size for leaf in jax.tree.leaves(state["params"]))
    return _result(parts, count, parameters) | {
        "reference": np.asarray(batch["reference"]).reshape(-1).tolist(),
        "loss": float(metrics["loss"]),
        "grad_norm": float(metrics["grad_norm"]),
        "compile_seconds": compiled,
    }


def run_torch(variant: Variant, folder: Path, count: int) -> dict[str, Any]:
    import torch

    model = torch_model(folder)
    optimizer = torch_optimizer(model, RATE)
    asked = pairs(count)

    def logprobs(answers: tuple[TokenPath, ...]) -> torch.Tensor:
        """The sum of each answer's; both are as long."""
        ids = torch.from_numpy(np.stack([path.tokens for path in answers])).long()
        tiles = np.stack([path.visuals[0].tiles for path in answers])
        pixels = (torch.from_numpy(tiles).float() / 255 - 0.5) / 0.5
        places = torch.arange(ids.shape[1] - SAID - 1, ids.shape[1] - 1)
        kept = {} if variant.every_logit else {"logits_to_keep": places}
        logits = model(
            input_ids=ids,
            pixel_values=pixels.permute(0, 1, 4, 2, 3),
            image_sizes=torch.tensor([[480, 640]] * len(answers)),
            use_cache=False,
            **kept,
        ).logits
        if variant.every_logit:  # as a trainer has them: of all places, then the answer's
            said = torch.log_softmax(logits[:, :-1], -1)
            picked = said.gather(2, ids[:, 1:, None])[..., 0]
            return picked[:, -SAID:].sum(1)
        said = torch.log_softmax(logits, -1)
        return said.gather(2, ids[:, -SAID:, None])[..., 0].sum(1)

    def both(pair: tuple[TokenPath, TokenPath]) -> torch.Tensor:
        if variant.at_once == 2:
            return logprobs(pair)
        return torch.cat([logprobs((answer,)) for answer in pair])

    clock = Clock()
    with torch.no_grad():
        references = [both(pair) for pair in asked]
    parts = {"reference": clock.lap()}
    total = 0.0
    for pair, reference in zip(asked, references, strict=True):
        change = both(pair) - reference
        loss = -torch.nn.functional.logsigmoid(BETA * (change[0] - change[1])) / count
        loss.backward()
        total += loss.item()
    optimizer.step()
    parts["step"] = clock.lap()
    result = _result(parts, count, sum(p.numel() for p in model.parameters()))
    return result | {
        "reference": torch.cat(references).tolist(),
        "loss": total,
        "grad_norm": torch_norm(model),
    }


def _result(parts: dict[str, dict[str, float]], count: int, parameters: int) -> dict[str, Any]:
    """Memory beyond what any trainer holds is a pair's: one is worked on at a time."""
    return {
        "pairs": count,
        "seconds": sum(part["seconds"] for part in parts.values()),
        "parts": parts,
        "peak_gb": peak_gb(),
        "pair_gb": peak_gb() - ADAM * parameters / 1e9,
    }


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        in_process("write", name)
        found: dict[str, dict[str, Any]] = {}
        for label in VARIANTS:
            found[label] = result = in_process(label, name)
            parts = {name: part["core_seconds"] for name, part in result["parts"].items()}
            print(
                f"{label:<28} {result['seconds']:6.1f} s an epoch, "
                f"{result['pairs'] / result['seconds']:.4f} pairs/s, of the processors "
                f"{parts['reference']:.1f} + {parts['step']:.1f} s; {result['peak_gb']:.2f} GB, "
                f"{result['pair_gb']:.2f} a pair; gradient {result['grad_norm']:.5f}, "
                f"first answer {result['reference'][0]:.4f}",
                flush=True,
            )
    _summary({label: result["seconds"] for label, result in found.items()})


def _summary(seconds: dict[str, float]) -> None:
    tuned = min(("torch", "torch, one answer at a time"), key=lambda label: seconds[label])
    ours = seconds["critic_jax"]
    print(f"beside the concatenated step: {seconds['torch'] / ours:.2f}x; beside the faster of")
    print(f"torch's ({tuned}): {seconds[tuned] / ours:.2f}x, of which")
    once = seconds["critic_jax, picture once"]
    print(f"  the tower once: {seconds['critic_jax, each alone'] / once:.2f}x")
    print(f"  picture and prompt once in the decoder: {once / ours:.2f}x")
    print(
        f"  logits where needed, ours: {seconds['critic_jax, every logit'] / ours:.2f}x; ", end=""
    )
    print(f"torch's: {seconds['torch, every logit'] / seconds['torch']:.2f}x")
    rest = seconds["torch"] / seconds["critic_jax, each alone"]
    print(f"  the rest, every answer by itself and logits where needed: {rest:.2f}x")


def child(word: str, folder: str, count: str = str(PAIRS)) -> dict[str, Any]:
    """What a process of its own does."""
    if word == "write":
        write_weights(Path(folder))
        return {}
    variant = VARIANTS[word]
    run = run_torch if variant.side == "torch" else run_jax
    return run(variant, Path(folder), int(count))


if __name__ == "__main__":
    if len(sys.argv) == 1:
        main()
    else:
        print(json.dumps(child(*sys.argv[1:])))
