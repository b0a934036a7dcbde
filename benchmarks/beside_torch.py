"""What measurements beside torch have in common: a model, photographs, processes."""

import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

IMAGE, VOCABULARY = 151_646, 151_936


def photographs(count: int) -> list[Image.Image]:
    """Photographs of scikit-image, cut to 640x480."""
    from skimage import data

    makers: list[Callable[[], np.ndarray]] = [
        data.astronaut,
        data.coffee,
        data.chelsea,
        data.rocket,
    ]
    return [Image.fromarray(make()).convert("RGB").resize((640, 480)) for make in makers[:count]]


def write_weights(folder: Path, deviation: float = 0.02) -> None:
    """Random weights in transformers' layout: a decoder of Qwen2 0.5B's width with 6 layers and its
    whole vocabulary, four layers of the real tower. deviation: of the decoder's weights."""
    import torch
    from transformers import LlavaOnevisionConfig, LlavaOnevisionForConditionalGeneration

    text = {
        "model_type": "qwen2",
        "vocab_size": VOCABULARY,
        "hidden_size": 896,
        "intermediate_size": 4864,
        "num_hidden_layers": 6,
        "num_attention_heads": 14,
        "num_key_value_heads": 2,
        "rope_theta": 1e6,
        "tie_word_embeddings": True,
        "initializer_range": deviation,
    }
    vision = {
        "model_type": "siglip_vision_model",
        "hidden_size": 1152,
        "intermediate_size": 4304,
        "num_attention_heads": 16,
        "num_hidden_layers": 4,
        "image_size": 384,
        "patch_size": 14,
        "vision_use_head": False,
    }
    torch.manual_seed(0)
    config = LlavaOnevisionConfig(
        text_config=text, vision_config=vision, image_token_index=IMAGE, tie_word_embeddings=True
    )
    LlavaOnevisionForConditionalGeneration(config).save_pretrained(folder)


def torch_model(folder: Path) -> Any:
    """The peer, in float32 on all of this machine's cores."""
    import torch
    from transformers import LlavaOnevisionForConditionalGeneration

    torch.set_num_threads(os.cpu_count() or 1)
    return LlavaOnevisionForConditionalGeneration.from_pretrained(folder, dtype=torch.float32)


def torch_optimizer(model: Any, rate: float) -> Any:
    """AdamW with its moments in memory already, as they are from the second step on."""
    import torch

    optimizer = torch.optim.AdamW(model.parameters(), rate, weight_decay=0.0, fused=True)
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()  # of gradients that are zero: nothing moves
    optimizer.zero_grad()
    return optimizer


def torch_norm(model: Any) -> float:
    """Of all gradients together. In float32 torch's own is 2e-4 off with so many numbers."""
    squares = [p.grad.double().square().sum() for p in model.parameters() if p.grad is not None]
    return float(sum(squares)) ** 0.5


def peak_gb() -> float:
    """The largest memory that this process has had."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9


class Clock:
    """Seconds of the clock and of the processors since it was made or last asked."""

    def __init__(self) -> None:
        self._last = time.perf_counter(), time.process_time()

    def lap(self) -> dict[str, float]:
        last, self._last = self._last, (time.perf_counter(), time.process_time())
        return {
            "seconds": self._last[0] - last[0],
            "core_seconds": self._last[1] - last[1],
        }


def in_process(*words: str) -> dict[str, Any]:
    """What the script that runs, called with `words`, prints as JSON on its last line."""
    program = [sys.executable, str(Path(sys.argv[0]).absolute()), *words]
    done = subprocess.run(program, check=True, stdout=subprocess.PIPE, text=True)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found
