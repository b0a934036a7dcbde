"""Attention. Letters: B rows, S queries, C keys, N heads, K kv heads, G = N / K, H head dim."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec

from critic_jax.models.tree_flash import flash_backward, flash_forward
from critic_jax.sharding import ACTIVATIONS, mesh_size


def attend(q: jax.Array, k: jax.Array, v: jax.Array, mask: jax.Array | None) -> jax.Array:
    """Grouped attention of q [B, S, N, H] over k, v [B, C, K, H]; returns [B, S, N, H].

    `mask` [B, S, C] is true where a query may look, or None for everywhere. Softmax in float32.
    """
    b, s, n, h = q.shape
    groups = n // k.shape[2]
    grouped = q.reshape(b, s, k.shape[2], groups, h)
    scores = jnp.einsum("bskgh,bckh->bkgsc", grouped, k, preferred_element_type=jnp.float32)
    scores = scores * jnp.float32(h**-0.5)
    if mask is not None:
        scores = jnp.where(mask[:, None, None], scores, jnp.finfo(jnp.float32).min)
    weights = jax.nn.softmax(scores, axis=-1).astype(v.dtype)
    return jnp.einsum("bkgsc,bckh->bskgh", weights, v).reshape(b, s, n, h)


def tree_mask(visible_until: jax.Array, query: jax.Array | None = None) -> jax.Array:
    """[B, S, C] of visible_until [B, C]: query i sees key j if and only if
    j <= i < visible_until[j]. `query` [S] are the row indices of the queries, by default all.
    """
    key = jnp.arange(visible_until.shape[-1], dtype=visible_until.dtype)
    query = (key if query is None else query)[:, None]
    return (key <= query) & (query < visible_until[..., None, :])


@jax.custom_vjp
def tree_attention(q: jax.Array, k: jax.Array, v: jax.Array, visible_until: jax.Array) -> jax.Array:
    """Attention within rows of token trees: q [B, S, N, H], k and v [B, S, K, H],
    visible_until [B, S] with visible_until[j] > j; returns [B, S, N, H].

    One function, whatever the machine that the program is compiled for: a Pallas kernel on a TPU,
    blocks of queries elsewhere. Nothing larger than q is kept for the backward pass.
    """
    return _forward(q, k, v, visible_until)[0]


Saved = tuple[jax.Array, ...]


def _forward(
    q: jax.Array, k: jax.Array, v: jax.Array, visible_until: jax.Array
) -> tuple[jax.Array, Saved]:
    def without_sums(attention: Callable[..., jax.Array]) -> Callable[..., Saved]:
        return lambda *arrays: (attention(*arrays), jnp.zeros(q.shape[:3], jnp.float32))

    arrays = (q, k, v, visible_until)
    # All of them are traced, and what one keeps for its backward pass every other would have to
    # keep as zeros; so the two passes are chosen apart, between functions of the same arrays.
    out, sums = jax.lax.platform_dependent(
        *arrays,
        cpu=without_sums(_of_rows),
        tpu=functools.partial(_on_devices, flash_forward),
        default=without_sums(_query_blocks),
    )
    return out, (*arrays, out, sums)


def _backward(saved: Saved, d_out: jax.Array) -> tuple[jax.Array | None, ...]:
    def again(attention: Callable[..., jax.Array]) -> Callable[..., Saved]:
        def backward(*arrays: jax.Array) -> Saved:
            q, k, v, until, _, _, d_out = arrays
            return jax.vjp(lambda q, k, v: attention(q, k, v, until), q, k, v)[1](d_out)

        return backward

    dq, dk, dv = jax.lax.platform_dependent(
        *saved,
        d_out,
        cpu=again(_of_rows),
        tpu=functools.partial(_on_devices, flash_backward),
        default=again(_query_blocks),
    )
    return dq, dk, dv, None


tree_attention.defvjp(_forward, _backward)


def _on_devices(kernel: Callable[..., Saved], *arrays: jax.Array) -> Saved:
    """A kernel on each device's rows and heads: the compiler cannot split one by itself.

    arrays: q, k, v, visible_until and, for a backward pass, q's kind again.
    """
    q, k, v, visible_until, *rest = arrays
    tensor = mesh_size("tensor")
    if mesh_size("data", "fsdp") * tensor == 1:
        return kernel(*arrays)

    heads, kv_heads = q.shape[2], k.shape[2]
    assert heads % tensor == 0  # as param_shardings checks
    rows = ACTIVATIONS["rows"]
    # Too few rows to share: every device takes all of them.
    by_row = rows if q.shape[0] % mesh_size(*rows) == 0 else None
    # Each kv head as often as it takes for every device to hold the ones that its queries use.
    repeats = math.lcm(kv_heads, tensor) // kv_heads
    of_heads = PartitionSpec(by_row, None, "tensor")
    specs = (of_heads, of_heads, of_heads, PartitionSpec(by_row))
    out = jax.shard_map(
        kernel,
        in_specs=(*specs, *(of_heads for _ in rest)),
        out_specs=of_heads,
        check_vma=False,  # a kernel's outputs do not tell along which axes they vary
    )(q, jnp.repeat(k, repeats, 2), jnp.repeat(v, repeats, 2), visible_until, *rest)
    if not rest:
        return out
    dq, *d_keys = out
    shape = (*k.shape[:3], repeats, k.shape[3])
    return dq, *(d.reshape(shape).astype(jnp.float32).sum(3).astype(k.dtype) for d in d_keys)


def _query_blocks(q: jax.Array, k: jax.Array, v: jax.Array, visible_until: jax.Array) -> jax.Array:
    """A block of queries at a time, forward and backward, all heads at once: scores are never
    more than [B, N, 256, S]. A span of blocks takes the keys up to its end.
    """
    b, s = q.shape[:2]
    block = min(s, 256)
    blocks = -(-s // block)
    span = -(-blocks // 8)
    q = jnp.pad(q, ((0, 0), (0, blocks * block - s), (0, 0), (0, 0)))

    def mixed(begin: jax.Array, keys: int) -> jax.Array:
        queries = jax.lax.dynamic_slice_in_dim(q, begin, block, axis=1)
        mask = tree_mask(visible_until[:, :keys], begin + jnp.arange(block))
        return attend(queries, k[:, :keys], v[:, :keys], mask)

    out = []
    for first in range(0, blocks, span):
        last = min(blocks, first + span)
        begins = block * jnp.arange(first, last)
        keys = min(s, last * block)
        of_block = jax.checkpoint(functools.partial(mixed, keys=keys))
        out.append(jax.lax.map(of_block, begins))
    return jnp.concatenate(out).swapaxes(0, 1).reshape(b, blocks * block, *q.shape[2:])[:, :s]


def _of_rows(q: jax.Array, k: jax.Array, v: jax.Array, visible_until: jax.Array) -> jax.Array:
    """Row by row and head by head, each block of queries over the keys before its end.

    On a CPU a batched product runs at a sixth of the speed of plain ones, half of a dense mask is
    never seen, and [S, S] scores cost more to keep for the backward pass than to compute again.
    """
    s, n, h = q.shape[1:]
    kv_heads, groups = k.shape[2], n // k.shape[2]
    block = max(128, -(-s // 16))
    scale = jnp.float32(h**-0.5)

    @jax.checkpoint
    def row(arrays: tuple[jax.Array, ...]) -> jax.Array:
        q, k, v, until = arrays
        grouped = q.reshape(s, kv_heads, groups, h)
        blocks = []
        for begin in range(0, s, block):
            end = min(s, begin + block)
            mask = tree_mask(until[:end], jnp.arange(begin, end))
            heads = []
            for head in range(kv_heads):
                rows = grouped[begin:end, head].reshape(-1, h)
                scores = jnp.dot(rows, k[:end, head].T, preferred_element_type=jnp.float32)
                scores = scores.reshape(end - begin, groups, end) * scale
                scores = jnp.where(mask[:, None], scores, jnp.finfo(jnp.float32).min)
                weights = jax.nn.softmax(scores, axis=-1).astype(v.dtype)
                mixed = weights.reshape(-1, end) @ v[:end, head]
                heads.append(mixed.reshape(end - begin, groups, h))
            blocks.append(jnp.stack(heads, axis=1))
        return jnp.concatenate(blocks).reshape(s, n, h)

    return jax.lax.map(row, (q, k, v, visible_until))
