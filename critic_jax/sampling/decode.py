"""Decoding: all branches go on by some tokens, one after the other, in one program.

Letters: B branches (slots), D model, V vocabulary, C places of the pool, R own places, K kv heads,
H head dim, A alternatives, L likeliest tokens, M most steps of a run.
"""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from critic_jax.models.branch_attention import Visits, branch_attention
from critic_jax.sampling.cache import Cache
from critic_jax.sampling.choose import Choice, choose
from critic_jax.sampling.weights import Graphs, Weights, in_its_mesh
from critic_jax.sharding import spread


class Branches(NamedTuple):
    """The slots at the start of a run, as the host knows them; all [B] unless said otherwise."""

    active: Any  # bool
    fresh: Any  # bool: has no token yet
    hidden: Any  # [B, D]: of fresh ones, the last hidden state of the prompt
    token: Any  # int32: of others, the last token, which has not been through the model
    count: Any  # int32: tokens so far
    limit: Any  # int32: most tokens
    depth: Any  # int32: tokens of the prompt
    end: Any  # int32: the place of the prompt's last token
    identity: Any  # uint32 [B, 3]: what the random key is made from


def idle(slots: int, width: int | None) -> Branches:
    """Slots without a branch, on the host; `width` is D, or None for no hidden states."""

    def numbers() -> np.ndarray:
        return np.zeros(slots, np.int32)

    return Branches(
        active=np.zeros(slots, bool),
        fresh=np.zeros(slots, bool),
        hidden=None if width is None else np.zeros((slots, width), np.float32),
        token=numbers(),
        count=numbers(),
        limit=numbers(),
        depth=numbers(),
        end=numbers() - 1,
        identity=np.zeros((slots, 3), np.uint32),
    )


class Chosen(NamedTuple):
    """What a run chose: column 0 for fresh branches, columns 1 to `steps` for all."""

    columns: Choice  # [B, 1 + M] of each step's
    steps: jax.Array  # int32


def decode(
    graphs: Graphs,
    stop_ids: tuple[int, ...],
    most: int,
    weights: Weights,
    cache: Cache,
    branches: Branches,
    visible_until: jax.Array,
    visits: tuple[Visits, ...],
    sampling: dict[str, jax.Array],
    steps: jax.Array,
    allowed: jax.Array | None = None,
) -> tuple[Chosen, Cache]:
    """Give fresh branches their first token; then go on by `steps` tokens, M = `most` or fewer, or
    until no branch is left.

    A branch ends at a stop id or at its limit. allowed bool [B, V]: of what is chosen.
    """
    model = graphs.model(weights.around)
    layers = [graphs.decoder_layer(layer) for layer in weights.layers]
    slots = jnp.arange(len(branches.token))
    room = cache.own[0][0].shape[2]
    stops = jnp.asarray(stop_ids, jnp.int32)
    fold = jax.random.fold_in
    keys = jax.vmap(lambda seed, i: fold(fold(fold(jax.random.key(seed), i[0]), i[1]), i[2]))(
        sampling["seed"], branches.identity
    )

    def draw(hidden: jax.Array, seen: jax.Array, count: jax.Array) -> Choice:
        steps_keys = jax.vmap(fold)(keys, count)
        # On a mesh each device works out its share of the logits, and chooses from all of them:
        # they are gathered, which is less than the head, and all choose the same.
        logits = spread(model.logits(spread(hidden, None, None)), None, "vocab")
        return choose(spread(logits, None, None), seen, steps_keys, sampling, allowed)

    def record(state: dict[str, Any], t: jax.Array, drawn: Choice) -> dict[str, Any]:
        token = drawn.token
        count = state["count"] + state["active"]
        ended = jnp.any(token[:, None] == stops, axis=-1) | (count >= branches.limit)
        return state | {
            "token": token,
            "count": count,
            "active": state["active"] & ~ended,
            "seen": state["seen"].at[slots, token].set(True),
            "chosen": jax.tree.map(
                lambda held, new: held.at[:, t].set(new), state["chosen"], drawn
            ),
        }

    def first(state: dict[str, Any]) -> dict[str, Any]:
        fresh = branches.fresh
        hidden = branches.hidden.astype(model.dtype)
        begun = record(state, jnp.int32(0), draw(hidden, state["seen"], state["count"]))
        kept = {
            name: jnp.where(fresh, begun[name], state[name])
            for name in ("token", "count", "active")
        }
        seen = jnp.where(fresh[:, None], begun["seen"], state["seen"])
        return begun | kept | {"seen": seen}

    def put(own: jax.Array, new: jax.Array, place: jax.Array) -> jax.Array:
        own = own.at[slots, :, place].set(new[0].astype(own.dtype))
        return spread(own, None, "kv_heads", None, None)

    def unfinished(state: dict[str, Any]) -> jax.Array:
        return (state["t"] < steps) & jnp.any(state["active"])

    def step(state: dict[str, Any]) -> dict[str, Any]:
        # A branch that has ended goes on idly, over its own last place.
        place = jnp.clip(state["count"] - 1, 0, room - 1)
        length = jnp.where(state["active"], state["count"], 0)
        # Branches stand side by side, as the tokens of one row: on a mesh that keeps the weights in
        # their places, where rows would be shared and weights come to them.
        cos, sin = model.decoder.tables((branches.depth + place)[None])
        x = model.decoder.embed(state["token"][None], model.dtype)
        own = []
        for layer, held, pool in zip(layers, state["own"], cache.pool, strict=True):
            q, k, v = layer.project(x, cos, sin)
            mine = (put(held[0], k, place), put(held[1], v, place))
            seen = branch_attention(q[0], pool, mine, visible_until, branches.end, length, visits)
            x = layer.finish(x, seen[None])
            own.append(mine)
        hidden = model.decoder.norm(x)[0]
        t = state["t"] + 1
        drawn = draw(hidden, state["seen"], state["count"])
        return record(state, t, drawn) | {"t": t, "own": own}

    shape = (len(slots), 1 + most)
    alternatives, likeliest = sampling["alternatives"].shape[1:], sampling["likeliest"].shape
    state: dict[str, Any] = {
        "t": jnp.int32(0),
        "token": branches.token,
        "count": branches.count,
        "active": branches.active,
        "seen": jnp.where(branches.fresh[:, None], False, cache.seen),
        "chosen": Choice(
            jnp.zeros(shape, jnp.int32),
            jnp.zeros(shape, jnp.float32),
            jnp.zeros((*shape, *alternatives), jnp.float32),
            jnp.zeros((*shape, *likeliest), jnp.int32),
            jnp.zeros((*shape, *likeliest), jnp.float32),
        ),
    }
    state = jax.lax.cond(jnp.any(branches.fresh), first, lambda state: state, state)
    state = jax.lax.while_loop(unfinished, step, state | {"own": cache.own})
    chosen = Chosen(state["chosen"], state["t"])
    return chosen, Cache(cache.pool, state["own"], state["seen"])


run = partial(jax.jit, static_argnums=(0, 1, 2), donate_argnums=4)(in_its_mesh(decode))
"""`decode`, compiled."""
