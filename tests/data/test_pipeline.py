"""Batches of packed rows against the same records encoded one by one."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from critic_jax.data import Record
from critic_jax.data.encode import Encoder
from critic_jax.data.pipeline import Batch, Rows, batches, picture_groups
from critic_jax.data.plan import Budget
from critic_jax.errors import InputError
from critic_jax.imaging import ImageGeometry
from critic_jax.text import ChatTokenizer

Make = Callable[..., Record]
BUDGET = Budget(records=4, rows=2, tokens=256, tiles=6)
Targets = Counter[tuple[int, int]]


@pytest.fixture
def records(record: Make, pictures: tuple[Path, ...]) -> list[Record]:
    """Eleven records: several of most pictures, not in a row, one of two pictures, two of none."""
    plan = [(0, 7), (1, 1), (0, 2), (2, 3), (3, 4), (1, 5), (0, 6), (4, 8)]
    made = [
        record(
            f"<image>\nWhich digit is this? Is it a {digit}?",
            f"It is a {digit}. Score: {digit}0",
            images=(pictures[number],),
            line=line,
        )
        for line, (number, digit) in enumerate(plan, start=1)
    ]
    two = record("<image> or <image>?", "The first.", images=pictures[:2], line=9)
    texts = [record(f"What is {n}?", f"A digit, {n}.", line=10 + n) for n in range(2)]
    return [*made, two, *texts]


@pytest.fixture
def encoder(tokenizer: ChatTokenizer, geometry: ImageGeometry) -> Encoder:
    return Encoder(tokenizer, geometry)


def alone(encoder: Encoder, records: list[Record]) -> tuple[Targets, set[bytes]]:
    """Loss weight by target and by the place that predicts it, and all tiles, record by record."""
    targets: Targets = Counter()
    tiles = set()
    for one in records:
        path = encoder.record(one, encoder.visuals(one))
        for place in np.flatnonzero(path.weights[1:]).tolist():
            targets[int(path.tokens[place + 1]), place] += float(path.weights[place + 1])
        tiles.update(tile.tobytes() for visual in path.visuals for tile in visual.tiles)
    return targets, tiles


def packed(steps: list[Batch]) -> tuple[Targets, set[bytes]]:
    """The same of batches; tiles that no token looks at, which fill up the rows, left out."""
    targets: Targets = Counter()
    tiles = set()
    for batch in steps:
        patches = 16
        for row, place in zip(*np.nonzero(batch["weights"]), strict=True):
            key = int(batch["targets"][row, place]), int(batch["position"][row, place])
            targets[key] += float(batch["weights"][row, place])
        for row, rows_tiles in enumerate(batch["tiles"]):
            used = batch["tap_index"][row][batch["tap_weight"][row] > 0]
            seen = set(((used[used > 0] - 1) // patches).tolist())
            tiles.update(rows_tiles[tile].tobytes() for tile in seen)
    return targets, tiles


def test_an_epoch_teaches_what_its_records_teach(records: list[Record], encoder: Encoder) -> None:
    rows = Rows(records, encoder, BUDGET, epochs=1, seed=0)
    steps = list(rows)
    targets, tiles = packed(steps)
    expected, expected_tiles = alone(encoder, records)
    assert targets.keys() == expected.keys()
    for key, weight in expected.items():
        assert targets[key] == pytest.approx(weight, rel=1e-5)
    assert tiles == expected_tiles
    assert sum(float(batch["records"]) for batch in steps) == len(records)
    assert sum(targets.values()) == pytest.approx(len(records), rel=1e-5)


def test_a_batch_has_one_shape(records: list[Record], encoder: Encoder) -> None:
    rows = Rows(records, encoder, BUDGET, epochs=1, seed=0)
    shapes = {
        "tokens": (2, 256),
        "position": (2, 256),
        "visible_until": (2, 256),
        "targets": (2, 256),
        "weights": (2, 256),
        "tap_index": (2, 256, 4),
        "tap_weight": (2, 256, 4),
        "tiles": (2, 6, 16, 16, 3),
        "records": (),
    }
    for batch in rows:
        assert {name: array.shape for name, array in batch.items()} == shapes
    with pytest.raises(IndexError):
        rows[len(rows)]


def test_records_of_one_picture_share_its_tokens(records: list[Record], encoder: Encoder) -> None:
    same = [records[0], records[2], records[6]]
    lengths = [len(encoder.record(one, encoder.visuals(one))) for one in same]
    (batch,) = Rows(same, encoder, BUDGET, epochs=1, seed=0)
    used = int((batch["visible_until"] > np.arange(1, 257)).sum())
    visual = len(encoder.visuals(same[0])[0].tap_index)
    assert used <= sum(lengths) - 2 * visual
    assert int((batch["tokens"] == encoder.tokenizer.image).sum()) == visual
    assert batch["records"] == 3


@pytest.mark.parametrize("start", [0, 1, 5])
def test_batches_from_the_middle_are_the_tail_of_all(
    records: list[Record], encoder: Encoder, start: int
) -> None:
    whole = list(batches(Rows(records, encoder, BUDGET, epochs=2, seed=3), 0))
    rows = Rows(records, encoder, BUDGET, epochs=2, seed=3)
    assert len(rows) == len(whole) > 5
    tail = list(batches(rows, start))
    assert len(tail) == len(whole) - start
    for ours, theirs in zip(tail, whole[start:], strict=True):
        assert ours.keys() == theirs.keys()
        assert all((ours[name] == theirs[name]).all() for name in ours)


def test_another_seed_makes_other_batches(records: list[Record], encoder: Encoder) -> None:
    one, other = (Rows(records, encoder, BUDGET, epochs=1, seed=seed) for seed in (0, 1))
    assert any(
        (one[n]["tokens"] != other[n]["tokens"]).any() for n in range(min(len(one), len(other)))
    )


def test_groups_are_the_records_of_one_picture(records: list[Record]) -> None:
    assert picture_groups(records) == [[0, 2, 6], [1, 5], [3], [4], [7], [8], [9], [10]]


def test_a_tree_larger_than_a_row_goes_into_several(
    records: list[Record], encoder: Encoder
) -> None:
    same = [records[0], records[2], records[6]]
    longest = max(len(encoder.record(one, encoder.visuals(one))) for one in same)
    tight = Budget(records=4, rows=2, tokens=longest, tiles=6)
    rows = Rows(same, encoder, tight, epochs=1, seed=0)
    targets, _ = packed(list(rows))
    expected, _ = alone(encoder, same)
    assert targets.keys() == expected.keys()
    assert sorted(m for group in rows.plan.groups for m in group.members) == [0, 1, 2]
    assert len(rows.plan.groups) == 3


@pytest.mark.parametrize(("tokens", "tiles"), [(60, 6), (256, 1)])
def test_a_record_larger_than_a_row_is_named(
    records: list[Record], encoder: Encoder, tokens: int, tiles: int
) -> None:
    budget = Budget(records=4, rows=2, tokens=tokens, tiles=tiles)
    said = r"^train.jsonl line 1, record 'r1': \d+ tokens and 2 tiles; a row holds "
    with pytest.raises(InputError, match=said + f"{tokens} and {tiles}: raise row_tokens"):
        Rows(records, encoder, budget, epochs=1, seed=0)
