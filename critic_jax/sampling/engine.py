"""Prefill and decode: prompts in, sampled answers out.

Letters: B rows of a batch, S prompt tokens, C cache places, V vocabulary.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from hashlib import blake2b
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from critic_jax.models.attention import tree_attention
from critic_jax.models.layers import unstack
from critic_jax.models.llava import Llava
from critic_jax.models.qwen2 import decode_layer
from critic_jax.sampling.choose import Sampling, choose
from critic_jax.tree import Path, pack, tile_count


@dataclass(frozen=True)
class Completion:
    """One sampled answer: tokens without the stop token, their log-probabilities, why it ended.

    alternatives: float32 [steps, A], at each step the log-probabilities of the ids that
    `Sampling.alternatives` names, under the model alone: before temperature, penalty, cuts or a
    guide. The step that chose the stop token is one of them.
    """

    tokens: tuple[int, ...]
    logprobs: tuple[float, ...]
    finish: str  # "stop" | "length"
    alternatives: np.ndarray = field(
        default_factory=lambda: np.zeros((0, 0), np.float32), compare=False
    )


class Engine:
    """Samples from a model. Compiles once a bucket of prompt length, tiles and answer length.

    Answers don't depend on the other prompts of a call, nor on their order: each has a random key
    of its own, made from its content and the number of the answer. Of equal prompts, the second
    has another key than the first.
    """

    def __init__(
        self,
        model: Llava,
        stop_ids: Sequence[int],
        batch: int = 32,
        watch: Callable[[int], None] | None = None,
    ) -> None:
        self.config = model.config
        self.batch = batch
        self.watch = watch
        # Decoding runs layer by layer over weights of their own; slicing a stack at every token is
        # several times slower.
        layers = unstack(model.decoder.layers, model.config.decoder.num_layers)
        self._graphs, self._weights = nnx.split((model, layers), nnx.Param)
        self._run = jax.jit(
            partial(_generate, self._graphs, tuple(stop_ids)), static_argnames=("room",)
        )

    def generate(
        self, prompts: Sequence[Path], sampling: Sampling, n: int = 1
    ) -> list[list[Completion]]:
        """`n` answers to each prompt, in the order given."""
        jobs = [(p, s) for p in range(len(prompts)) for s in range(n)]
        # Prompts of like length share a batch, so that little of it is padding.
        jobs.sort(key=lambda j: (len(prompts[j[0]]), j))
        identities = _identities(prompts)
        answers: dict[tuple[int, int], Completion] = {}
        for at in range(0, len(jobs), self.batch):
            chunk = jobs[at : at + self.batch]
            keys = [(*identities[p], s) for p, s in chunk]
            done = self._chunk([prompts[p] for p, _ in chunk], keys, sampling)
            answers.update(zip(chunk, done, strict=True))
            if self.watch is not None:
                self.watch(len(chunk))
        return [[answers[p, s] for s in range(n)] for p in range(len(prompts))]

    def _chunk(
        self, prompts: list[Path], keys: list[tuple[int, int, int]], sampling: Sampling
    ) -> list[Completion]:
        rows = self.batch if len(prompts) > self.batch // 2 else _power_of_two(len(prompts))
        tokens = _bucket(max(len(p) for p in prompts))
        tiles = max(tile_count([p], [0]) for p in prompts)
        padded = prompts + [prompts[-1]] * (rows - len(prompts))
        tower = self.config.tower
        shape = (tower.tile_size, tower.tile_size, 3)
        packed = [pack([p], [[0]], tokens, tiles, shape, tower.patches).arrays() for p in padded]
        batch = {name: np.stack([r[name] for r in packed]) for name in packed[0]}
        identity = np.asarray(keys + [keys[-1]] * (rows - len(keys)), np.uint32)
        output = self._run(
            self._weights,
            batch,
            np.asarray([len(p) for p in padded], np.int32),
            identity,
            sampling.dynamic(),
            np.int32(sampling.max_new_tokens),
            room=_bucket(sampling.max_new_tokens),
        )
        ids, logprobs, counts, stopped = jax.device_get(output)
        return [
            Completion(
                tuple(int(t) for t in ids[r, : counts[r]]),
                tuple(float(x) for x in logprobs[r, : counts[r]]),
                "stop" if stopped[r] else "length",
            )
            for r in range(len(prompts))
        ]


def _identities(prompts: Sequence[Path]) -> list[tuple[int, int]]:
    """For each prompt a number made from its content, and how many equal ones stand before it."""
    before: Counter[int] = Counter()
    identities = []
    for prompt in prompts:
        digest = blake2b(prompt.tokens.tobytes(), digest_size=4)
        for visual in prompt.visuals:
            digest.update(visual.key.encode())
        number = int.from_bytes(digest.digest(), "little")
        identities.append((number, before[number]))
        before[number] += 1
    return identities


def _bucket(size: int) -> int:
    """The next multiple of 32 up to 256, of 64 up to 512, ...: few shapes, little padding."""
    step = 32
    while step * 8 < size:
        step *= 2
    return -(-size // step) * step


def _power_of_two(size: int) -> int:
    return 1 << (size - 1).bit_length()


def _generate(
    graphs: Any,
    stop_ids: tuple[int, ...],
    weights: Any,
    batch: dict[str, jax.Array],
    lengths: jax.Array,  # [B]
    identity: jax.Array,  # uint32 [B, 3]: what each row's random key is made from
    sampling: dict[str, jax.Array],
    limit: jax.Array,
    room: int,
) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
    """Token ids and log-probs [B, room], how many of them count [B], and which rows stopped [B]."""
    model, layers = nnx.merge(graphs, weights)
    rows = len(batch["tokens"])
    cos, sin = model.decoder.tables(batch["position"])
    x = model.embed(batch)
    cache = []
    for layer in layers:
        q, k, v = layer.project(x, cos, sin)
        x = layer.finish(x, tree_attention(q, k, v, batch["visible_until"]))
        grow = ((0, 0), (0, room), (0, 0), (0, 0))
        cache.append((jnp.pad(k, grow), jnp.pad(v, grow)))
    last = jnp.take_along_axis(x, (lengths - 1)[:, None, None], axis=1)
    logits = model.logits(model.decoder.norm(last)[:, 0])
    seed, fold = jax.random.key(sampling["seed"]), jax.random.fold_in
    keys = jax.vmap(lambda i: fold(fold(fold(seed, i[0]), i[1]), i[2]))(identity)
    stops = jnp.asarray(stop_ids)

    def unfinished(state: dict[str, Any]) -> jax.Array:
        return (state["t"] < limit) & ~jnp.all(state["stopped"])

    def step(state: dict[str, Any]) -> dict[str, Any]:
        t = state["t"]
        token, logprob = choose(
            state["logits"],
            state["seen"],
            jax.vmap(jax.random.fold_in, (0, None))(keys, t),
            sampling,
        )
        stopped = state["stopped"] | jnp.any(token[:, None] == stops, axis=-1)
        index = lengths + t
        cos, sin = model.decoder.tables(index[:, None])
        x = model.decoder.embedding[...][token][:, None].astype(model.dtype)
        cache = []
        for layer, held in zip(layers, state["cache"], strict=True):
            x, held = decode_layer(layer, x, cos, sin, held, index)
            cache.append(held)
        return {
            "t": t + 1,
            "logits": model.logits(model.decoder.norm(x)[:, 0]),
            "seen": state["seen"].at[jnp.arange(rows), token].set(True),
            "ids": state["ids"].at[:, t].set(token),
            "logprobs": state["logprobs"].at[:, t].set(logprob),
            "counts": state["counts"] + ~stopped,
            "stopped": stopped,
            "cache": cache,
        }

    state = jax.lax.while_loop(
        unfinished,
        step,
        {
            "t": jnp.int32(0),
            "logits": logits,
            "seen": jnp.zeros(logits.shape, bool),
            "ids": jnp.zeros((rows, room), jnp.int32),
            "logprobs": jnp.zeros((rows, room), jnp.float32),
            "counts": jnp.zeros(rows, jnp.int32),
            "stopped": jnp.zeros(rows, bool),
            "cache": cache,
        },
    )
    return state["ids"], state["logprobs"], state["counts"], state["stopped"]
