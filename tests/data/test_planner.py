"""Row sizes for a slice and a batch."""

import json
from pathlib import Path

import numpy as np
import pytest
from tiny_critic import GEOMETRY, tiny_tokenizer

from critic_data.cli import main
from critic_jax.data.chosen import Chosen, choose, forest
from critic_jax.data.plan import Budget
from critic_jax.data.planner import chip_count, learning_rate, propose
from critic_jax.data.selection import Part
from critic_jax.errors import InputError
from critic_jax.flops import Costs


@pytest.fixture
def chosen(imported: Path) -> Chosen:
    return choose([Part(str(imported))], tiny_tokenizer(), GEOMETRY, 0, 1)[0]


def test_a_slice_is_its_chips() -> None:
    assert chip_count("v5e:8x8") == 64
    assert chip_count("v5p:4x4x4") == 64
    for wrong in ("v5e", "v5e:", "v5e:8xa", "v5e:0x8"):
        with pytest.raises(InputError, match="it should be like v5e:8x8"):
            chip_count(wrong)


def test_the_rate_follows_the_square_root() -> None:
    assert learning_rate(32) == pytest.approx(2e-6)
    assert learning_rate(128) == pytest.approx(4e-6)


def test_proposals_hold_every_record_and_the_batch(chosen: Chosen) -> None:
    found = propose(chosen, 8, 16)
    assert {proposal.tensor for proposal in found} == {1, 2, 4}
    for proposal in found:
        assert proposal.row_tokens >= chosen.tokens.max()
        assert proposal.row_tiles >= chosen.tiles.max()
        assert proposal.rows % (8 // proposal.tensor) == 0
        assert proposal.records_a_step >= 0.95 * 15
        assert proposal.tokens_a_chip == proposal.rows * proposal.row_tokens / 8
    costs = [proposal.cost for proposal in found]
    assert costs == sorted(costs) and costs[0] > 1
    # Fewer records leave more slots empty.
    assert propose(chosen, 8, 4)[0].token_fill < found[0].token_fill


def test_cost_is_the_slots_over_what_is_needed(chosen: Chosen) -> None:
    needed = sum(tree.tokens for tree in forest(chosen, Budget(1, 1, 10**9, 10**9)).groups)
    for proposal in propose(chosen, 8, 16, tensor_limit=1, costs=Costs(1.0, 0.0, 1)):
        slots = proposal.steps * proposal.rows * proposal.row_tokens
        assert proposal.cost == pytest.approx(slots / needed)
        assert proposal.cost * proposal.token_fill >= 1 - 1e-9  # more where trunks are repeated


def test_a_batch_too_large_for_the_set(chosen: Chosen) -> None:
    with pytest.raises(InputError, match="150 records are less than two steps of 100"):
        propose(chosen, 8, 100)


def test_the_command(
    imported: Path, tokenizer_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["plan", str(imported), "--tokenizer", str(tokenizer_folder), "--slice", "v5e:2x2"]
    assert main([*words, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["learning_rate"] == pytest.approx(2e-6)
    assert found["proposals"][0]["row_tokens"] >= 1485
    assert main([*words, "--global-batch", "8"]) == 0
    assert "learning_rate   1e-06" in capsys.readouterr().out
    assert main([*words[:-1], "v5e"]) == 2


def test_trees_that_do_not_divide_the_batch() -> None:
    """Steps of 32 records out of trees of 20: no number of rows makes them full."""
    count = 400
    shared = np.where(np.arange(count) % 20, 399, 0).astype(np.int32)
    sizes = np.full(count, 400, np.int32), np.full(count, 3, np.int32)
    numbers = np.arange(count, dtype=np.int32)
    chosen = Chosen((), np.zeros(count, np.int32), numbers, *sizes, shared, np.ones(count))
    best = propose(chosen, 4, 32)[0]
    assert best.records_a_step == 20 and best.row_tokens >= 400
