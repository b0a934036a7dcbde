"""How fast a run is, against numbers counted by hand."""

import time
from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from critic_jax.data.rows import Holding
from critic_jax.flops import Costs
from critic_jax.models.build import abstract
from critic_jax.models.config import onevision_7b, tiny
from critic_jax.training.speed import Meter, attended, costs, peak
from critic_jax.tree import Path, pack


def test_costs_are_the_sizes_of_the_matrices() -> None:
    """Of every matrix but the embedding; a tied head is the embedding again."""

    def kernels(tree: Any) -> int:
        leaves = jax.tree_util.tree_flatten_with_path(tree)[0]
        return sum(leaf.size for path, leaf in leaves if path[-1].key == "kernel")

    for config in (tiny(320), onevision_7b()):
        model = abstract(config)[1].to_pure_dict()
        found = costs(config)
        assert found.decoder == kernels(model["decoder"]["layers"])
        assert found.tower == kernels(model["tower"]) + kernels(model["projector"])
        assert found.patches == config.tower.patches
    assert costs(tiny(320)).head == 320 * 64
    assert costs(tiny(320)).decoder_pair == 2 * 4 * 16
    assert costs(tiny(320)).tower_pair == 2 * 4 * 12
    assert found.head == model["decoder"]["untied_head"].size
    # The released 7B: 6.5e9 in the layers, 28 layers of 28 heads of 128.
    assert (found.decoder, found.decoder_pair) == (28 * 233_046_016, 28 * 28 * 128)


def test_a_trees_pairs_are_those_that_see_each_other() -> None:
    # A trunk of 3 and branches of 2 and 4; the branches start with the trunk's last token.
    trunk = [5, 6, 7]
    paths = [
        Path(np.asarray(trunk + more, np.int32), np.ones(len(trunk + more), np.float32))
        for more in ([8, 9], [10, 11, 12, 13])
    ]
    row = pack(paths, [[0, 1]], 16, 0, (16, 16, 3), 16).arrays()
    slots = 2 + 3 + 5
    pairs = (1 + 2) + (3 + 4 + 5) + (3 + 4 + 5 + 6 + 7)
    found = attended(jnp.asarray(row["visible_until"][None]), jnp.asarray(row["weights"][None]))
    assert float(found[0]) == pairs + (16 - slots)  # an empty slot sees itself
    assert float(found[1]) == np.count_nonzero(row["weights"])


def test_the_operations_of_a_step_counted_by_hand() -> None:
    counted = Costs(decoder=100, tower=10, patches=4, head=50, decoder_pair=3, tower_pair=2)
    # 7 tokens, 3 of them supervised, with 20 pairs; 2 tiles of 4 patches, with 32 pairs.
    products = 7 * 100 + 2 * 4 * 10 + 3 * 50
    attention = 20 * 3 + 2 * 4 * 4 * 2
    assert counted.training(7, 2, 3, 20) == 6 * products + 12 * attention


def device(kind: str, **more: Any) -> Any:
    return SimpleNamespace(device_kind=kind, **more)


@pytest.mark.parametrize(
    ("kind", "more", "expected"),
    [
        ("TPU v4", {"num_cores": 2}, 275e12),
        ("TPU v4", {"num_cores": 1}, 137.5e12),
        ("TPU v5 lite", {"num_cores": 1}, 197e12),
        ("TPU v5e", {"num_cores": 1}, 197e12),
        ("TPU v5", {"num_cores": 2}, 459e12),
        ("TPU v5p", {"num_cores": 2}, 459e12),
        ("TPU v6 lite", {"num_cores": 1}, 918e12),
        ("TPU v6e", {"num_cores": 1}, 918e12),
        ("TPU7x", {"num_cores": 1}, 1153.5e12),
        ("NVIDIA H100 80GB HBM3", {}, 989e12),
        ("NVIDIA H200", {}, 989e12),
        ("cpu", {}, None),
        ("TPU v4 lite", {"num_cores": 1}, None),
        ("NVIDIA H100 PCIe", {}, None),
    ],
)
def test_the_peak_of_devices(kind: str, more: dict[str, int], expected: float | None) -> None:
    assert peak([device(kind, **more)]) == expected
    assert peak([device(kind, **more)] * 4) == (expected and 4 * expected)


def test_a_meter_leaves_out_what_is_no_training(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr(time, "perf_counter", lambda: now)
    monkeypatch.setattr(time, "time", lambda: now + 5e8)
    counted = Costs(decoder=100, tower=10, patches=4, head=50, decoder_pair=3, tower_pair=2)
    # Begun 100 s ago, with 20 s that counted.
    meter = Meter(counted, slots=12, peak=10_000.0, began=5e8 + 900, productive=20.0)
    holding = Holding(records=4, tokens=7, useful_tokens=11, tiles=2)
    now += 30  # the compiler's
    assert meter.step(holding, 25, 3) == {"goodput": round(20 / 130, 4)}
    now += 2
    # 25 pairs, 5 of them of empty slots; see the test above.
    done = 6 * (7 * 100 + 2 * 4 * 10 + 3 * 50) + 12 * (20 * 3 + 2 * 4 * 4 * 2)
    assert meter.step(holding, 25, 3) == {
        "tokens_per_second": 3.5,
        "useful_tokens_per_second": 5.5,
        "mfu": round(done / 2 / 10_000, 4),
        "goodput": round(22 / 132, 4),
    }
    now += 50  # a state is saved
    meter.pause()
    now += 1
    assert meter.step(holding, 25, 3)["tokens_per_second"] == 7
    assert meter.productive == 23
