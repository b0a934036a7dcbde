"""Attention over rows of token trees as a Pallas kernel for TPUs, with its backward pass.

The softmax is computed block by block, as in FlashAttention-2 (arXiv 2307.08691, sections 3.1 and
3.2), the mask from one integer a key, as in FlashMask (arXiv 2410.01359). Only pairs of blocks
that hold a visible pair of tokens are visited: a prefetched list of them drives the grid, so that
the others cost neither a copy nor a step.

Letters: B rows, S tokens, N heads, K kv heads, G = N / K, H head dim, Q queries and C keys of a
block. Scores stand as [C, Q]: what belongs to a query (maximum, sum) is then a row of
lanes, and the softmax reduces over sublanes. A step takes all G heads of a kv head, so that its
keys and values are fetched once.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu

from critic_jax.models.tree_visits import FIRST, LAST, LIVE, WHOLE, Visits, visits

# Scores of pairs that must not see each other; finite, so that no difference of two is NaN.
UNSEEN = -1e30
LANES = 128
# Scoped memory is 16 MiB unless asked for; every TPU from v5e on has 64 MiB or more.
VMEM_BYTES = 48 * 2**20


def flash_forward(
    q: jax.Array,
    k: jax.Array,
    v: jax.Array,
    visible_until: jax.Array,
    block: int | None = None,
    interpret: bool = False,
) -> tuple[jax.Array, jax.Array]:
    """Attention within rows of token trees: q [B, S, N, H], k and v [B, S, K, H],
    visible_until [B, S] with visible_until[j] > j. Returns the result [B, S, N, H] and the base-2
    logarithm of each softmax's sum [B, S, N], in float32.

    Query i sees key j if and only if j <= i < visible_until[j]. bfloat16 or float32, sums in
    float32. `block` is the number of tokens of a query block and of a key block (on a TPU a
    multiple of 128), chosen for the shape if None. `interpret` runs it on any machine, slowly.
    """
    cut = _Cut(q, k, visible_until, block)
    by_query = {"q": cut.queries(q)}
    out, sums = _call(
        _forward_kernel,
        visits(cut.until, cut.block),
        by_query | {"k": cut.keys(k), "v": cut.keys(v), "until": cut.until[:, None]},
        by_query | {"sums": jax.ShapeDtypeStruct(by_query["q"].shape[:4], jnp.float32)},
        scratch=[(cut.groups, cut.block)] * 2 + [(cut.groups, q.shape[3], cut.block)],
        products=2,
        block=cut.block,
        interpret=interpret,
    )
    return cut.whole(out), cut.whole(sums)


def flash_backward(
    q: jax.Array,
    k: jax.Array,
    v: jax.Array,
    visible_until: jax.Array,
    out: jax.Array,
    sums: jax.Array,
    d_out: jax.Array,
    block: int | None = None,
    interpret: bool = False,
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """The gradients of q, k and v, from `flash_forward`'s arguments and results and from the
    gradient of its first result [B, S, N, H]."""
    cut = _Cut(q, k, visible_until, block)
    delta = jnp.sum(out.astype(jnp.float32) * d_out.astype(jnp.float32), -1)
    arrays = {
        "q": cut.queries(q),
        "k": cut.keys(k),
        "v": cut.keys(v),
        "until": cut.until[:, None],
        "d_out": cut.queries(d_out.astype(q.dtype)),
        "sums": cut.queries(sums),
        "delta": cut.queries(delta),
    }
    (dq,) = _call(
        _query_gradient_kernel,
        visits(cut.until, cut.block),
        arrays,
        {"q": arrays["q"]},
        scratch=[(cut.groups, q.shape[3], cut.block)],
        products=3,
        block=cut.block,
        interpret=interpret,
    )
    dk, dv = _call(
        _key_gradient_kernel,
        visits(cut.until, cut.block, by_key=True),
        arrays,
        {"k": arrays["k"], "v": arrays["v"]},
        scratch=[(cut.block, k.shape[3])] * 2,
        products=4,
        block=cut.block,
        interpret=interpret,
    )
    s = q.shape[1]
    return cut.whole(dq), dk.swapaxes(1, 2)[:, :s], dv.swapaxes(1, 2)[:, :s]


class _Cut:
    """Rows padded to whole blocks, heads before tokens, query heads by the kv head they share."""

    def __init__(
        self, q: jax.Array, k: jax.Array, visible_until: jax.Array, block: int | None
    ) -> None:
        b, s, n, h = q.shape
        self.tokens, self.groups = s, n // k.shape[2]
        self.block = block or block_size(s, self.groups, h, q.dtype.itemsize)
        self._missing = -s % self.block
        # Padding sees itself and nothing else.
        beyond = jnp.broadcast_to(jnp.arange(s, s + self._missing) + 1, (b, self._missing))
        self.until = jnp.concatenate([visible_until, beyond], axis=1).astype(jnp.int32)

    def keys(self, x: jax.Array) -> jax.Array:
        """[B, S, K, H] -> [B, K, S, H]."""
        return self._padded(x).swapaxes(1, 2)

    def queries(self, x: jax.Array) -> jax.Array:
        """[B, S, N, ...] -> [B, K, G, S, ...]."""
        x = self._padded(x)
        x = x.reshape(*x.shape[:2], -1, self.groups, *x.shape[3:])
        return jnp.moveaxis(x, 1, 3)

    def whole(self, x: jax.Array) -> jax.Array:
        """[B, K, G, S, ...] -> [B, S, N, ...]."""
        x = jnp.moveaxis(x, 3, 1)
        return x.reshape(*x.shape[:2], -1, *x.shape[4:])[:, : self.tokens]

    def _padded(self, x: jax.Array) -> jax.Array:
        return jnp.pad(x, ((0, 0), (0, self._missing)) + ((0, 0),) * (x.ndim - 2))


def block_size(tokens: int, groups: int, head_dim: int, itemsize: int) -> int:
    """Tokens of a block: large enough to keep the matrix unit busy, small enough to skip much and
    for the queries of G heads (and in the backward pass as much again) to lie in VMEM twice."""
    block = 512
    while block > LANES and groups * block * max(head_dim, LANES) * itemsize > 2 * 2**20:
        block //= 2
    return min(block, -(-tokens // LANES) * LANES)


def _call(
    kernel: Callable[..., None],
    plan: Visits,
    inputs: dict[str, jax.Array],
    outputs: dict[str, Any],
    *,
    scratch: list[tuple[int, ...]],
    products: int,
    block: int,
    interpret: bool,
) -> list[jax.Array]:
    """`kernel` over the planned visits. Arrays by name, which tells how they are cut into blocks;
    `products` is the number of matrix products of a visit, for the cost estimate."""
    b, kv_heads, groups, s, h = inputs["q"].shape

    def by_query(*shape: int) -> pl.BlockSpec:
        where = (0,) * (len(shape) - 1)
        return pl.BlockSpec(
            (None, None, groups, block, *shape[1:]),
            lambda row, head, step, query, key, kind: (row, head, 0, query[row, step], *where),
        )

    queries = by_query(block, h)
    numbers = by_query(block)
    keys = pl.BlockSpec(
        (None, None, block, h),
        lambda row, head, step, query, key, kind: (row, head, key[row, step], 0),
    )
    ends = pl.BlockSpec(
        (None, 1, block), lambda row, head, step, query, key, kind: (row, 0, key[row, step])
    )
    specs = {"q": queries, "d_out": queries, "sums": numbers, "delta": numbers}
    specs |= {"k": keys, "v": keys, "until": ends}

    # As if every row were one sequence: what trees save is not known to the compiler.
    seen = b * kv_heads * groups * s * (s + block) // 2
    itemsize = inputs["q"].dtype.itemsize
    fetched = b * kv_heads * h * itemsize * (4 * groups * s + 2 * s * (s // block + 1) // 2)
    return pl.pallas_call(
        functools.partial(kernel, block=block, scale=h**-0.5),
        grid_spec=pltpu.PrefetchScalarGridSpec(
            num_scalar_prefetch=3,
            grid=(b, kv_heads, plan.steps),
            in_specs=[specs[name] for name in inputs],
            out_specs=[specs[name] for name in outputs],
            scratch_shapes=[pltpu.VMEM(shape, jnp.float32) for shape in scratch],
        ),
        out_shape=[jax.ShapeDtypeStruct(a.shape, a.dtype) for a in outputs.values()],
        compiler_params=pltpu.CompilerParams(
            dimension_semantics=("parallel", "parallel", "arbitrary"),
            vmem_limit_bytes=VMEM_BYTES,
        ),
        cost_estimate=pl.CostEstimate(
            flops=2 * products * seen * h, transcendentals=seen, bytes_accessed=fetched
        ),
        interpret=interpret,
        name=kernel.__name__.strip("_"),
    )(plan.query_block, plan.key_block, plan.kind, *inputs.values())


def _forward_kernel(
    query_block: Any,  # SMEM [B, P], as the next two
    key_block: Any,
    kind: Any,
    q: Any,  # [G, Q, H]
    k: Any,  # [C, H], as v
    v: Any,
    until: Any,  # [1, C]
    out: Any,  # [G, Q, H]
    sums: Any,  # [G, Q]
    top: Any,  # [G, Q], the largest score so far, as total, their sum
    total: Any,
    mixed: Any,  # [G, H, Q], the weighted sum of values
    *,
    block: int,
    scale: float,
) -> None:
    step = _Step(query_block, key_block, kind, block)

    @step.when(FIRST)
    def _() -> None:
        top[...] = jnp.full(top.shape, UNSEEN, jnp.float32)
        total[...] = jnp.zeros(total.shape, jnp.float32)
        mixed[...] = jnp.zeros(mixed.shape, jnp.float32)

    def visit(mask: jax.Array | None) -> None:
        @_each_group(q)
        def _(g: jax.Array) -> None:
            at = pl.ds(g, 1)
            scores = _scores(q[g], k[...], scale, mask)
            high = jnp.maximum(top[at], jnp.max(scores, 0, keepdims=True))
            weights = jnp.exp2(scores - high)
            kept = jnp.exp2(top[at] - high)
            top[at] = high
            total[at] = kept * total[at] + jnp.sum(weights, 0, keepdims=True)
            mixed[g] = kept * mixed[g] + _dot(v[...], weights.astype(v.dtype), 0, 0)

    step.visit(until, visit)

    @step.when(LAST)
    def _() -> None:
        @_each_group(q)
        def _(g: jax.Array) -> None:
            at = pl.ds(g, 1)
            out[g] = (mixed[g] / total[at]).T.astype(out.dtype)

        sums[...] = top[...] + jnp.log2(total[...])


def _query_gradient_kernel(
    query_block: Any,
    key_block: Any,
    kind: Any,
    q: Any,
    k: Any,
    v: Any,
    until: Any,
    d_out: Any,  # [G, Q, H]
    sums: Any,  # [G, Q], as delta
    delta: Any,
    dq: Any,  # [G, Q, H]
    total: Any,  # [G, H, Q]
    *,
    block: int,
    scale: float,
) -> None:
    step = _Step(query_block, key_block, kind, block)

    @step.when(FIRST)
    def _() -> None:
        total[...] = jnp.zeros(total.shape, jnp.float32)

    def visit(mask: jax.Array | None) -> None:
        @_each_group(q)
        def _(g: jax.Array) -> None:
            at = pl.ds(g, 1)
            weights = jnp.exp2(_scores(q[g], k[...], scale, mask) - sums[at])
            d_scores = weights * (_dot(v[...], d_out[g], 1, 1) - delta[at])
            total[g] += _dot(k[...], d_scores.astype(k.dtype), 0, 0)

    step.visit(until, visit)

    @step.when(LAST)
    def _() -> None:
        @_each_group(q)
        def _(g: jax.Array) -> None:
            dq[g] = (scale * total[g]).T.astype(dq.dtype)


def _key_gradient_kernel(
    query_block: Any,
    key_block: Any,
    kind: Any,
    q: Any,
    k: Any,
    v: Any,
    until: Any,
    d_out: Any,
    sums: Any,
    delta: Any,
    dk: Any,  # [C, H], as dv and their sums so far
    dv: Any,
    dk_total: Any,
    dv_total: Any,
    *,
    block: int,
    scale: float,
) -> None:
    step = _Step(query_block, key_block, kind, block)

    @step.when(FIRST)
    def _() -> None:
        dk_total[...] = jnp.zeros(dk_total.shape, jnp.float32)
        dv_total[...] = jnp.zeros(dv_total.shape, jnp.float32)

    def visit(mask: jax.Array | None) -> None:
        @_each_group(q)
        def _(g: jax.Array) -> None:
            at = pl.ds(g, 1)
            weights = jnp.exp2(_scores(q[g], k[...], scale, mask) - sums[at])
            dv_total[...] += _dot(weights.astype(v.dtype), d_out[g], 1, 0)
            d_scores = weights * (_dot(v[...], d_out[g], 1, 1) - delta[at])
            dk_total[...] += _dot(d_scores.astype(q.dtype), q[g], 1, 0)

    step.visit(until, visit)

    @step.when(LAST)
    def _() -> None:
        dk[...] = (scale * dk_total[...]).astype(dk.dtype)
        dv[...] = dv_total[...].astype(dv.dtype)


class _Step:
    """Where a grid step stands: its pair of blocks, and what kind of visit it is."""

    def __init__(self, query_block: Any, key_block: Any, kind: Any, block: int) -> None:
        row, step = pl.program_id(0), pl.program_id(2)
        self.query_begin = block * query_block[row, step]
        self.key_begin = block * key_block[row, step]
        self.kind = kind[row, step]
        self.block = block

    def when(self, flag: int) -> Callable[[Callable[[], None]], None]:
        return pl.when(self.kind & flag != 0)

    def visit(self, until: Any, body: Callable[[jax.Array | None], None]) -> None:
        """`body` with the pair's mask [C, Q], or with None where all of it is visible."""

        @self.when(WHOLE)
        def _() -> None:
            body(None)

        @pl.when(self.kind & (LIVE | WHOLE) == LIVE)
        def _() -> None:
            shape = (self.block, self.block)
            key = self.key_begin + jax.lax.broadcasted_iota(jnp.int32, shape, 0)
            query = self.query_begin + jax.lax.broadcasted_iota(jnp.int32, shape, 1)
            body((key <= query) & (query < until[...].T))


def _each_group(q: Any) -> Any:
    """A decorator: run a function of g for each of the G heads of q [G, Q, H]."""
    return pl.loop(0, q.shape[0], unroll=q.dtype != jnp.float32)


def _scores(q: jax.Array, k: jax.Array, scale: float, mask: jax.Array | None) -> jax.Array:
    """[C, Q], in units of log 2: a power of two is what the hardware computes."""
    scores = _dot(k, q, 1, 1) * (scale * math.log2(math.e))
    return scores if mask is None else jnp.where(mask, scores, UNSEEN)


def _dot(a: jax.Array, b: jax.Array, a_axis: int, b_axis: int) -> jax.Array:
    """The product of two matrices over one axis of each, summed in float32."""
    full = a.dtype == jnp.float32
    return jax.lax.dot_general(
        a,
        b,
        (((a_axis,), (b_axis,)), ((), ())),
        precision=jax.lax.Precision.HIGHEST if full else jax.lax.Precision.DEFAULT,
        preferred_element_type=jnp.float32,
    )
