"""Prompts in, sampled answers out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import jax
import numpy as np

from critic_jax.errors import InputError
from critic_jax.models.llava import Llava
from critic_jax.sampling.cache import Cache, Shape, cache_shapes, empty_cache, kv_bytes
from critic_jax.sampling.choose import Sampling
from critic_jax.sampling.completion import Completion, Decode
from critic_jax.sampling.decode import Branches, Chosen, run
from critic_jax.sampling.following import Channel, follow
from critic_jax.sampling.guide import Guide
from critic_jax.sampling.request import requests_of
from critic_jax.sampling.run import MOST, Run
from critic_jax.sampling.trees import bucket
from critic_jax.sampling.weights import WeightFormat, take_apart
from critic_jax.tree import Path

Arrays = TypeVar("Arrays")

PLACES = 16_384
"""Tokens of prompts that are held at once where no memory is given."""

__all__ = ["Completion", "Engine"]


class Engine:
    """Samples from a model; where its parameters lie on a mesh, on that mesh.

    A mesh may span processes. Then each of them makes the engine and calls it as often as the
    first one does: the first one's arguments count, the answers come back in all.

    Prompts that begin alike are read once: the picture, its tiles, the answers that several of them
    quote. `batch` answers are worked on at a time; when one ends, the next takes its place.

    Answers don't depend on the other prompts of a call, nor on their order: each has a random key
    of its own, made from its content and the number of the answer. Of equal prompts, the second
    has another key than the first.

    batch: slots of answers. memory: bytes of each device for keys and values, half of which at most
    are for what answers say (fewer slots, if need be), the rest for prompts; by default `PLACES`
    tokens of prompts, or as many as the longest has. decode: ids to text, for stop strings. watch:
    told how many answers are done, as they are done. weights: "int8" holds them in eight bits
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
        self.graphs, held = take_apart(model, weights)
        self._device = None if self.graphs.mesh else _device_of(held)
        self.weights = self._put(held)
        self.channel = Channel(self.graphs.mesh)
        self._held: tuple[Shape, Cache] | None = None
        self._blank: Any = None

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
        if not self.channel.leads:
            return follow(self)
        try:
            answers = self._answers(prompts, sampling, n, guides) if prompts else []
        except BaseException as error:
            self.channel.tell("failed", isinstance(error, InputError), str(error))
            raise
        self.channel.tell("done", answers)
        return answers

    def _answers(
        self,
        prompts: Sequence[Path],
        sampling: Sampling,
        n: int,
        guides: Sequence[Guide | None] | None,
    ) -> list[list[Completion]]:
        self.check(sampling)
        requests = requests_of(prompts, sampling, n, guides)
        longest = max(range(len(prompts)), key=lambda number: len(prompts[number]))
        shape = self.shape(len(prompts[longest]), sampling.max_new_tokens, f"prompt {longest}")
        self.channel.tell("begin", shape)
        run = Run(self, shape, self.take_cache(shape))
        run.add(requests)
        done = 0
        while run.step() is not None:
            before, done = done, sum(request.ended for request in requests)
            if done > before and self.watch is not None:
                self.watch(done - before)
        self.keep_cache(shape, run.cache)
        return [request.completions() for request in requests]

    def take_cache(self, shape: Shape) -> Cache:
        """What the last call has left, or an empty one.

        What a run holds goes from step to step; one that is broken off leaves nothing behind.
        """
        held, self._held = self._held, None
        if held and held[0] == shape:
            return held[1]
        del held
        shapes = cache_shapes(self.config.decoder, self._dtype, shape, self.graphs.mesh)
        return self._put(empty_cache(shapes))

    def _put(self, arrays: Arrays) -> Arrays:
        """On one device arrays are said to lie on it, and not on a mesh of one: what a program
        gives back is then as it was given, and the next call compiles nothing anew."""
        return arrays if self._device is None else jax.device_put(arrays, self._device)

    def keep_cache(self, shape: Shape, cache: Cache) -> None:
        """For the next call."""
        self._held = (shape, cache)

    def go_on(self, cache: Cache, branches: Branches, *given: Any) -> tuple[Chosen, Cache]:
        """Some steps of all branches; `given` as in `decode`, from visible_until on. Where none is
        fresh `hidden` may be None.
        """
        if branches.hidden is None:
            branches = branches._replace(hidden=self._no_hidden(len(branches.token)))
        return run(self.graphs, self.stop_ids, MOST, self.weights, cache, branches, *given)

    def _no_hidden(self, slots: int) -> Any:
        """Zeros, which stay on the device where there is but one."""
        if self._blank is None or len(self._blank) != slots:
            zeros = np.zeros((slots, self.config.decoder.hidden_size), np.float32)
            self._blank = self._put(zeros)
        return self._blank

    def place_bytes(self) -> int:
        """Bytes of a token's keys and values on each device."""
        return kv_bytes(self.config.decoder, self._dtype, self.graphs.mesh)

    def cache_bytes(self) -> int:
        """Bytes of the keys and values that the last call has left on each device."""
        if self._held is None:
            return 0
        arrays = jax.tree.leaves((self._held[1].pool, self._held[1].own))
        return sum(array.addressable_shards[0].data.nbytes for array in arrays)

    def check(self, sampling: Sampling) -> None:
        """Raises InputError for what this engine cannot do."""
        vocabulary = self.config.decoder.vocab_size
        if any(i >= vocabulary for i in sampling.alternatives):
            raise InputError(f"alternatives: token ids must be below {vocabulary}")
        if sampling.stop and self.decode is None:
            raise InputError("stop: an engine without a tokenizer's decode knows no strings")

    def shape(self, tokens: int, max_new_tokens: int, name: str = "the longest prompt") -> Shape:
        """How many slots, places of trunks, and own places of a slot, where the longest prompt has
        so many tokens. Raises InputError, about that `name`, where the memory is too small.
        """
        room = bucket(max_new_tokens)
        if self.memory is None:
            return Shape(self.batch, max(PLACES, bucket(tokens)), room)
        total = self.memory // self.place_bytes()
        slots = max(1, min(self.batch, total // 2 // room))
        places = total - slots * room
        if tokens > places:
            raise InputError(
                f"{name} has {tokens} tokens; a memory of {self.memory} bytes holds "
                f"{max(places, 0)} beside {slots} answers of {room}: "
                f"{(tokens + self.batch * room) * self.place_bytes()} bytes would do"
            )
        return Shape(slots, places, room)


def _device_of(arrays: Any) -> jax.Device:
    """The one that arrays lie on; the first, where they lie on none yet."""
    first = jax.tree.leaves(arrays)[0]
    return next(iter(first.devices())) if isinstance(first, jax.Array) else jax.local_devices()[0]
