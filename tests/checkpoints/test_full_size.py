"""A model of LLaVA-OneVision 0.5B's real sizes, written by transformers, about a photograph."""

import gc
import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import skimage.data
import torch
from flax import nnx
from PIL import Image
from torch_peer import peer_tokenizer
from transformers import (
    LlavaOnevisionConfig,
    LlavaOnevisionForConditionalGeneration,
    LlavaOnevisionImageProcessorPil,
)

from critic_jax.checkpoints import load_checkpoint
from critic_jax.cli import main
from critic_jax.imaging import picture
from critic_jax.models.build import assemble
from critic_jax.models.config import onevision_0p5b
from critic_jax.models.llava import Llava
from critic_jax.tree import Path as TokenPath
from critic_jax.tree import pack

IMAGE = 151646
TEXT, QUESTION = [151644, 872, 198], [198, 3838, 374, 6839, 30, 151645, 198, 151644, 77091, 198]


def full_size() -> LlavaOnevisionForConditionalGeneration:
    """Random weights; the sizes stand in the released model's config."""
    config = LlavaOnevisionConfig(
        text_config={
            "model_type": "qwen2",
            "vocab_size": 151936,
            "hidden_size": 896,
            "intermediate_size": 4864,
            "num_hidden_layers": 24,
            "num_attention_heads": 14,
            "num_key_value_heads": 2,
            "rope_theta": 1e6,
            "tie_word_embeddings": True,
        },
        vision_config={
            "model_type": "siglip_vision_model",
            "hidden_size": 1152,
            "intermediate_size": 4304,
            "num_attention_heads": 16,
            "num_hidden_layers": 26,
            "image_size": 384,
            "patch_size": 14,
            "vision_use_head": False,
        },
        image_token_index=IMAGE,
        video_token_index=IMAGE + 1,
        tie_word_embeddings=True,
    )
    torch.manual_seed(0)
    return LlavaOnevisionForConditionalGeneration(config).eval()


@nnx.jit
def run(model: Llava, batch: dict) -> jax.Array:
    return model.logits(model(batch)[0])


@pytest.mark.slow
def test_converted_loaded_and_the_same_logits(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    image = Image.fromarray(skimage.data.chelsea()).resize((640, 480), Image.Resampling.BICUBIC)
    model = full_size()
    model.save_pretrained(tmp_path / "hub")
    peer_tokenizer().save(tmp_path / "hub")
    assert main(["convert", str(tmp_path / "hub"), str(tmp_path / "ours"), "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["parameters"] == 893_618_208
    checkpoint = load_checkpoint(tmp_path / "ours")
    assert checkpoint.config == onevision_0p5b()

    visual = picture(image, checkpoint.geometry)
    assert len(visual.tap_index) == 2929
    ids = [*TEXT, *[IMAGE] * 2929, *QUESTION]
    processor = LlavaOnevisionImageProcessorPil(
        image_mean=[0.5] * 3, image_std=[0.5] * 3, size={"height": 384, "width": 384}
    )
    with torch.no_grad():
        inputs = processor(image, return_tensors="pt")
        theirs = model(input_ids=torch.tensor([ids]), **inputs).logits[0].numpy()
    del model
    gc.collect()

    zeros = np.zeros(len(ids), np.float32)
    path = TokenPath(np.asarray(ids, np.int32), zeros, (visual,), (len(TEXT),))
    row = pack([path], [[0]], 2944, len(visual.tiles), (384, 384, 3), 729).arrays()
    batch = {name: jnp.asarray(array[None]) for name, array in row.items()}
    ours = np.asarray(run(assemble(checkpoint.config, checkpoint.params), batch)[0, : len(ids)])
    assert ours.shape == theirs.shape == (2942, 151936)
    assert np.abs(theirs).max() > 0.5
    assert np.abs(ours - theirs).max() <= 1e-4 * np.abs(theirs).max()
