"""The folder of adapters, in torch: peft loads it onto transformers' model, and says the same."""

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from flax import nnx
from peft import PeftModel
from PIL import Image
from torch_peer import IMAGE, make_peer, read_peer, save_peer

from critic_jax.checkpoints.adapters import adapted, write_adapters
from critic_jax.checkpoints.blocks import shapes
from critic_jax.imaging import Visual, picture
from critic_jax.models.build import Params, assemble, set_in
from critic_jax.models.lora import Lora
from critic_jax.training.tuning import joined
from critic_jax.tree import Path as TokenPath
from critic_jax.tree import pack

LORA = Lora(3, 4.5, ("decoder.*", "tower.q", "projector.fc1"))


def random_adapters(config: Any) -> Params:
    rng = np.random.default_rng(0)
    adapters: Params = {}
    for weight in adapted(config, LORA):
        shape = shapes(config)[weight.path]
        lead = int(weight.layers > 0)
        inputs, outputs = shape[: lead + weight.inputs], shape[lead + weight.inputs :]
        for name, size in (("a", (*inputs, 3)), ("b", (*shape[:lead], 3, *outputs))):
            drawn = rng.normal(0, 0.2, size).astype(np.float32)
            set_in(adapters, (*weight.path[:-1], "adapter", name), drawn)
    return adapters


def our_logits(
    config: Any, params: Params, lora: Lora | None, ids: list[int], visual: Visual
) -> np.ndarray:
    path = TokenPath(np.asarray(ids, np.int32), np.zeros(len(ids), np.float32), (visual,), (2,))
    row = pack([path], [[0]], len(ids), len(visual.tiles), (384, 384, 3), 729).arrays()
    batch = {name: value[None] for name, value in row.items()}
    model = assemble(config, params, lora=lora)
    return np.asarray(nnx.jit(lambda model: model.logits(model(batch)[0]))(model))[0]


def test_peft_loads_them_and_the_logits_are_the_same(tmp_path: Path) -> None:
    peer = make_peer(tied=False)
    read, params = read_peer(save_peer(peer, tmp_path / "base"))
    adapters = random_adapters(read.config)
    write_adapters(tmp_path / "adapters", read.config, LORA, adapters, str(tmp_path / "base"))

    names = {name for name, _ in peer.named_modules()}
    with warnings.catch_warnings():
        warnings.simplefilter(
            "error", UserWarning
        )  # peft warns of keys that are missing or left over
        loaded = PeftModel.from_pretrained(peer, tmp_path / "adapters").eval()
    with_adapters = {
        name.removeprefix("base_model.model.").removesuffix(".lora_A.default")
        for name, _ in loaded.named_modules()
        if name.endswith(".lora_A.default")
    }
    assert with_adapters <= names and len(with_adapters) == 2 * 7 + 2 * 1 + 1
    noise = np.random.default_rng(1).integers(0, 256, (100, 500, 3), dtype=np.uint8)
    visual = picture(Image.fromarray(noise), read.geometry)
    ids = [3, 14, *[IMAGE] * len(visual.tap_index), 15, 92, 65, 35]
    pixels = (visual.tiles.astype(np.float32) * np.float32(1 / 255) - 0.5) / 0.5
    with torch.no_grad():
        theirs = loaded(
            input_ids=torch.tensor([ids]),
            pixel_values=torch.from_numpy(pixels).permute(0, 3, 1, 2)[None],
            image_sizes=torch.tensor([[100, 500]]),
        ).logits[0]
    found = our_logits(read.config, joined(params, adapters), LORA, ids, visual)
    largest = np.abs(theirs.numpy()).max()
    assert np.abs(found - theirs.numpy()).max() <= 1e-5 * largest
    untrained = our_logits(read.config, params, None, ids, visual)
    assert np.abs(found - untrained).max() > 0.1 * largest
