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
from critic_jax.sampling.held import Begun
from critic_jax.sampling.weights import Graphs, Weights, in_its_mesh
from critic_jax.sharding import spread
from critic_jax.tree import Row

TILES = (8, 4, 2, 1)
"""How many tiles a device takes at a time: four programs for any number; on one, no padding."""

TAKEN = ("tokens", "tap_index", "tap_weight")
READ = (*TAKEN, "position", "visible_until")
"""Arrays of a row that are read."""

ENDS = 32
"""How many ends of paths the last layer takes at a time."""

QUERIES = 64
"""How many tokens of a row that goes on from another look back at a time."""

Before = tuple[Any, Any] | None
"""What a row goes on from: int32 [L], places in the pool, and how many of them count."""


def prefill(
    graphs: Graphs,
    weights: Weights,
    pool: list[Pair],
    row: Row,
    first: int,
    begun: Begun | None = None,
) -> tuple[np.ndarray, list[Pair]]:
    """Normed hidden states [E, D] at the ends of the row's paths, and the pool with the row in it
    from place `first` on. `pool` holds k, v [K, C, H] of each layer and is used up. begun: what the
    row goes on from; it is copied to `first`, and the row stands behind it.

    A program for each part, not one for all: a layer is compiled once, whatever their number.
    """
    batch = {name: row.arrays()[name][None] for name in READ}
    ends = np.asarray([index[-1] for index in row.path_index], np.int32)
    padded = np.resize(ends, 1 << (len(ends) - 1).bit_length())
    tiles = list(pieces(row.tiles, graphs.devices))
    before = None if begun is None else (begun.places, np.int32(begun.count))
    place = np.int32(first)
    hidden, filled = read(graphs, weights, pool, tiles, batch, padded, place, before)
    return np.asarray(jax.device_get(hidden))[: len(ends)], filled


def read(
    graphs: Graphs,
    weights: Weights,
    pool: list[Pair],
    tiles: list[Any],
    batch: dict[str, Any],
    ends: Any,
    first: Any,
    before: Before = None,
) -> tuple[jax.Array, list[Pair]]:
    """What of it the devices do: `tiles` in pieces, `READ` of a row [1, ...], ends [E]."""
    around = weights.around
    x = _embed(graphs, around, _table(graphs, around, tiles), {n: batch[n] for n in TAKEN})
    place = (batch["position"], batch["visible_until"], first, before)
    filled = []
    for layer, held in zip(weights.layers[:-1], pool[:-1], strict=True):
        x, held = _layer(graphs, around, layer, held, x, *place)
        filled.append(held)
    last = (graphs, around, weights.layers[-1], pool[-1])
    hidden, held = _last_layer(*last, x, *place, ends)
    return hidden, [*filled, held]


def layer_in_pool(
    graphs: Graphs,
    around: Any,
    layer: Any,
    pool: Pair,
    x: jax.Array,
    position: jax.Array,
    visible_until: jax.Array,
    first: jax.Array,
    before: Before,
) -> tuple[jax.Array, Pair]:
    """One layer over a row x [1, S, D]: its output, and the pool with its keys and values in."""
    decoder = graphs.model(around).decoder
    module = graphs.decoder_layer(layer)
    q, k, v = module.project(x, *decoder.tables(position))
    if before is None:
        return module.finish(x, tree_attention(q, k, v, visible_until)), _put(pool, k, v, first)
    k, v = _behind(pool, k, v, before[0])
    rows = jnp.arange(x.shape[1])

    def attended(rows: jax.Array) -> jax.Array:
        return attend(q[:, rows], k, v, _sees(visible_until, rows, before))

    # Few at a time: their scores are as long as all that they look back on.
    found = jax.lax.map(attended, rows.reshape(-1, min(QUERIES, len(rows))))
    return module.finish(x, found.swapaxes(0, 1).reshape(q.shape)), _put(pool, k, v, first)


def last_layer_in_pool(
    graphs: Graphs,
    around: Any,
    layer: Any,
    pool: Pair,
    x: jax.Array,
    position: jax.Array,
    visible_until: jax.Array,
    first: jax.Array,
    before: Before,
    ends: jax.Array,
) -> tuple[jax.Array, Pair]:
    """The same of the last layer, of which nothing but keys and values is wanted but at `ends` [E]:
    normed hidden states [E, D] there, and the pool."""
    decoder = graphs.model(around).decoder
    module = graphs.decoder_layer(layer)
    _, k, v = module.project(x, *decoder.tables(position))
    if before is not None:
        k, v = _behind(pool, k, v, before[0])

    def finished(ends: jax.Array) -> jax.Array:
        q, _, _ = module.project(x[:, ends], *decoder.tables(position[:, ends]))
        attended = attend(q, k, v, _sees(visible_until, ends, before))
        return decoder.norm(module.finish(x[:, ends], attended)[0])

    # Few at a time: their scores are as long as the row.
    hidden = jax.lax.map(finished, ends.reshape(-1, min(ENDS, len(ends))))
    hidden = spread(hidden.reshape(len(ends), -1), None, None)
    return hidden, _put(pool, k, v, first)


def _behind(pool: Pair, k: jax.Array, v: jax.Array, places: jax.Array) -> Pair:
    """A row's keys and values [1, S, K, H] behind those of some places: [1, L + S, K, H]."""
    keys, values = (
        jnp.concatenate([held[:, places].swapaxes(0, 1)[None].astype(new.dtype), new], axis=1)
        for held, new in zip(pool, (k, v), strict=True)
    )
    return keys, values


def _sees(visible_until: jax.Array, queries: jax.Array, before: Before) -> jax.Array:
    """Which of the keys before and within a row some of its tokens see: bool [1, Q, L + S]."""
    within = tree_mask(visible_until, queries)
    if before is None:
        return within
    places, count = before
    counts = jnp.broadcast_to(jnp.arange(len(places)) < count, (1, len(queries), len(places)))
    return jnp.concatenate([counts, within], axis=-1)


def _put(pool: Pair, k: jax.Array, v: jax.Array, first: jax.Array) -> Pair:
    """The pool with a row's keys and values [1, S, K, H] from place `first` on."""
    put = partial(jax.lax.dynamic_update_slice_in_dim, start_index=first, axis=1)
    keys, values = (
        spread(put(held, new[0].swapaxes(0, 1).astype(held.dtype)), "kv_heads", None, None)
        for held, new in zip(pool, (k, v), strict=True)
    )
    return keys, values


_layer = partial(jax.jit, static_argnums=0, donate_argnums=(3, 4))(in_its_mesh(layer_in_pool))
_last_layer = partial(jax.jit, static_argnums=0, donate_argnums=3)(in_its_mesh(last_layer_in_pool))


def _table(graphs: Graphs, around: Any, tiles: list[Any]) -> jax.Array | None:
    """The feature table [1, 1 + T*P, D] of a row's tiles, zeros up to a power of two of tiles."""
    if not tiles:
        return None
    count = sum(piece.shape[1] for piece in tiles)
    found = [_features(graphs, around, piece) for piece in tiles]
    newline, patches = found[0][:, :1], sum(x.shape[1] - 1 for x in found) // count
    missing = ((1 << (count - 1).bit_length()) - count) * patches
    blank = jnp.zeros((1, missing, newline.shape[-1]), newline.dtype)
    return jnp.concatenate([newline, *(x[:, 1:] for x in found), blank], axis=1)


def pieces(tiles: np.ndarray, devices: int) -> Iterator[np.ndarray]:
    """Tiles [T, tile, tile, 3] in pieces [1, ...], blank ones added for each device to have as many
    as the others.
    """
    each = -(-len(tiles) // devices)
    blank = np.zeros((each * devices - len(tiles), *tiles.shape[1:]), tiles.dtype)
    tiles = np.concatenate([tiles, blank]) if len(blank) else tiles
    start = 0
    for most in TILES:
        while each - start >= most:
            yield tiles[None, start * devices : (start + most) * devices]
            start += most


@partial(jax.jit, static_argnums=0)
@in_its_mesh
def _features(graphs: Graphs, around: Any, tiles: jax.Array) -> jax.Array:
    return graphs.model(around).feature_table(tiles)


@partial(jax.jit, static_argnums=0)
@in_its_mesh
def _embed(
    graphs: Graphs, around: Any, table: jax.Array | None, batch: dict[str, jax.Array]
) -> jax.Array:
    return graphs.model(around).embed_with(table, batch)
