"""Operations of traced functions, against counts by hand."""

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec

from critic_jax.aot.operations import operations
from critic_jax.aot.topology import topology
from critic_jax.models.attention import tree_attention
from critic_jax.models.tree_flash import flash_forward
from critic_jax.sharding import make_mesh

X = jax.ShapeDtypeStruct((8, 16), jnp.float32)
W = jax.ShapeDtypeStruct((16, 16), jnp.float32)
PRODUCT = 2 * 8 * 16 * 16


def counted(function: object, *arguments: object, platform: str = "tpu") -> int:
    return operations(jax.jit(function).trace(*arguments).jaxpr.jaxpr, platform)


def test_products_and_loops() -> None:
    def thrice(x: jax.Array, w: jax.Array) -> jax.Array:
        return jax.lax.scan(lambda x, _: (jnp.tanh(x @ w), None), x, length=3)[0]

    assert counted(lambda x, w: x @ w, X, W) == PRODUCT
    assert counted(lambda x, w: jnp.tanh(x) + x, X, W) == 0
    assert counted(thrice, X, W) == 3 * PRODUCT
    gradient = jax.grad(lambda x, w: thrice(x, w).sum(), (0, 1))
    assert counted(gradient, X, W) == 9 * PRODUCT


def test_what_is_computed_again_counts_again() -> None:
    def layer(x: jax.Array, w: jax.Array) -> jax.Array:
        return jnp.tanh(jnp.tanh(x @ w) @ w)

    plain, again = (
        jax.grad(lambda x, w, f=f: f(x, w).sum(), (0, 1)) for f in (layer, jax.checkpoint(layer))
    )
    assert counted(plain, X, W) == 6 * PRODUCT
    assert counted(again, X, W) == 8 * PRODUCT


def test_a_convolution() -> None:
    image = jax.ShapeDtypeStruct((1, 28, 28, 3), jnp.float32)
    kernel = jax.ShapeDtypeStruct((14, 14, 3, 5), jnp.float32)

    def patches(image: jax.Array, kernel: jax.Array) -> jax.Array:
        return jax.lax.conv_general_dilated(
            image, kernel, (14, 14), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )

    assert counted(patches, image, kernel) == 2 * 4 * 5 * 14 * 14 * 3


def test_the_branch_of_the_platform_counts() -> None:
    q = jax.ShapeDtypeStruct((1, 256, 4, 64), jnp.float32)
    k = jax.ShapeDtypeStruct((1, 256, 2, 64), jnp.float32)
    until = jax.ShapeDtypeStruct((1, 256), jnp.int32)
    kernel = counted(flash_forward, q, k, k, until)
    # Two products over half of the pairs of tokens, and their diagonal blocks of 256.
    assert kernel == 2 * 2 * 4 * 64 * 256 * 256
    assert counted(tree_attention, q, k, k, until) == kernel
    # The CPU's four blocks of 256 queries, 512 rows of scores, take as many stretches of 512 keys
    # as the row's trees say; one is counted.
    q, k, until = (jax.ShapeDtypeStruct((1, 1024, *x.shape[2:]), x.dtype) for x in (q, k, until))
    on_cpu = counted(tree_attention, q, k, k, until, platform="cpu")
    assert on_cpu == 2 * 2 * 4 * 64 * 256 * 4 * 512


def test_what_each_device_does_counts_for_all() -> None:
    mesh = make_mesh(devices=topology("v5e:2x2").devices)
    shared = jax.shard_map(
        lambda x, w: x @ w,
        mesh=mesh,
        in_specs=(PartitionSpec("fsdp"), PartitionSpec()),
        out_specs=PartitionSpec("fsdp"),
    )
    assert counted(shared, X, W) == PRODUCT
