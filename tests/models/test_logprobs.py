"""Log-probabilities of the tokens that are wanted, and their gradients, against all of them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from critic_jax.models.logprobs import token_logprobs


@pytest.mark.parametrize("chunk", [7, 16, 1024])
@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_only_what_is_wanted(chunk: int, share: float) -> None:
    rng = np.random.default_rng(0)
    hidden = rng.normal(size=(2, 50, 16)).astype(np.float32)
    head = rng.normal(size=(97, 16)).astype(np.float32)
    targets, wanted = rng.integers(0, 97, (2, 50)), rng.random((2, 50)) < share
    weights = rng.normal(size=(2, 50)).astype(np.float32)

    def dense(hidden: jax.Array, head: jax.Array) -> jax.Array:
        everything = jax.nn.log_softmax(jnp.einsum("bsd,vd->bsv", hidden, head))
        picked = jnp.take_along_axis(everything, targets[..., None], -1)[..., 0]
        return jnp.where(wanted, picked, 0)

    def ours(hidden: jax.Array, head: jax.Array) -> jax.Array:
        return token_logprobs(hidden, head, targets, wanted, chunk)

    np.testing.assert_allclose(jax.jit(ours)(hidden, head), dense(hidden, head), rtol=1e-5)
    found, expected = (
        jax.jit(jax.grad(lambda *a, f=f: jnp.sum(weights * f(*a)), (0, 1)))(hidden, head)
        for f in (ours, dense)
    )
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5 * np.abs(b).max())
