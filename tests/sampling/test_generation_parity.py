"""Greedy answers token for token those of transformers' `generate`, in float32."""

from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch_peer import IMAGE, make_peer, read_peer, save_peer
from transformers import (
    LlavaOnevisionImageProcessorPil,
    LogitsProcessor,
    LogitsProcessorList,
    RepetitionPenaltyLogitsProcessor,
)

from critic_jax.imaging import ImageGeometry, picture
from critic_jax.models.build import assemble
from critic_jax.sampling.choose import Sampling
from critic_jax.sampling.engine import Engine
from critic_jax.tree import Path as TokenPath

COMPILED_QUICKLY = False

LENGTH = 24
# Chosen so that some answers stop and some don't.
STOPS = (225, 363, 404)
PROCESSOR = LlavaOnevisionImageProcessorPil(
    image_mean=[0.5] * 3, image_std=[0.5] * 3, size={"height": 384, "width": 384}
)


class OnGeneratedOnly(LogitsProcessor):
    """The repetition penalty as upstream's judge has it, which gives `generate` no prompt ids."""

    def __init__(self, penalty: float, prompt: int) -> None:
        self.penalty, self.prompt = RepetitionPenaltyLogitsProcessor(penalty), prompt

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        generated = input_ids[:, self.prompt :]
        return self.penalty(generated, scores) if generated.shape[1] else scores


def smooth(width: int, height: int, seed: int = 0) -> Image.Image:
    rng = np.random.default_rng([width, height, seed] if seed else [width, height])
    coarse = Image.fromarray(rng.integers(0, 256, (6, 8, 3), dtype=np.uint8))
    return coarse.resize((width, height), Image.Resampling.BICUBIC)


@pytest.fixture(scope="module")
def peer(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Engine, ImageGeometry, list]:
    """The torch model, the engine, its pictures' geometry, and (path, torch's inputs) of each
    prompt."""
    torch_model = make_peer(tied=False)
    folder = save_peer(torch_model, tmp_path_factory.mktemp("peer"))
    read, params = read_peer(folder)
    config, geometry = read.config, read.geometry
    prompts = []
    for number, size in enumerate([(336, 336), None, (300, 384), None, (384, 150), None]):
        ids = np.random.default_rng(number).integers(0, 490, 12 + 7 * number).tolist()
        visuals, starts, inputs = [], [], {}
        if size is not None:
            image = smooth(*size)
            visuals, starts = [picture(image, geometry)], [5]
            ids[5:5] = [IMAGE] * len(visuals[0].tap_index)
            inputs = PROCESSOR(image, return_tensors="pt")
        tokens = np.asarray(ids, np.int32)
        path = TokenPath(tokens, np.zeros(len(ids), np.float32), tuple(visuals), tuple(starts))
        prompts.append((path, {"input_ids": torch.tensor([ids]), **inputs}))
    return torch_model, Engine(assemble(config, params), STOPS, batch=8), geometry, prompts


def generated(torch_model: Any, inputs: dict, penalty: float) -> list[list[int]]:
    """torch's greedy answers to prompts of one length, with what follows a stop token."""
    length = inputs["input_ids"].shape[1]
    with torch.no_grad():
        output = torch_model.generate(
            **inputs,
            # Without one, `generate` would mask whatever token happens to be the padding's.
            attention_mask=torch.ones_like(inputs["input_ids"]),
            do_sample=False,
            max_new_tokens=LENGTH,
            eos_token_id=list(STOPS),
            pad_token_id=0,
            logits_processor=LogitsProcessorList([OnGeneratedOnly(penalty, length)]),
        )
    found: list[list[int]] = output[:, length:].tolist()
    return found


@pytest.mark.parametrize("penalty", [1.0, 1.3])
def test_greedy_answers_equal_those_of_generate(
    peer: tuple[Any, Engine, ImageGeometry, list], penalty: float
) -> None:
    torch_model, engine, _, prompts = peer
    sampling = Sampling(max_new_tokens=LENGTH, repetition_penalty=penalty)
    ours = engine.generate([path for path, _ in prompts], sampling)
    finishes = set()
    for (answer,), (path, inputs) in zip(ours, prompts, strict=True):
        (theirs,) = generated(torch_model, inputs, penalty)
        output = torch.cat([inputs["input_ids"], torch.tensor([theirs])], dim=1)
        with torch.no_grad():
            whole = torch.log_softmax(
                torch_model(**inputs | {"input_ids": output}).logits[0].double(), -1
            )
        stopped = theirs[-1] in STOPS
        theirs = theirs[:-1] if stopped else theirs
        assert list(answer.tokens) == theirs
        assert answer.finish == ("stop" if stopped else "length")
        places = range(len(path) - 1, len(path) - 1 + len(theirs))
        forced = [float(whole[place, token]) for place, token in zip(places, theirs, strict=True)]
        np.testing.assert_allclose(answer.logprobs, forced, atol=1e-5)
        finishes.add(answer.finish)
    assert finishes == {"stop", "length"}


def test_the_penalty_matters_here(peer: tuple[Any, Engine, ImageGeometry, list]) -> None:
    """Else the test above could not tell a penalty from none."""
    _, engine, _, prompts = peer
    paths = [path for path, _ in prompts]
    plain, penalised = (
        [a.tokens for (a,) in engine.generate(paths, Sampling(LENGTH, repetition_penalty=p))]
        for p in (1.0, 1.3)
    )
    assert sum(a != b for a, b in zip(plain, penalised, strict=True)) >= 3


SIZES = [(336, 336), (300, 384), (384, 150)]
MORE_SIZES = [(500, 300), (150, 700), (640, 480)]
AT_ONCE = 10


def alike(group: int, size: tuple[int, int], geometry: ImageGeometry) -> tuple[list, dict]:
    """Prompts with pictures of one size, as long as each other, and torch's inputs for all."""
    images = [smooth(*size, seed=1 + AT_ONCE * group + n) for n in range(AT_ONCE)]
    words = np.random.default_rng([7, group]).integers(0, 490, (AT_ONCE, 14 + group % 5))
    paths = []
    for image, text in zip(images, words.tolist(), strict=True):
        visual = picture(image, geometry)
        text[5:5] = [IMAGE] * len(visual.tap_index)
        tokens = np.asarray(text, np.int32)
        paths.append(TokenPath(tokens, np.zeros(len(text), np.float32), (visual,), (5,)))
    ids = torch.tensor(np.stack([path.tokens for path in paths])).long()
    return paths, {"input_ids": ids, **PROCESSOR(images, return_tensors="pt")}


@pytest.mark.parametrize("penalty", [1.0, 1.3])
@pytest.mark.parametrize("count", [50, pytest.param(200, marks=pytest.mark.slow)])
def test_many_prompts_with_pictures(
    peer: tuple[Any, Engine, ImageGeometry, list], count: int, penalty: float
) -> None:
    torch_model, engine, geometry, _ = peer
    sizes = SIZES if count == 50 else SIZES + MORE_SIZES
    paths, theirs = [], []
    for group in range(count // AT_ONCE):
        some, inputs = alike(group, sizes[group % len(sizes)], geometry)
        paths += some
        theirs += generated(torch_model, inputs, penalty)
    sampling = Sampling(max_new_tokens=LENGTH, repetition_penalty=penalty)
    ours = [answer for (answer,) in engine.generate(paths, sampling)]
    assert len(ours) == count
    for number, (answer, tokens) in enumerate(zip(ours, theirs, strict=True)):
        stopped = [place for place, token in enumerate(tokens) if token in STOPS]
        assert list(answer.tokens) == tokens[: stopped[0] if stopped else None], number
        assert answer.finish == ("stop" if stopped else "length")
    # Each of the 200 goes on saying the same, unless repetition costs.
    ways = {"length"} if (count, penalty) == (200, 1.0) else {"stop", "length"}
    assert {answer.finish for answer in ours} == ways
    assert len({answer.tokens for answer in ours}) > count // 2
