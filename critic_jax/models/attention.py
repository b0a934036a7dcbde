"""Attention. Letters: B rows, S queries, C keys, N heads, K kv heads, G = N / K, H head dim."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name
from jax.sharding import PartitionSpec

from critic_jax.models.cpu_attention import rows_backward, rows_forward
from critic_jax.models.layers import ATTENDED
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
        cpu=rows_forward,
        tpu=functools.partial(_on_devices, flash_forward),
        default=without_sums(_query_blocks),
    )
    out, sums = checkpoint_name((out, sums), ATTENDED)
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
        cpu=rows_backward,
        tpu=functools.partial(_on_devices, flash_backward),
        default=again(_query_blocks),
    )
    return dq, dk, dv, None


tree_attention.defvjp(_forward, _backward)


@jax.custom_vjp
def full_attention(q: jax.Array, k: jax.Array, v: jax.Array) -> jax.Array:
    """Attention in which every query sees every key: q, k and v [B, S, N, H] -> [B, S, N, H].

    Its backward pass keeps nothing of [S, S].
    """
    return _full_forward(q, k, v)[0]


def _full_forward(q: jax.Array, k: jax.Array, v: jax.Array) -> tuple[jax.Array, Saved]:
    def plain(q: jax.Array, k: jax.Array, v: jax.Array) -> Saved:
        return attend(q, k, v, None), jnp.zeros(q.shape[:3], jnp.float32)

    out, sums = jax.lax.platform_dependent(
        q, k, v, cpu=functools.partial(rows_forward, visible_until=None), default=plain
    )
    out, sums = checkpoint_name((out, sums), ATTENDED)
    return out, (q, k, v, out, sums)


def _full_backward(saved: Saved, d_out: jax.Array) -> Saved:
    def quick(*arrays: jax.Array) -> Saved:
        q, k, v, out, sums, d_out = arrays
        return rows_backward(q, k, v, None, out, sums, d_out)

    def plain(*arrays: jax.Array) -> Saved:
        q, k, v, _, _, d_out = arrays
        # Within a rematerialised layer the compiler finds these products made already.
        return jax.vjp(functools.partial(attend, mask=None), q, k, v)[1](d_out)

    return jax.lax.platform_dependent(*saved, d_out, cpu=quick, default=plain)


full_attention.defvjp(_full_forward, _full_backward)


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
