"""Prefill: the row of a trunk goes through the model once, its keys and values into the pool.

Letters: S tokens of the row, T tiles, P patches of a tile, D model, E ends of paths, C places of
the pool, K kv heads, H head dim.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from critic_jax.models.attention import attend, tree_attention, tree_mask
from critic_jax.models.branch_attention import Pair
from critic_jax.sampling.weights import Graphs, Weights
from critic_jax.tree import Row

TILES = (8, 4, 2, 1)
"""How many tiles the tower takes at a time: four programs for any number, and no padding."""

ENDS = 32
"""How many ends of paths the last layer takes at a time."""


def prefill(
    graphs: Graphs, weights: Weights, pool: list[Pair], row: Row, first: int
) -> tuple[np.ndarray, list[Pair]]:
    """Normed hidden states [E, D] at the ends of the row's paths, and the pool with the row in it
    from place `first` on. `pool` holds k, v [K, C, H] of each layer and is used up.

    A program for each part, not one for all: a layer is compiled once, whatever their number.
    """
    batch = {n: row.arrays()[n] for n in ("tokens", "tap_index", "tap_weight")}
    batch = {name: array[None] for name, array in batch.items()}
    x = _embed(graphs, weights.around, _table(graphs, weights, row), batch)
    place = (row.position[None], row.visible_until[None], np.int32(first))
    filled = []
    for layer, held in zip(weights.layers[:-1], pool[:-1], strict=True):
        x, held = _layer(graphs, weights.around, layer, held, x, *place)
        filled.append(held)
    ends = np.asarray([index[-1] for index in row.path_index], np.int32)
    padded = np.resize(ends, 1 << (len(ends) - 1).bit_length())
    last = (graphs, weights.around, weights.layers[-1], pool[-1])
    hidden, held = _last_layer(*last, x, *place, padded)
    return np.asarray(jax.device_get(hidden))[: len(ends)], [*filled, held]


def layer_in_pool(
    graphs: Graphs,
    around: Any,
    layer: Any,
    pool: Pair,
    x: jax.Array,
    position: jax.Array,
    visible_until: jax.Array,
    first: jax.Array,
) -> tuple[jax.Array, Pair]:
    """One layer over a row x [1, S, D]: its output, and the pool with its keys and values in."""
    decoder = graphs.model(around).decoder
    module = graphs.decoder_layer(layer)
    q, k, v = module.project(x, *decoder.tables(position))
    filled = _put(pool, k, v, first)
    return module.finish(x, tree_attention(q, k, v, visible_until)), filled


def last_layer_in_pool(
    graphs: Graphs,
    around: Any,
    layer: Any,
    pool: Pair,
    x: jax.Array,
    position: jax.Array,
    visible_until: jax.Array,
    first: jax.Array,
    ends: jax.Array,
) -> tuple[jax.Array, Pair]:
    """The same of the last layer, of which nothing but keys and values is wanted but at `ends` [E]:
    normed hidden states [E, D] there, and the pool."""
    decoder = graphs.model(around).decoder
    module = graphs.decoder_layer(layer)
    _, k, v = module.project(x, *decoder.tables(position))

    def finished(ends: jax.Array) -> jax.Array:
        q, _, _ = module.project(x[:, ends], *decoder.tables(position[:, ends]))
        attended = attend(q, k, v, tree_mask(visible_until, ends))
        return decoder.norm(module.finish(x[:, ends], attended)[0])

    # Few at a time: their scores are as long as the row.
    hidden = jax.lax.map(finished, ends.reshape(-1, min(ENDS, len(ends))))
    return hidden.reshape(len(ends), -1), _put(pool, k, v, first)


def _put(pool: Pair, k: jax.Array, v: jax.Array, first: jax.Array) -> Pair:
    """The pool with a row's keys and values [1, S, K, H] from place `first` on."""
    put = partial(jax.lax.dynamic_update_slice_in_dim, start_index=first, axis=1)
    keys, values = (
        put(held, new[0].swapaxes(0, 1).astype(held.dtype))
        for held, new in zip(pool, (k, v), strict=True)
    )
    return keys, values


_layer = partial(jax.jit, static_argnums=0, donate_argnums=(3, 4))(layer_in_pool)
_last_layer = partial(jax.jit, static_argnums=0, donate_argnums=3)(last_layer_in_pool)


def _table(graphs: Graphs, weights: Weights, row: Row) -> jax.Array | None:
    """The feature table [1, 1 + T*P, D] of the row's tiles, zeros up to a power of two of tiles."""
    count = len(row.tiles)
    if not count:
        return None
    run = partial(_features, graphs, weights.around)
    found = [run(row.tiles[None, start:stop]) for start, stop in _pieces(count)]
    newline, patches = found[0][:, :1], sum(x.shape[1] - 1 for x in found) // count
    missing = ((1 << (count - 1).bit_length()) - count) * patches
    blank = jnp.zeros((1, missing, newline.shape[-1]), newline.dtype)
    return jnp.concatenate([newline, *(x[:, 1:] for x in found), blank], axis=1)


def _pieces(count: int) -> Iterator[tuple[int, int]]:
    start = 0
    for most in TILES:
        while count - start >= most:
            yield start, start + most
            start += most


@partial(jax.jit, static_argnums=0)
def _features(graphs: Graphs, around: Any, tiles: jax.Array) -> jax.Array:
    return graphs.model(around).feature_table(tiles)


@partial(jax.jit, static_argnums=0)
def _embed(
    graphs: Graphs, around: Any, table: jax.Array | None, batch: dict[str, jax.Array]
) -> jax.Array:
    return graphs.model(around).embed_with(table, batch)
