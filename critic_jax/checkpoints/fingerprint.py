"""A short name for what a model is: the same wherever and in whatever layout its weights lie."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from critic_jax.checkpoints.blocks import Block, Param, parameters
from critic_jax.hosts import whole
from critic_jax.models.build import Params, get_in
from critic_jax.models.config import ModelConfig
from critic_jax.text import SYSTEM_TURN, ChatTokenizer, encode_chat

_WORDS: dict[int, np.dtype[Any]] = {2: np.dtype(np.uint16), 4: np.dtype(np.uint32)}


class WeightsDigest:
    """A digest of all weights, gathered block by block, in any order.

    Every row of every tensor counts with the sum of its words (16 or 32 bits, modulo 2^32): one
    pass at the speed of memory on a host, and on a mesh without bringing anything together. It
    tells models apart; it is no protection against someone who wants to deceive.
    """

    def __init__(self) -> None:
        self._rows: dict[tuple[tuple[str, ...], int], dict[int, bytes]] = {}
        self._kinds: dict[tuple[str, ...], str] = {}

    def add(self, block: Block, tensor: np.ndarray) -> None:
        """Take in a block as torch's tensor has it."""
        flat = tensor.reshape(len(tensor), -1)
        words = flat.view(_WORDS[flat.dtype.itemsize])
        # A vector's elements are rows of one word.
        sums = words.sum(axis=1, dtype=np.uint32)
        self._add(block.param, tensor.dtype, block.layer or 0, block.rows.start, sums)

    def add_sums(self, param: Param, dtype: np.dtype, layer: int, sums: np.ndarray) -> None:
        """Take in the sums of all rows of one tensor."""
        self._add(param, dtype, layer, 0, sums.reshape(-1))

    def _add(self, param: Param, dtype: np.dtype, layer: int, at: int, sums: np.ndarray) -> None:
        self._kinds[param.weight.path] = f"{dtype.name}{list(param.shape)}"
        rows = self._rows.setdefault((param.weight.path, layer), {})
        rows[at] = sums.astype("<u4").tobytes()

    def hexdigest(self) -> str:
        """The digest of what was taken in: 64 hexadecimal digits."""
        digest = hashlib.sha256()
        for (path, layer), rows in sorted(self._rows.items()):
            digest.update(f"{'.'.join(path)} {layer} {self._kinds[path]}".encode())
            for _, sums in sorted(rows.items()):
                digest.update(sums)
        return digest.hexdigest()


def digest_of_params(config: ModelConfig, params: Params) -> str:
    """The digest of parameters in memory, on however many devices and processes."""
    found = parameters(config)
    leaves = [get_in(params, param.weight.path) for param in found]
    digest = WeightsDigest()
    axes = tuple(_summed(param) for param in found)
    sums_of = [whole(sums) for sums in _sums(axes, leaves)]
    for param, leaf, sums in zip(found, leaves, sums_of, strict=True):
        for layer, of_layer in enumerate(sums if param.weight.layers else [sums]):
            digest.add_sums(param, np.dtype(leaf.dtype), layer, of_layer)
    return digest.hexdigest()


def _summed(param: Param) -> tuple[int, ...]:
    """The axes of a parameter that run along a row of torch's tensor."""
    lead = len(param.shape) - len(param.each)
    if param.weight.inputs:
        return tuple(range(lead, lead + param.weight.inputs))
    flat = len(param.weight.stored_shape(param.each)) == 1
    return () if flat else tuple(range(lead + 1, len(param.shape)))


@partial(jax.jit, static_argnums=0)
def _sums(axes: tuple[tuple[int, ...], ...], leaves: list[jax.Array]) -> list[jax.Array]:
    def of(leaf: jax.Array, summed: tuple[int, ...]) -> jax.Array:
        words = jax.lax.bitcast_convert_type(leaf, _WORDS[leaf.dtype.itemsize])
        return jnp.sum(words.astype(jnp.uint32), axis=summed, dtype=jnp.uint32)

    return [of(leaf, a) for leaf, a in zip(leaves, axes, strict=True)]


def fingerprint(weights: str, tokenizer: ChatTokenizer, sampler: Mapping[str, Any]) -> str:
    """16 hexadecimal digits that stand for a model as it answers.

    They change with the weights, the tokenizer, the chat template or `sampler`, its settings.
    """
    frame = encode_chat(tokenizer, [SYSTEM_TURN], [], generation_prompt=True).tokens.tolist()
    parts = [weights, tokenizer.digest(), frame, dict(sampler)]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]
