"""Rankings and rollouts beside transformers' `generate`: float32, on this machine.

    python benchmarks/rank.py

Five answers of 100 tokens about a 640x480 photograph, all 20 ordered pairs, 32 new tokens a
judgment, greedy; prompts as long as the default ranking's, of random tokens. Then five sampled
answers of 100 tokens to one prompt. A decoder of Qwen2 0.5B's width with 6 layers and its whole
vocabulary, four layers of the real tower; the same weights on both sides. Each variant runs in a
process of its own: `python benchmarks/rank.py VARIANT FOLDER`, once `write FOLDER` has made the
weights. Nothing else should run meanwhile. Where there is a GPU, the decoder of 7B is measured too.
"""

import json
import sys
import tempfile
import time
from dataclasses import dataclass, replace
from itertools import pairwise, permutations
from pathlib import Path
from typing import Any

import numpy as np
from beside_torch import IMAGE, in_process, peak_gb, photographs, torch_model, write_weights

from critic_jax.imaging import ImageGeometry, picture
from critic_jax.tree import Path as TokenPath

ANSWERS, JUDGED, SAID = 5, 32, 100
SOME = 4  # of the 20 judgments, where each costs the same
TEMPERATURE = 1.0


@dataclass(frozen=True)
class Variant:
    """batch: judgments, or answers, at once. pairs: how many of the 20. share: None (each prompt by
    itself), "trunk" (up to the first answer) or "tree"."""

    side: str
    batch: int
    pairs: int = ANSWERS * (ANSWERS - 1)
    share: str | None = None
    picture_once: bool = False
    rollouts: bool = False


PEERS = (1, 2, 4, 10)
VARIANTS = {
    **{f"torch, {n} at once, some": Variant("torch", n, max(n, SOME)) for n in PEERS},
    **{f"torch, {n} at once": Variant("torch", n) for n in PEERS},
    "critic_jax, each alone": Variant("jax", 1, SOME),
    "critic_jax, picture once": Variant("jax", 1, SOME, picture_once=True),
    "critic_jax, trunk once": Variant("jax", 1, share="trunk"),
    "critic_jax, tree, one branch at a time": Variant("jax", 1, share="tree"),
    "critic_jax": Variant("jax", 20, share="tree"),
    "torch, rollouts": Variant("torch", ANSWERS, rollouts=True),
    "critic_jax, rollouts": Variant("jax", ANSWERS, rollouts=True),
}


def prompts(variant: Variant) -> list[TokenPath]:
    """Random tokens in the lengths that the default ranking's prompts have."""
    dice = np.random.default_rng(0)

    def words(count: int) -> np.ndarray:
        return dice.integers(1000, 151_000, count).astype(np.int32)

    (image,) = photographs(1)
    visual = picture(image, ImageGeometry())
    system = words(14)
    start = [system, np.full(len(visual.tap_index), IMAGE, np.int32), words(40)]
    said = [words(SAID) for _ in range(ANSWERS)]
    between, end = words(20), words(140)

    def path(*pieces: np.ndarray) -> TokenPath:
        tokens = np.concatenate([*start, *pieces])
        return TokenPath(tokens, np.zeros(len(tokens), np.float32), (visual,), (len(system),))

    if variant.rollouts:
        return [path()]
    pairs = list(permutations(range(ANSWERS), 2))[: variant.pairs]
    found = []
    for number, (i, j) in enumerate(pairs):
        first = said[i].copy()
        if variant.share == "trunk":
            first[0] = 1000 + number  # no two prompts have more than the trunk in common
        found.append(path(first, between, said[j], end))
    return found


def run_jax(variant: Variant, folder: Path) -> dict[str, Any]:
    from decoding import bytes_read, shares, watched

    from critic_jax.checkpoints.huggingface import HuggingFaceFolder, read_params
    from critic_jax.models.build import assemble
    from critic_jax.sampling.choose import Sampling
    from critic_jax.sampling.engine import Engine
    from critic_jax.sharding import make_mesh

    asked = prompts(variant)
    read = HuggingFaceFolder(folder)
    engine = Engine(assemble(read.config, read_params(read, make_mesh())), (), variant.batch)
    n, new = (ANSWERS, SAID) if variant.rollouts else (1, JUDGED)
    sampling = Sampling(new, TEMPERATURE if variant.rollouts else 0.0)
    calls = [asked] if variant.rollouts or variant.share else [[one] for one in asked]

    def answers(some: list[list[TokenPath]], sampling: Sampling) -> list[tuple[int, ...]]:
        found = [engine.generate(call, sampling, n) for call in some]
        return [one.tokens for call in found for each in call for one in each]

    began = time.perf_counter()
    # One token compiles what 32 need.
    answers(calls[:1], sampling if variant.rollouts else replace(sampling, max_new_tokens=1))
    first = time.perf_counter() - began
    used = time.process_time()
    tokens, spent = watched(lambda: answers(calls, sampling), variant.picture_once)
    used = time.process_time() - used
    parts = spent.seconds
    once = parts["tower"] if variant.picture_once else 0.0
    needed = bytes_read(engine, asked if variant.share else calls[0], spent, variant.batch, new)
    return {
        "seconds": once + (parts["whole"] - once) * _scale(variant),
        "parts": parts,
        "steps": spent.steps,
        "core_seconds": used * _scale(variant),
        "compile_s": first - parts["whole" if variant.rollouts else "prefill"] / len(calls),
        "decode": shares(needed, sum(map(len, tokens)), spent),
        "kv_gb": engine.cache_bytes() / 1e9,
        "peak_gb": peak_gb(),
        "tokens": tokens,
    }


def run_torch(variant: Variant, folder: Path) -> dict[str, Any]:
    import torch

    model = torch_model(folder).eval()
    model.generation_config.eos_token_id = None
    asked = prompts(variant)
    n, new = (ANSWERS, SAID) if variant.rollouts else (1, JUDGED)
    drawn = {"do_sample": True, "temperature": TEMPERATURE, "top_k": 0, "top_p": 1.0}

    def answers(paths: list[TokenPath], new: int) -> list[list[int]]:
        ids = torch.from_numpy(np.stack([p.tokens for p in paths])).long()
        tiles = np.stack([p.visuals[0].tiles for p in paths])
        pixels = (torch.from_numpy(tiles).float() / 255 - 0.5) / 0.5
        with torch.inference_mode():
            out = model.generate(
                input_ids=ids,
                attention_mask=torch.ones_like(ids),
                pixel_values=pixels.permute(0, 1, 4, 2, 3),
                image_sizes=torch.tensor([[480, 640]] * len(paths)),
                max_new_tokens=new,
                pad_token_id=0,
                num_return_sequences=n,
                **drawn if variant.rollouts else {"do_sample": False},
            )
        found: list[list[int]] = out[:, ids.shape[1] :].tolist()
        return found

    answers(asked[:1], 2)
    began, used, tokens = time.perf_counter(), time.process_time(), []
    for at in range(0, len(asked), variant.batch):
        tokens += answers(asked[at : at + variant.batch], new)
    seconds = time.perf_counter() - began
    used = time.process_time() - used
    return {
        "seconds": seconds * _scale(variant),
        "core_seconds": used * _scale(variant),
        "peak_gb": peak_gb(),
        "tokens": tokens,
    }


def _scale(variant: Variant) -> float:
    """From the judgments made to all 20."""
    return 1.0 if variant.rollouts else ANSWERS * (ANSWERS - 1) / variant.pairs


def main() -> None:
    if in_process("device")["platform"] == "gpu":
        for branches in (1, 2, 4, 8):
            found = in_process("7b", str(branches))
            print(f"7B, {branches} at once", _rounded(found), flush=True)
        return
    found = {}
    with tempfile.TemporaryDirectory() as name:
        in_process("write", name)

        def measure(label: str) -> None:
            found[label] = result = in_process(label, name)
            told = {key: value for key, value in result.items() if key != "tokens"}
            print(label, _rounded(told), flush=True)

        some = [f"torch, {n} at once, some" for n in PEERS]
        for label in some:
            measure(label)
        best = min(some, key=lambda label: found[label]["seconds"]).removesuffix(", some")
        for label in (best, *(label for label in VARIANTS if label.startswith("critic_jax"))):
            measure(label)
        measure("torch, rollouts")
    summary(found, best)


def summary(found: dict[str, dict[str, Any]], best: str) -> None:
    """The ratios, the parts of the gain, and answers that differ."""
    steps = {
        best: "",
        "critic_jax, each alone": "the same work",
        "critic_jax, picture once": "vision tower once",
        "critic_jax, trunk once": "trunk prefilled once",
        "critic_jax, tree, one branch at a time": "first answers within the tree",
        "critic_jax": "decoding together",
    }
    labels = list(steps)
    print(f"judgments: {found[best]['seconds'] / found['critic_jax']['seconds']:.2f}x, of which")
    for before, after in pairwise(labels):
        gain = found[before]["seconds"] / found[after]["seconds"]
        print(f"  {steps[after]}: {gain:.2f}x")
    for label in labels[1:]:
        if label != "critic_jax, trunk once":  # whose prompts are others
            pairs = list(zip(found[best]["tokens"], found[label]["tokens"], strict=False))
            print(f"  {label}: {sum(a != b for a, b in pairs)} of {len(pairs)} answers differ")
    ours, theirs = (found[f"{side}, rollouts"]["seconds"] for side in ("critic_jax", "torch"))
    print(f"rollouts: {theirs / ours:.2f}x")


def _rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _rounded(each) for name, each in value.items()}
    return float(f"{value:.4g}") if isinstance(value, float) else value


def child(word: str, *rest: str) -> dict[str, Any]:
    """What a process of its own does."""
    if word == "device":
        import jax

        return {"platform": jax.devices()[0].platform}
    if word == "7b":
        from decoding import decode_7b

        return decode_7b(int(rest[0]))
    if word == "write":
        # So wide that attention singles tokens out: else all answers would be alike.
        write_weights(Path(rest[0]), deviation=0.06)
        return {}
    variant = VARIANTS[word]
    return (run_torch if variant.side == "torch" else run_jax)(variant, Path(rest[0]))


if __name__ == "__main__":
    if len(sys.argv) == 1:
        main()
    else:
        print(json.dumps(child(*sys.argv[1:])))
