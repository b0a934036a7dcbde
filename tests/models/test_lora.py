"""Adapters and four-bit kernels: the maths, and what has them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import qwix
from flax import nnx
from jax.sharding import PartitionSpec
from tiny_critic import random_params

from critic_jax.models.build import abstract, assemble, init_adapters
from critic_jax.models.config import PRESETS, tiny
from critic_jax.models.layers import Linear, scan, stack
from critic_jax.models.llava import Llava
from critic_jax.models.lora import ADAPTABLE, Lora, add_adapters
from critic_jax.models.nf4 import dense, quantize, scale_sharding, tiled
from critic_jax.sharding import make_mesh, param_shardings
from critic_jax.training.tuning import joined


@pytest.mark.parametrize(
    ("inputs", "outputs", "axes"),
    [((6,), (4, 3), (None, "heads", "head_dim")), ((4, 3), (5,), ("heads", "head_dim", None))],
)
def test_an_adapter_adds_its_product(inputs: tuple, outputs: tuple, axes: tuple) -> None:
    class Named(nnx.Module):
        def __init__(self) -> None:
            self.decoder = nnx.Dict(q=Linear(inputs, outputs, axes, True, nnx.Rngs(0)))

    model = Named()
    add_adapters(model, Lora(2, 6.0, ("decoder.q",)), nnx.Rngs(1))
    linear = model.decoder["q"]
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2, *inputs)).astype(np.float32)
    a, b, bias = (
        rng.normal(size=p.shape).astype(np.float32)
        for p in (linear.adapter.a, linear.adapter.b, linear.bias)
    )
    without = np.asarray(linear(x))  # b starts at zero
    linear.adapter.a[...], linear.adapter.b[...], linear.bias[...] = a, b, bias
    assert a.shape == (*inputs, 2) and b.shape == (2, *outputs)
    flat = x.reshape(2, -1)
    kernel = np.asarray(linear.kernel[...]).reshape(flat.shape[1], -1)
    np.testing.assert_allclose(without.reshape(2, -1), flat @ kernel, rtol=1e-5, atol=1e-5)
    whole = kernel + 6.0 / 2 * a.reshape(flat.shape[1], 2) @ b.reshape(2, -1)
    expected = flat @ whole + bias.reshape(-1)
    np.testing.assert_allclose(np.asarray(linear(x)).reshape(2, -1), expected, rtol=1e-4, atol=1e-5)


def test_what_can_have_an_adapter_is_every_linear_layer_but_the_patches() -> None:
    plain = abstract(tiny())[1]
    kernels = {path[:-1] for path, _ in nnx.to_flat_state(plain) if path[-1] == "kernel"}
    names = {".".join(str(n) for n in path if n != "layers") for path in kernels}
    assert names - {"tower.patch"} == set(ADAPTABLE)
    for layers in (("decoder.*",), ("decoder.q", "*.fc1")):
        lora = Lora(4, 8.0, layers)
        paths = [path for path, _ in nnx.to_flat_state(abstract(tiny(), lora=lora)[1])]
        found = {".".join(map(str, path[:-2])) for path in paths if "adapter" in path}
        assert {name.replace(".layers", "") for name in found} == set(lora.names())


def test_fresh_adapters_change_nothing() -> None:
    config, lora = tiny(), Lora(4, 8.0, ("decoder.o", "decoder.down"))
    adapters = jax.jit(lambda: init_adapters(config, lora, 0))()
    o, down = (adapters["decoder"]["layers"][name]["adapter"] for name in ("o", "down"))
    assert o["a"].shape == (2, 4, 16, 4) and down["b"].shape == (2, 4, 64)
    for a, inputs in ((o["a"], 64), (down["a"], 128)):
        np.testing.assert_allclose(float(a.std()), inputs**-0.5, rtol=0.1)
        assert not np.array_equal(a[0], a[1])
    assert not any(map(np.any, (o["b"], down["b"])))

    params = random_params(config)
    batch = {
        "tokens": np.arange(12, dtype=np.int32)[None],
        "tiles": np.zeros((1, 0, 16, 16, 3), np.uint8),
        "position": np.arange(12, dtype=np.int32)[None],
        "visible_until": np.full((1, 12), 12, np.int32),
    }
    without = assemble(config, params)
    fresh = assemble(config, joined(params, adapters), lora=lora)
    first, second = (nnx.jit(Llava.__call__)(model, batch)[0] for model in (without, fresh))
    assert np.asarray(first).tobytes() == np.asarray(second).tobytes()


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_four_bits_are_what_qwix_makes_of_a_kernel(dtype: jnp.dtype) -> None:
    shape, axes = (2, 48, 192), ("layers", "embed", "ffn")
    kernel = jax.random.normal(jax.random.key(0), shape)
    held = quantize(kernel, axes, dtype)
    assert held.qvalue.dtype == jnp.uint4 and held.scale.shape == (2, 48, 3)
    same = qwix.quantize(
        kernel, "nf4", channelwise_axes=(0, 1), tiled_axes={2: 64}, scale_dtype=dtype
    )
    assert np.array_equal(held.qvalue, same.qvalue) and np.array_equal(held.scale, same.scale)
    assert np.array_equal(dense(held, dtype), qwix.dequantize(held))
    error = np.abs(np.asarray(dense(held, jnp.float32) - kernel))
    # Normal numbers: levels lie closest where most are. The widest gap is 0.3 of the largest of 64.
    assert error.mean() < 0.1 * float(jnp.abs(kernel).mean())
    largest = np.abs(np.asarray(kernel)).reshape(2, 48, 3, 64).max(-1, keepdims=True)
    assert (error.reshape(2, 48, 3, 64) <= 0.16 * largest).all()


def test_neighbours_that_share_a_scale_lie_along_head_or_ffn() -> None:
    for name, many in (("0.5b", 64), ("7b", 64), ("72b", 64), ("tiny", 16)):
        layers = abstract(PRESETS[name]())[1]["decoder"]["layers"]
        for linear in ("q", "k", "v", "o", "gate", "up", "down"):
            kernel = layers[linear]["kernel"]
            axes, shape = kernel.get_metadata()["out_sharding"], kernel.shape
            axis, size = tiled(axes[1:], shape[1:])
            assert axes[1 + axis] in ("head_dim", "ffn") and shape[1 + axis] % size == 0
            assert size == (many if axes[1 + axis] == "head_dim" else 64)


def test_a_scanned_layer_takes_its_kernel_from_four_bits() -> None:
    axes = ("embed", "ffn")
    layers = stack(lambda r: Linear((64,), (64,), axes, False, r), 3, nnx.Rngs(0))
    held = quantize(layers.kernel[...], ("layers", *axes), jnp.dtype(jnp.float32))
    x = jax.random.normal(jax.random.key(1), (2, 64))
    expected = x
    for kernel in dense(held, jnp.float32):
        expected = expected @ kernel
    graph, state = nnx.split(layers)
    nnx.replace_by_pure_dict(state, {"kernel": held})

    def through(state: nnx.State, x: jax.Array, remat: str = "block") -> jax.Array:
        return scan(nnx.merge(graph, state), x, lambda layer, x: (layer(x), None), remat)[0]

    np.testing.assert_allclose(jax.jit(through)(state, x), expected, rtol=1e-5)
    # One layer at a time is plain, in the backward pass too, also where all else is kept.
    for remat in ("block", "none"):
        gradient = jax.jit(jax.grad(lambda x, state, remat=remat: through(state, x, remat).sum()))
        text = gradient.lower(x, state).as_text()
        assert "tensor<64x64xf32>" in text and "tensor<3x64x64xf32>" not in text


def test_scales_lie_beside_their_codes_where_they_can() -> None:
    sharding = param_shardings(abstract(tiny())[1], make_mesh(devices=jax.devices()[:1]))
    kernel = sharding["decoder"]["layers"]["gate"]["kernel"]
    assert scale_sharding(kernel, (2, 64, 2)).spec == PartitionSpec(None, "fsdp", "tensor")
