"""The judge that a user holds: load a model once, then score, compare and generate."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any, get_args

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from critic_jax.checkpoints import (
    Checkpoint,
    load_checkpoint,
    model_name,
    prescribed,
    read_sizes,
    written_fingerprint,
)
from critic_jax.checkpoints.weights import ParamPath
from critic_jax.data.encode import prepare_pictures, prompt_path
from critic_jax.errors import InputError
from critic_jax.imaging import Visual
from critic_jax.judging.ask import Ask, Asking, Judge, Pictures
from critic_jax.judging.asking import judge
from critic_jax.judging.judgment import Judgment
from critic_jax.models.build import assemble
from critic_jax.sampling.choose import Sampling
from critic_jax.sampling.engine import Completion, Engine
from critic_jax.sampling.replicas import sampling_mesh
from critic_jax.sampling.weights import SamplingDtype, WeightFormat, usual_dtype


class Critic(Judge):
    """A loaded model that judges and answers.

    `name` is quoted in every judgment, and so is `fingerprint`, which changes with the weights, the
    tokenizer and the sampler's settings, where the name may stay. A repetition penalty that the
    checkpoint prescribes is kept, as upstream's judge keeps it, unless another is given: 1 is none.
    `batch` answers are worked on at a time, within `memory` (`Engine`). `settings` are others of
    `Sampling` to judge with; None leaves one as it is. weights: "int8" holds them in eight bits, a
    quarter of the memory. dtype: of the computation, by default `usual_dtype`; the parameters of
    the checkpoint should be of no more bits. Verdicts may differ with either, and so the
    fingerprint.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        name: str,
        batch: int = 32,
        watch: Callable[[int], None] | None = None,
        memory: int | None = None,
        weights: WeightFormat = "full",
        dtype: SamplingDtype | None = None,
        **settings: Any,
    ) -> None:
        dtype = dtype or usual_dtype()
        for what, given, kinds in (
            ("weights", weights, get_args(WeightFormat)),
            ("dtype", dtype, get_args(SamplingDtype)),
        ):
            if given not in kinds:
                raise InputError(f"{what} is {given!r}; it should be {' or '.join(kinds)}")
        self.name = name
        self.geometry = checkpoint.geometry
        self.tokenizer = checkpoint.tokenizer
        self._settings = prescribed(checkpoint.meta)
        self._settings |= {name: value for name, value in settings.items() if value is not None}
        self.sampling()  # a setting that is out of range is told before the model runs
        self.fingerprint = checkpoint.fingerprint(**self._settings, **_as_held(weights, dtype))
        model = assemble(checkpoint.config, checkpoint.params, jnp.dtype(dtype))
        tokenizer = checkpoint.tokenizer
        self.engine = Engine(
            model,
            tokenizer.stop_ids,
            batch,
            watch,
            decode=tokenizer.decode,
            memory=memory,
            weights=weights,
        )

    @classmethod
    def load(
        cls,
        path: str | os.PathLike[str],
        batch: int = 32,
        memory: int | None = None,
        weights: WeightFormat = "full",
        dtype: SamplingDtype | None = None,
        mesh: Mesh | None = None,
        **settings: Any,
    ) -> Critic:
        """Load a checkpoint of ours, a Hugging Face folder or a hub id; arguments as above.

        mesh: of the devices that hold it, by default all that there are. Raises InputError if it is
        none of them.
        """
        dtype = dtype or usual_dtype()
        if mesh is None and jax.device_count() > 1:
            mesh = sampling_mesh(read_sizes(path), jax.devices())

        def hold(_: ParamPath, value: jax.Array, __: Any) -> jax.Array:
            return (
                value.astype(dtype) if value.dtype.itemsize > jnp.dtype(dtype).itemsize else value
            )

        loaded = load_checkpoint(path, mesh, hold)
        name = model_name(path)
        return cls(loaded, name, batch, None, memory, weights, dtype, **settings)

    def sampling(self, **settings: Any) -> Sampling:
        """Greedy, with what the checkpoint prescribes, then `settings`."""
        return Sampling(**{"max_new_tokens": 512, **self._settings, **settings})

    def visuals(self, image: Pictures, name: str = "image") -> tuple[Visual, ...]:
        """Pictures made ready: none, one (cut into tiles), or several (one tile each)."""
        if image is None:
            return ()
        sources: Sequence[Any] = image if isinstance(image, list | tuple) else [image]
        return prepare_pictures(sources, self.geometry, name)

    def answer(
        self, prompts: Sequence[tuple[Sequence[Visual], str]], sampling: Sampling, n: int = 1
    ) -> list[list[Completion]]:
        """`n` completions for each (pictures, text)."""
        paths = [prompt_path(text, visuals, self.tokenizer) for visuals, text in prompts]
        return self.engine.generate(paths, sampling, n)

    def text(self, completion: Completion) -> str:
        """A completion in words."""
        return self.tokenizer.decode(list(completion.tokens))

    def generate(self, image: Pictures, prompt: str, n: int = 1, **settings: Any) -> list[str]:
        """`n` answers to a prompt about a picture; `settings` as in `Sampling`."""
        completions = self.answer([(self.visuals(image), prompt)], self.sampling(**settings), n)
        return [self.text(c) for c in completions[0]]

    def judge(
        self,
        asks: Sequence[Ask],
        asking: Asking = Asking(),  # noqa: B008 (frozen)
    ) -> list[Judgment]:
        """Judge many at once; results in the order given."""
        return judge(self, asks, asking, self.sampling())


def known_fingerprint(
    path: str | os.PathLike[str],
    weights: WeightFormat = "full",
    dtype: SamplingDtype | None = None,
    **settings: Any,
) -> str | None:
    """The fingerprint of `Critic.load` with the same arguments, where it is known without loading
    (`written_fingerprint`)."""
    given = {name: value for name, value in settings.items() if value is not None}
    return written_fingerprint(path, **given, **_as_held(weights, dtype or usual_dtype()))


def _as_held(weights: WeightFormat, dtype: SamplingDtype) -> dict[str, str]:
    """How a model is held, where its verdicts may differ with it."""
    held: dict[str, str] = {} if weights == "full" else {"weights": weights}
    return held if dtype == "float32" else held | {"dtype": dtype}
