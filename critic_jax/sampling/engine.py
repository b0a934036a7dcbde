"""Prompts in, sampled answers out."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp

from critic_jax.errors import InputError
from critic_jax.models.llava import Llava
from critic_jax.sampling.choose import Sampling
from critic_jax.sampling.completion import Completion, Decode
from critic_jax.sampling.decode import Cache
from critic_jax.sampling.guide import Guide
from critic_jax.sampling.run import Run, Shape
from critic_jax.sampling.trees import bucket
from critic_jax.sampling.weights import WeightFormat, take_apart
from critic_jax.tree import Path

PLACES = 16_384
"""Tokens of prompts that are held at once where no memory is given."""

__all__ = ["Completion", "Engine"]


class Engine:
    """Samples from a model.

    Prompts that begin alike are read once: the picture, its tiles, the answers that several of them
    quote. `batch` answers are worked on at a time; when one ends, the next takes its place.

    Answers don't depend on the other prompts of a call, nor on their order: each has a random key
    of its own, made from its content and the number of the answer. Of equal prompts, the second
    has another key than the first.

    batch: slots of answers. memory: bytes for keys and values, half of which at most are for what
    answers say (fewer slots, if need be), the rest for prompts; by default `PLACES` tokens of
    prompts, or as many as the longest has. decode: ids to text, for stop strings. watch: told how
    many answers are done, as they are done. weights: "int8" holds them in eight bits
    (`weights.take_apart`).
    """

    def __init__(
        self,
        model: Llava,
        stop_ids: Sequence[int],
        batch: int = 32,
        watch: Callable[[int], None] | None = None,
        decode: Decode | None = None,
        memory: int | None = None,
        weights: WeightFormat = "full",
    ) -> None:
        self.config = model.config
        self.batch = batch
        self.watch = watch
        self.stop_ids = tuple(stop_ids)
        self.decode = decode
        self.memory = memory
        self._dtype = model.dtype
        self.graphs, self.weights = take_apart(model, weights)
        self._held: tuple[Shape, Cache] | None = None

    def generate(
        self,
        prompts: Sequence[Path],
        sampling: Sampling,
        n: int = 1,
        guides: Sequence[Guide | None] | None = None,
    ) -> list[list[Completion]]:
        """`n` answers to each prompt, in the order given, each after the prompt's guide if any.

        Raises InputError for a prompt that is empty or too long for the memory.
        """
        if not prompts:
            return []
        self._check(sampling)
        shape = self._shape(prompts, sampling.max_new_tokens)
        # What a run holds goes from step to step; one that is broken off leaves nothing behind.
        held, self._held = self._held, None
        cache = held[1] if held and held[0] == shape else None
        del held
        run = Run(self, shape, cache or self._cache(shape), prompts, sampling, n, guides)
        answers = run.answers()
        self._held = (shape, run.cache)
        return answers

    def place_bytes(self) -> int:
        """Bytes of a token's keys and values."""
        decoder = self.config.decoder
        numbers = 2 * decoder.num_layers * decoder.num_kv_heads * decoder.head_dim
        return numbers * self._dtype.itemsize

    def cache_bytes(self) -> int:
        """Bytes of the keys and values that the last call has left on the device."""
        if self._held is None:
            return 0
        arrays = jax.tree.leaves((self._held[1].pool, self._held[1].own))
        return sum(array.nbytes for array in arrays)

    def _check(self, sampling: Sampling) -> None:
        vocabulary = self.config.decoder.vocab_size
        if any(i >= vocabulary for i in sampling.alternatives):
            raise InputError(f"alternatives: token ids must be below {vocabulary}")
        if sampling.stop and self.decode is None:
            raise InputError("stop: an engine without a tokenizer's decode knows no strings")

    def _shape(self, prompts: Sequence[Path], max_new_tokens: int) -> Shape:
        """How many slots, places of trunks, and own places of a slot."""
        room = bucket(max_new_tokens)
        longest = max(range(len(prompts)), key=lambda number: len(prompts[number]))
        wanted = len(prompts[longest])
        if self.memory is None:
            return Shape(self.batch, max(PLACES, bucket(wanted)), room)
        total = self.memory // self.place_bytes()
        slots = max(1, min(self.batch, total // 2 // room))
        places = total - slots * room
        if wanted > places:
            raise InputError(
                f"prompt {longest} has {wanted} tokens; a memory of {self.memory} bytes holds "
                f"{max(places, 0)} beside {slots} answers of {room}: "
                f"{(wanted + self.batch * room) * self.place_bytes()} bytes would do"
            )
        return Shape(slots, places, room)

    def _cache(self, shape: Shape) -> Cache:
        decoder = self.config.decoder
        kv_heads, h = decoder.num_kv_heads, decoder.head_dim

        def pairs(*sizes: int) -> list[tuple[jax.Array, jax.Array]]:
            return [
                (jnp.zeros(sizes, self._dtype), jnp.zeros(sizes, self._dtype))
                for _ in range(decoder.num_layers)
            ]

        return Cache(
            pairs(kv_heads, shape.places, h),
            pairs(shape.slots, kv_heads, shape.room, h),
            jnp.zeros((shape.slots, decoder.vocab_size), bool),
        )
