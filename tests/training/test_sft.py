"""The supervised loss is the mean over records of each one's mean over its tokens."""

import io

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from PIL import Image
from tiny_critic import tiny_checkpoint

from critic_jax.data import Record
from critic_jax.data.encode import Encoder
from critic_jax.data.pipeline import Rows
from critic_jax.data.plan import Budget
from critic_jax.models.build import assemble
from critic_jax.models.llava import Llava
from critic_jax.models.logprobs import token_logprobs
from critic_jax.training.sft import StepOptions, make_gradients, make_loss
from critic_jax.tree import pack

ANSWERS = ("It is a 7.", "It is a 1, and it is a rather long answer about the digit.", "No.")


def records() -> list[Record]:
    """Two judgments of one picture, which share a trunk, and one of no picture."""
    file = io.BytesIO()
    Image.linear_gradient("L").resize((20, 20)).save(file, "PNG")
    made = []
    for number, answer in enumerate(ANSWERS):
        images = (file.getvalue(),) if number < 2 else ()
        question = "<image>\nWhich digit is it?" if images else "Which digit is it?"
        turns = ({"from": "human", "value": question}, {"from": "gpt", "value": answer})
        made.append(Record(f"r{number}", "", turns, images, number, f"line {number}"))
    return made


@nnx.jit
def logprobs(model: Llava, batch: dict) -> jax.Array:
    """Of the targets, [B, S]."""
    return token_logprobs(model(batch)[0], model.decoder.head, batch["targets"])


@pytest.mark.parametrize("labels", ["answer", "upstream-sft"])
def test_the_loss_is_the_mean_of_the_records_means(labels: str) -> None:
    checkpoint = tiny_checkpoint()
    encoder = Encoder(checkpoint.tokenizer, checkpoint.geometry, labels)
    rows = Rows(records(), encoder, Budget(3, 1, 128, 2), epochs=1, seed=0)
    assert len(rows) == 1
    batch = rows[0]
    assert int(batch["records"]) == 3

    paths = [encoder.record(r, encoder.visuals(r)) for r in records()]
    # The trunk of the two is there once.
    assert np.count_nonzero(batch["tokens"]) < sum(map(len, paths)) - 30
    alone = [pack([p], [[0]], 128, 2, (16, 16, 3), 16) for p in paths]
    stacked = {n: np.stack([r.arrays()[n] for r in alone]) for n in alone[0].arrays()}
    model = assemble(checkpoint.config, checkpoint.params)
    said = np.asarray(logprobs(model, stacked))
    means, counts = [], []
    for row, path in enumerate(paths):
        targets = np.flatnonzero(path.weights[1:])
        np.testing.assert_allclose(path.weights[1:].sum(), 1, rtol=1e-6)
        means.append(-said[row, targets].mean())
        counts.append(len(targets))
    assert len(set(counts)) == 3
    loss = jax.jit(make_loss(checkpoint.config, jnp.dtype(jnp.float32)))
    found = float(loss(checkpoint.params, batch))
    assert found == pytest.approx(np.mean(means), rel=1e-5)
    # The mean over all tokens is another number: long answers would count for more.
    over_tokens = np.average(means, weights=counts)
    assert found != pytest.approx(over_tokens, rel=1e-3)
    # Which is what the mean over tokens asks for, also from rows taken one after the other.
    by_token = Encoder(checkpoint.tokenizer, checkpoint.geometry, labels, "token")
    batch = Rows(records(), by_token, Budget(3, 4, 128, 2), epochs=1, seed=0, share_trunks=False)[0]
    for accumulate in (1, 2):
        options = StepOptions(accumulate=accumulate, loss_mean="token")
        gradients = make_gradients(checkpoint.config, jnp.dtype(jnp.float32), options)
        value, _ = jax.jit(gradients)(checkpoint.params, batch)
        assert float(value) == pytest.approx(over_tokens, rel=1e-5)
