"""What transformers makes of an exported model: no word about keys, and the same logits."""

import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch_peer import make_peer, peer_tokenizer, read_peer, save_peer
from transformers import (
    AutoImageProcessor,
    AutoTokenizer,
    GenerationConfig,
    LlavaOnevisionConfig,
    LlavaOnevisionForConditionalGeneration,
    LlavaOnevisionProcessor,
)

from critic_jax.checkpoints import load_checkpoint
from critic_jax.checkpoints.convert import convert
from critic_jax.checkpoints.export import export
from critic_jax.data.encode import prepare_pictures, prompt_path
from critic_jax.models.build import assemble
from critic_jax.tree import pack, tile_count

QUESTION = "Which digit is it?"


@pytest.fixture(scope="module", params=[True, False], ids=["tied", "untied"])
def exported(request: Any, tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Path, Path]:
    """The torch model, our checkpoint of it, and the export of that."""
    folder = tmp_path_factory.mktemp("export")
    model = make_peer(request.param)
    peer_tokenizer().save(save_peer(model, folder / "hub"))
    convert(str(folder / "hub"), folder / "ours")
    export(str(folder / "ours"), folder / "hf", "hf")
    return model, folder / "ours", folder / "hf"


class PictureProcessor(LlavaOnevisionProcessor):
    """transformers' own, without the video part: even to refuse one it asks for torchvision."""

    def check_argument_for_proper_class(self, argument_name: str, argument: Any) -> Any:
        if argument_name == "video_processor":
            assert argument is None
            return None
        return super().check_argument_for_proper_class(argument_name, argument)


def processor(folder: Path) -> LlavaOnevisionProcessor:
    """As AutoProcessor puts it together from the folder."""
    settings = json.loads((folder / "processor_config.json").read_text())
    assert settings.pop("processor_class") == "LlavaOnevisionProcessor"
    return PictureProcessor(
        image_processor=AutoImageProcessor.from_pretrained(folder),
        tokenizer=AutoTokenizer.from_pretrained(folder),
        chat_template=(folder / "chat_template.jinja").read_text(),
        **settings,
    )


def test_it_loads_without_a_word_about_keys(
    exported: tuple[Any, Path, Path], caplog: pytest.LogCaptureFixture
) -> None:
    model, _, folder = exported
    with caplog.at_level(logging.WARNING):
        loaded, info = LlavaOnevisionForConditionalGeneration.from_pretrained(
            folder, output_loading_info=True
        )
    assert not any(info.values()), info
    assert not [r.message for r in caplog.records if "key" in r.message.lower()]
    expected, found = model.state_dict(), loaded.state_dict()
    assert set(expected) == set(found)
    assert all(torch.equal(found[name], tensor) for name, tensor in expected.items())
    assert isinstance(LlavaOnevisionConfig.from_pretrained(folder), LlavaOnevisionConfig)
    # Without settings of its own, an answer ends at either control token.
    assert len(GenerationConfig.from_pretrained(folder).eos_token_id) == 2


@pytest.mark.parametrize("size", [(300, 384), (640, 200)])
def test_logits_of_a_chat_about_a_picture(
    exported: tuple[Any, Path, Path], size: tuple[int, int]
) -> None:
    """transformers' processor and chat template end to end, against ours."""
    _, ours, folder = exported
    noise = np.random.default_rng(0).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    image = Image.fromarray(noise).resize(size, Image.Resampling.BICUBIC)
    both = processor(folder)
    chat = [
        {"role": "system", "content": [{"type": "text", "text": "You are a helpful assistant."}]},
        {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": QUESTION}]},
    ]
    text = both.apply_chat_template(chat, add_generation_prompt=True)
    inputs = both(images=image, text=text, return_tensors="pt")
    loaded = LlavaOnevisionForConditionalGeneration.from_pretrained(folder)
    with torch.no_grad():
        theirs = loaded(**inputs).logits[0].numpy()

    checkpoint = load_checkpoint(ours)
    path = prompt_path(
        QUESTION, prepare_pictures([image], checkpoint.geometry, "image"), checkpoint.tokenizer
    )
    assert inputs["input_ids"][0].tolist() == path.tokens.tolist()
    tiles = tile_count([path], [0])
    row = pack([path], [[0]], len(path), tiles, (384, 384, 3), 729).arrays()
    model = assemble(checkpoint.config, checkpoint.params)
    logits = model.logits(model({name: array[None] for name, array in row.items()})[0])[0]
    assert np.abs(np.asarray(logits) - theirs).max() <= 1e-5 * np.abs(theirs).max()


def test_the_tokenizer_knows_both_markers(exported: tuple[Any, Path, Path]) -> None:
    _, ours, folder = exported
    theirs, tokenizer = AutoTokenizer.from_pretrained(folder), load_checkpoint(ours).tokenizer
    image, video = theirs.convert_tokens_to_ids(["<image>", "<video>"])
    config = LlavaOnevisionConfig.from_pretrained(folder)
    assert (image, video) == (tokenizer.image, tokenizer.image + 1)
    assert (config.image_token_id, config.video_token_id) == (image, video)
    assert theirs.encode("<image>\nOne <video>") == [
        image,
        *tokenizer.encode("\nOne "),
        video,
    ]
    text = "Which digit?\n\n  It's a 7, or  a '1'."
    assert theirs.encode(text) == tokenizer.encode(text)


def test_the_card_tells_where_it_is_from(exported: tuple[Any, Path, Path]) -> None:
    _, ours, folder = exported
    card = (folder / "README.md").read_text()
    fingerprint = load_checkpoint(ours).fingerprint()
    assert f"| fingerprint | `{fingerprint}` |" in card
    assert "| made from | hub |" in card and str(folder.parent) not in card
    assert read_peer(folder)[0].layout == "hf-old"
