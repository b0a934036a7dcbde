"""A tiny critic with random weights and a tokenizer of its own, for tests around the model."""

from functools import cache

import numpy as np

from critic_jax.checkpoints import Checkpoint
from critic_jax.checkpoints.blocks import shapes
from critic_jax.imaging import ImageGeometry
from critic_jax.judging.templates import get_template
from critic_jax.models.build import Params, set_in
from critic_jax.models.config import ModelConfig, tiny
from critic_jax.text import ChatTokenizer, train_tokenizer

# A picture is a tile of 16 patches and another one or two; square ones take 16 + 20 tokens.
GEOMETRY = ImageGeometry(tile_size=16, patch_size=4, pinpoints=((16, 16), (16, 32), (32, 16)))


_LEARNED_FROM = (
    *("critic-pointwise", "critic-pairwise", "llava-bench", "wildvision", "caption", "mt-bench"),
    *("mmhal", "mmvet", "auto-j", "prometheus"),
)


@cache
def tiny_tokenizer(vocab_size: int = 800) -> ChatTokenizer:
    """Learned from the prompts of templates, so that prompts are short in tokens."""
    texts = []
    for template in map(get_template, _LEARNED_FROM):
        pair = {"response_a": "It is a 7.", "response_b": "It is a 1."}
        answers = pair if template.kind == "pairwise" else {"response": "It is a 7."}
        texts.append(template.render(question="Which digit is it?", **answers))
    return train_tokenizer(
        [*texts, "system\nYou are a helpful assistant.", "assistant\n"], vocab_size
    )


def random_params(config: ModelConfig, seed: int = 0) -> Params:
    """Weights that make answers varied; drawn without compiling anything."""
    rng = np.random.default_rng(seed)
    params: Params = {}
    for path, shape in sorted(shapes(config).items()):
        mean, deviation = (1.0, 0.1) if path[-1] == "scale" else (0.0, 0.2)
        set_in(params, path, rng.normal(mean, deviation, shape).astype(np.float32))
    return params


def tiny_checkpoint(seed: int = 0, max_new_tokens: int = 12) -> Checkpoint:
    """Answers are cut after `max_new_tokens`: a random model seldom stops."""
    tokenizer = tiny_tokenizer()
    config = tiny(tokenizer.vocab_size)
    meta = {"name": "tiny", "step": 3, "generation": {"max_new_tokens": max_new_tokens}}
    return Checkpoint(config, GEOMETRY, random_params(config, seed), tokenizer, meta)
