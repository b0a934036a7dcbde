"""Log-probabilities of the tokens that are wanted, and their gradients, against all of them."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from critic_jax.models.logprobs import token_logprobs, weighted_logprobs

Logprobs = Callable[..., jax.Array]


def dense(hidden: jax.Array, head: jax.Array, targets: jax.Array, wanted: jax.Array) -> jax.Array:
    everything = jax.nn.log_softmax(jnp.einsum("bsd,vd->bsv", hidden, head))
    picked = jnp.take_along_axis(everything, targets[..., None], -1)[..., 0]
    return jnp.where(wanted, picked, 0)


def with_gradients(total: Logprobs) -> Logprobs:
    """As a part of a loss: what comes from above is not 1."""
    return jax.jit(jax.value_and_grad(lambda *arrays: -0.3 * total(*arrays), (0, 1)))


def weighted(logprobs: Logprobs) -> Logprobs:
    return lambda *arrays: jnp.sum(arrays[-1] * logprobs(*arrays[:-1], arrays[-1] != 0))


EXPECTED = jax.jit(dense), with_gradients(weighted(dense))


@pytest.mark.parametrize("chunk", [7, 16, 1024])
def test_only_what_is_wanted(chunk: int) -> None:
    rng = np.random.default_rng(0)
    hidden = rng.normal(size=(2, 50, 16)).astype(np.float32)
    head = rng.normal(size=(97, 16)).astype(np.float32)
    targets = rng.integers(0, 97, (2, 50))
    ours = jax.jit(lambda *arrays: token_logprobs(*arrays, chunk))
    summed = jax.jit(lambda *arrays: weighted_logprobs(*arrays, chunk))
    both = with_gradients(weighted(ours)), with_gradients(summed)
    for share in (0.0, 0.3, 1.0):
        wanted = rng.random((2, 50)) < share
        weights = wanted * rng.normal(size=(2, 50)).astype(np.float32)
        found, expected = (f(hidden, head, targets, wanted) for f in (ours, EXPECTED[0]))
        np.testing.assert_allclose(found, expected, rtol=1e-5)
        value, gradients = EXPECTED[1](hidden, head, targets, weights)
        alone = -0.3 * summed(hidden, head, targets, weights)
        np.testing.assert_allclose(alone, value, rtol=1e-5)
        for total, found in (f(hidden, head, targets, weights) for f in both):
            np.testing.assert_allclose(total, value, rtol=1e-5)
            for a, b in zip(found, gradients, strict=True):
                np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5 * np.abs(b).max())
