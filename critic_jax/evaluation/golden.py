"""A model's own logits and greedy answer, held against published ones. It computes in float32."""

from __future__ import annotations

import math
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from PIL import Image

from critic_jax.checkpoints import Checkpoint
from critic_jax.data.encode import prompt_path
from critic_jax.evaluation.published import Golden, Question
from critic_jax.judging.critic import Critic
from critic_jax.models.build import assemble
from critic_jax.models.llava import Llava
from critic_jax.tree import Path, pack, tile_count


class Asked:
    """A model that is asked the published question about the published picture."""

    def __init__(
        self, checkpoint: Checkpoint, name: str, image: Image.Image, question: Question
    ) -> None:
        self.question = question
        self._critic = Critic(checkpoint, name, batch=1, repetition_penalty=1.0)
        self._model = assemble(checkpoint.config, checkpoint.params)
        self._image = image
        visuals = self._critic.visuals(image)
        self._prompt = prompt_path(question.text, visuals, checkpoint.tokenizer)

    def first_logits(self, positions: int, rows: int) -> np.ndarray:
        """float32 [positions, rows]: logits after the first tokens of the prompt.

        They stand before the picture, which they cannot see, so it is left out.
        """
        prompt = self._prompt
        assert all(start >= positions for start in prompt.starts)
        zeros = np.zeros(positions, np.float32)
        path = Path(prompt.tokens[:positions], zeros)
        return self._logits(path, np.arange(positions))[:, :rows]

    def answer(self) -> str:
        """The greedy answer without a penalty, as long as the published ones, stripped as they."""
        length = self.question.max_new_tokens
        return self._critic.generate(
            self._image, self.question.text, max_new_tokens=length, temperature=0.0
        )[0].strip()

    def reluctance(self, answer: str) -> float:
        """How far below the largest logit the answer's own tokens ever lie, given those before.

        0: each is this model's first choice. An answer shorter than the limit has stopped, and the
        stop token is counted with it.
        """
        tokenizer = self._critic.tokenizer
        said = tokenizer.encode(answer)
        if len(said) < self.question.max_new_tokens:
            said = [*said, tokenizer.im_end]
        start = len(self._prompt)
        tokens = np.concatenate([self._prompt.tokens, np.asarray(said[:-1], np.int32)])
        path = replace(self._prompt, tokens=tokens, weights=np.zeros(len(tokens), np.float32))
        logits = self._logits(path, np.arange(start - 1, len(tokens)))
        chosen = logits[np.arange(len(said)), said]
        return float((logits.max(axis=-1) - chosen).max())

    def _logits(self, path: Path, places: np.ndarray) -> np.ndarray:
        tower = self._model.config.tower
        shape = (tower.tile_size, tower.tile_size, 3)
        tokens = -(-len(path) // _STEP) * _STEP
        row = pack([path], [[0]], tokens, tile_count([path], [0]), shape, tower.patches)
        batch = {name: jnp.asarray(array[None]) for name, array in row.arrays().items()}
        return np.asarray(self._model.logits(_hidden(self._model, batch)[0, places]))


# Rows of tokens are filled up to a multiple, so that answers of like length compile once.
_STEP = 128


@nnx.jit
def _hidden(model: Llava, batch: dict[str, jax.Array]) -> jax.Array:
    return model(batch)[0]


def distance(logits: np.ndarray, golden: Golden) -> float:
    """The largest difference of a logit from the published one; infinite where one is NaN."""
    largest = float(np.abs(logits - np.asarray(golden.logits)).max())
    return math.inf if math.isnan(largest) else largest


def parting(ours: str, theirs: str) -> int:
    """The number of characters that two texts begin with in common."""
    pairs = enumerate(zip(ours, theirs, strict=False))
    return next((at for at, (a, b) in pairs if a != b), min(len(ours), len(theirs)))
