"""The preference step beside a plain one of torch: chosen and rejected each on their own."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from PIL import Image
from torch_peer import make_peer, peer_tokenizer, read_peer, save_peer
from tree_helpers import gradients_close

from critic_jax.data.encode import Encoder
from critic_jax.data.pair_rows import PairRows
from critic_jax.data.pairs import Pair, Reference
from critic_jax.data.plan import Budget
from critic_jax.models.build import Params
from critic_jax.training.dpo import DpoLoss, make_reference, make_total
from critic_jax.training.sft import StepOptions

COMPILED_QUICKLY = False

TILE = 56
FLOAT32 = jnp.dtype(jnp.float32)
LOSS = DpoLoss(beta=0.2, label_smoothing=0.1, alpha=1.5, gamma=0.5)
METRICS = ("rewards/chosen", "rewards/rejected", "rewards/margins", "rewards/accuracies")


def pictures(folder: Path) -> list[Path]:
    dice, paths = np.random.default_rng(0), []
    for number, size in enumerate(((50, 90), (60, 50), (30, 20))):
        coarse = Image.fromarray(dice.integers(0, 256, (6, 7, 3), dtype=np.uint8))
        path = folder / f"{number}.png"
        coarse.resize(size, Image.Resampling.BICUBIC).save(path)
        paths.append(path)
    return paths


def make_pairs(folder: Path) -> list[Pair]:
    """One of a single picture, whose answers begin alike, and one of two pictures."""
    one, *two = pictures(folder)
    said = (
        ((one,), "Which digit is it?", "It is a 7, I think.", "It is a 1."),
        (tuple(two), "Which is better?", "The first.", "Neither of them is."),
    )
    return [
        Pair(f"p{n}", images, *texts, Reference(-9.0 * n, -40.0), {}, n, f"line {n}")
        for n, (images, *texts) in enumerate(said, 1)
    ]


def torch_logprobs(model: torch.nn.Module, path: object) -> torch.Tensor:
    """The sum over the supervised tokens of one answer with the whole of its prompt."""
    ids = torch.from_numpy(path.tokens).long()[None]
    tiles = [torch.from_numpy((v.tiles.astype(np.float64) / 255 - 0.5) / 0.5) for v in path.visuals]
    deepest = max(map(len, tiles))
    pixels = torch.zeros(len(tiles), deepest, 3, TILE, TILE, dtype=torch.float64)
    for number, each in enumerate(tiles):
        pixels[number, : len(each)] = each.permute(0, 3, 1, 2)
    sizes = torch.tensor([[90, 50]] if len(tiles) == 1 else [[TILE, TILE]] * len(tiles))
    count = torch.tensor([len(tiles)])
    logits = model(
        input_ids=ids, pixel_values=pixels, image_sizes=sizes, batch_num_images=count
    ).logits[0, :-1]
    picked = torch.log_softmax(logits, -1).gather(1, ids[0, 1:, None])[:, 0]
    return (picked * torch.from_numpy(path.weights[1:]).double()).sum()


def torch_step(model: torch.nn.Module, paths: list, pairs: list[Pair]) -> dict[str, float]:
    """The loss, summed over pairs, and the metrics; gradients are left in the model."""
    found = {"loss": 0.0, "logps/chosen": 0.0, "logps/rejected": 0.0} | dict.fromkeys(METRICS, 0.0)
    for number, pair in enumerate(pairs):
        chosen, rejected = (torch_logprobs(model, path) for path in paths[2 * number :][:2])
        rewards = (
            LOSS.beta * (chosen - pair.reference.chosen),
            LOSS.beta * (rejected - pair.reference.rejected),
        )
        margin = rewards[0] - rewards[1]
        e = LOSS.label_smoothing
        log_sigmoid = torch.nn.functional.logsigmoid
        loss = -(1 - e) * log_sigmoid(margin) - e * log_sigmoid(-margin)
        loss = LOSS.alpha * loss - LOSS.gamma * chosen / paths[2 * number].weights[1:].sum().item()
        loss.backward()
        values = (*rewards, margin, (margin > 0).double(), loss, chosen, rejected)
        for name, value in zip(
            (*METRICS, "loss", "logps/chosen", "logps/rejected"), values, strict=True
        ):
            found[name] += value.item()
    return found


def torch_gradients(model: torch.nn.Module, folder: Path) -> Params:
    """In our layout: they travel as weights do."""
    with torch.no_grad():
        for tensor in model.parameters():
            tensor.copy_(torch.zeros_like(tensor) if tensor.grad is None else tensor.grad)
    return read_peer(save_peer(model.float(), folder))[1]


def test_loss_metrics_and_gradients_are_those_of_two_forward_passes_of_torch(
    tmp_path: Path,
) -> None:
    model = make_peer(tied=False, tile=TILE)
    read, params = read_peer(save_peer(model, tmp_path / "peer"))
    encoder, pairs = Encoder(peer_tokenizer(), read.geometry), make_pairs(tmp_path)
    paths = [
        encoder.answer(pair.prompt, answer, encoder.visuals(pair))
        for pair in pairs
        for answer in (pair.chosen, pair.rejected)
    ]
    rows = PairRows(pairs, encoder, Budget(2, 1, 256, 5), epochs=1, seed=0)
    assert len(rows) == 1
    # The pictures are there once.
    assert rows.holding(0).tokens < 0.7 * sum(map(len, paths))
    batch = rows[0]

    total = make_total(read.config, FLOAT32, LOSS, StepOptions())
    (loss, metrics), gradients = jax.jit(jax.value_and_grad(total, has_aux=True))(params, batch)
    expected = torch_step(model.double(), paths, pairs)
    assert float(loss) == pytest.approx(expected.pop("loss"), rel=1e-5)
    for name, value in expected.items():
        assert float(metrics[name]) == pytest.approx(value, rel=1e-5), name
    gradients_close(gradients, torch_gradients(model, tmp_path / "gradients"), 1e-5)

    said = make_reference(read.config, FLOAT32, StepOptions())(params, batch)
    assert said.shape == (1, 2, 2)
    sums = np.asarray(said).sum((0, 1))
    np.testing.assert_allclose(
        sums, [expected["logps/chosen"], expected["logps/rejected"]], rtol=1e-5
    )
