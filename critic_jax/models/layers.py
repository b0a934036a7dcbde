"""Linear layers and norms with named parameter axes, and the scan over stacked layers.

Logical axes: "layers", "embed" (D of either part), "heads" (N), "kv_heads" (K), "head_dim" (H),
"ffn" (F), "vocab" (V), "patch" and "position" (tower inputs), "rank" (adapters).
`critic_jax.sharding` maps them to the mesh.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Literal

import jax
import jax.numpy as jnp
from flax import nnx
from jax.ad_checkpoint import checkpoint_name

from critic_jax.models.int8 import product
from critic_jax.sharding import entry

Axes = tuple[str | None, ...]
Remat = Literal["none", "products", "block", "offload"]
ATTENDED = "attended"
"""The name under which attention's results are kept, or computed again."""


def param(value: jax.Array, axes: Axes) -> nnx.Param:
    """A parameter with one logical axis name a dimension."""
    # Names are metadata only: shardings are applied where the train state is created, not here.
    return nnx.Param(value, out_sharding=axes, eager_sharding=False)


class Linear(nnx.Module):
    """y = x @ kernel + bias over the last `len(inputs)` dimensions of x; computes in x's dtype.

    The kernel may be held in four bits (`nf4.quantize`) or eight (`int8.quantize`). `adapter`, if
    there is one, adds a map of its own (`lora.add_adapters`).
    """

    def __init__(
        self,
        inputs: tuple[int, ...],
        outputs: tuple[int, ...],
        axes: Axes,
        bias: bool,
        rngs: nnx.Rngs,
    ) -> None:
        scale = 1.0 / math.sqrt(math.prod(inputs))
        shape = (*inputs, *outputs)
        self.kernel = param(scale * jax.random.normal(rngs.params(), shape), axes)
        self.bias = param(jnp.zeros(outputs), axes[len(inputs) :]) if bias else None
        self.contracted = len(inputs)
        self.adapter: Any = None

    def __call__(self, x: jax.Array) -> jax.Array:
        y = product(x, self.kernel.get_value(), self.contracted)
        if self.bias is not None:
            y = y + self.bias[...].astype(x.dtype)
        return y if self.adapter is None else y + self.adapter(x)


class RMSNorm(nnx.Module):
    """Root-mean-square norm over D, in float32, scaled after the cast back (as Qwen2 does)."""

    def __init__(self, size: int, eps: float) -> None:
        self.scale = param(jnp.ones(size), ("embed",))
        self.eps = eps

    def __call__(self, x: jax.Array) -> jax.Array:
        h = x.astype(jnp.float32)
        h = h * jax.lax.rsqrt(jnp.mean(jnp.square(h), axis=-1, keepdims=True) + self.eps)
        return self.scale[...].astype(x.dtype) * h.astype(x.dtype)


class LayerNorm(nnx.Module):
    """Layer norm over D with scale and bias, in float32."""

    def __init__(self, size: int, eps: float) -> None:
        self.scale = param(jnp.ones(size), ("embed",))
        self.bias = param(jnp.zeros(size), ("embed",))
        self.eps = eps

    def __call__(self, x: jax.Array) -> jax.Array:
        h = x.astype(jnp.float32)
        h = h - jnp.mean(h, axis=-1, keepdims=True)
        h = h * jax.lax.rsqrt(jnp.mean(jnp.square(h), axis=-1, keepdims=True) + self.eps)
        return (h * self.scale[...] + self.bias[...]).astype(x.dtype)


def stack(make: Callable[[nnx.Rngs], nnx.Module], count: int, rngs: nnx.Rngs) -> Any:
    """`count` layers with their parameters stacked along a leading "layers" axis."""

    @nnx.split_rngs(splits=count)
    @nnx.vmap(in_axes=(0,), out_axes=0, transform_metadata={nnx.PARTITION_NAME: "layers"})
    def build(rngs: nnx.Rngs) -> nnx.Module:
        return make(rngs)

    return build(rngs)


def scan(
    stacked: nnx.Module,
    carry: jax.Array,
    step: Callable[[Any, jax.Array], tuple[jax.Array, Any]],
    remat: Remat = "none",
) -> tuple[jax.Array, Any]:
    """Run `step(layer, carry) -> (carry, output)` over stacked layers; outputs come back stacked.

    Compiles one layer, whatever their number. `remat` says what a backward pass finds in memory:
    everything that the forward pass made ("none"), what matrix products and attention made
    ("products"), only each layer's input ("block"), or that input in the host's memory ("offload");
    the rest is computed again.
    """
    graph, params = nnx.split(stacked)

    def body(carry: jax.Array, layer: Any) -> tuple[jax.Array, Any]:
        return step(nnx.merge(graph, layer), checkpoint_name(carry, "block"))

    if remat == "block":
        body = jax.checkpoint(body, prevent_cse=False)
    elif remat == "products":
        policies = jax.checkpoint_policies
        policy = policies.save_from_both_policies(
            policies.dots_with_no_batch_dims_saveable,
            policies.save_only_these_names(ATTENDED),
        )
        body = jax.checkpoint(body, prevent_cse=False, policy=policy)
    elif remat == "offload":
        policy = jax.checkpoint_policies.save_and_offload_only_these_names(
            names_which_can_be_saved=[],
            names_which_can_be_offloaded=["block"],
            offload_src="device",
            offload_dst="pinned_host",
        )
        body = jax.checkpoint(body, prevent_cse=False, policy=policy)
    return jax.lax.scan(body, carry, params)


def unstack(stacked: nnx.Module, count: int) -> list[Any]:
    """The layers one by one, each with weights of its own (what decoding wants)."""
    graph, params = nnx.split(stacked)
    return [
        nnx.merge(graph, jax.tree.map(lambda p, i=i: entry(p, i), params)) for i in range(count)
    ]
