"""Rows planned from an import's index against the published records encoded one by one."""

import json
import pickle
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from data_tools_helpers import small_import
from published_set import Row, picture_file, published_rows, write_published
from tiny_critic import GEOMETRY, tiny_tokenizer

from critic_data.importing.run import import_records
from critic_jax.data import Record
from critic_jax.data.chosen import Chosen, choose, forest
from critic_jax.data.corpus import Corpus
from critic_jax.data.corpus_rows import CorpusRows, Packing
from critic_jax.data.encode import Encoder, LabelRule
from critic_jax.data.pipeline import batches
from critic_jax.data.plan import Budget
from critic_jax.data.rows import Batch
from critic_jax.data.selection import Part
from critic_jax.errors import InputError
from critic_jax.tree import Path as Sequence_
from critic_jax.tree import build, size, tile_count, token_keys

BUDGET = Budget(records=16, rows=4, tokens=2600, tiles=24)
Key = tuple[bytes, bytes]


def encoder(labels: LabelRule = "answer") -> Encoder:
    return Encoder(tiny_tokenizer(), GEOMETRY, labels)


def chosen(imported: Path, **part: Any) -> Chosen:
    return choose([Part(str(imported), **part)], tiny_tokenizer(), GEOMETRY, 0, 1)[0]


def corpus_rows(imported: Path, epochs: int = 1, **how: Any) -> CorpusRows:
    part = how.pop("part", {})
    labels = how.pop("labels", "answer")
    budget = how.pop("budget", BUDGET)
    seed = how.pop("seed", 0)
    records = chosen(imported, **part)
    return CorpusRows(records, encoder(labels), budget, epochs, seed, Packing(**how))


def single_examples(rows: list[Row], labels: LabelRule) -> dict[Key, tuple[str, Sequence_]]:
    """Each published record on its own: (tokens, base tile) -> (id, path)."""
    encode = encoder(labels)
    found = {}
    for row in rows:
        turns = tuple(row.fields["conversations"])
        record = Record(row.fields["id"], "", turns, (picture_file(row.picture),), 0, "a row")
        path = encode.record(record, encode.visuals(record))
        key = path.tokens.tobytes(), path.visuals[0].tiles[0].tobytes()
        assert key not in found
        found[key] = row.fields["id"], path
    return found


def check_rows(batch: Batch, examples: dict[Key, tuple[str, Sequence_]]) -> list[str]:
    """The ids of a batch's records; tokens, targets and weights must be those of each alone."""
    ids = []
    for row in range(len(batch["tokens"])):
        part = {name: array[row] for name, array in batch.items() if array.ndim}
        until = part["visible_until"]
        weights = np.zeros(len(until), np.float32)
        used = np.flatnonzero((part["tokens"] != 0) | (part["position"] != 0))
        for last in used[until[used] == used + 1]:
            index = np.flatnonzero((np.arange(len(until)) <= last) & (until > last))
            assert part["position"][index].tolist() == list(range(len(index)))
            visual = index[part["tap_weight"][index].sum(-1) > 0]
            tile = (part["tap_index"][visual[0], 0] - 1) // GEOMETRY.patches
            key = part["tokens"][index].tobytes(), part["tiles"][tile].tobytes()
            name, path = examples[key]
            supervised = path.weights[1:] > 0
            assert (part["targets"][index[:-1]] == path.tokens[1:])[supervised].all()
            np.add.at(weights, index[:-1], path.weights[1:])
            ids.append(name)
        np.testing.assert_allclose(part["weights"], weights, rtol=1e-5, atol=1e-7)
    return ids


@pytest.mark.parametrize("labels", ["answer", "upstream-sft", "upstream-dpo"])
def test_two_epochs_teach_each_record_once_and_as_it_is_alone(
    labels: LabelRule, imported: Path, rows: list[Row]
) -> None:
    examples = single_examples(rows, labels)
    planned = corpus_rows(imported, epochs=2, labels=labels)
    taught: list[list[str]] = [[], []]
    for step, batch in enumerate(batches(planned, 0)):
        ids = check_rows(batch, examples)
        assert len(ids) == batch["records"]
        taught[step >= len(planned.plan.epoch(0))] += ids
    names = sorted(row.fields["id"] for row in rows)
    assert sorted(taught[0]) == sorted(taught[1]) == names
    assert taught[0] != taught[1]


@pytest.mark.slow
def test_two_epochs_of_a_larger_set(tmp_path: Path) -> None:
    rows = published_rows(records=2000, pictures=800, seed=1)
    write_published(tmp_path / "set", rows, seed=0)
    job = small_import((tmp_path / "set",), tmp_path / "out", workers=2)
    assert import_records(job)["records"] == 2000
    for labels in ("answer", "upstream-sft", "upstream-dpo"):
        examples = single_examples(rows, labels)
        planned = corpus_rows(tmp_path / "out", epochs=2, labels=labels)
        taught: Counter[str] = Counter()
        for batch in batches(planned, 0, workers=2):
            taught.update(check_rows(batch, examples))
        assert taught == {row.fields["id"]: 2 for row in rows}


@pytest.mark.parametrize("share", [True, False])
def test_sizes_from_the_index_are_those_of_the_trees(share: bool, imported: Path) -> None:
    planned = corpus_rows(imported, share_trunks=share, part={"sample": 110})
    trees = planned.plan.groups
    assert sum(len(tree.members) for tree in trees) == 110
    assert (max(len(tree.members) for tree in trees) > 3) == share
    for tree in trees:
        paths = planned.paths(tree.members)
        assert tree.tokens == size(build(token_keys(paths), range(len(paths))))
        assert tree.tiles == len(paths[0].visuals[0].tiles)


def test_a_tree_larger_than_a_row_is_cut_into_the_fewest(imported: Path) -> None:
    whole = chosen(imported)
    longest = int(whole.tokens.max())
    tight = Budget(16, 4, longest, 24)
    found = forest(whole, tight)
    assert found.cut > 0 and not found.oversize
    assert len(found.groups) == 50 + found.cut
    first = [int(whole.shared[tree.members[0]]) for tree in found.groups]
    assert sum(first) == found.repeated > 0
    members = [tree.members for tree in found.groups]
    assert sorted(m for tree in members for m in tree) == list(range(150))
    planned = CorpusRows(whole, encoder(), tight, 1, 0)
    for tree, after in zip(found.groups, found.groups[1:], strict=False):
        paths = planned.paths(tree.members)
        assert tree.tokens == size(build(token_keys(paths), range(len(paths)))) <= longest
        if whole.shared[after.members[0]]:  # the same picture: one more would not have fitted
            more = planned.paths([*tree.members, after.members[0]])
            assert size(build(token_keys(more), range(len(more)))) > longest


def test_records_larger_than_a_row_stop_or_are_named(imported: Path) -> None:
    whole = chosen(imported)
    second = int(np.sort(whole.tokens)[-2])
    over = np.flatnonzero(whole.tokens > second).tolist()
    names = [Corpus(imported).record(int(whole.number[n])).id for n in over]
    small = Budget(16, 4, second, 24)
    said = rf"{len(over)} of 150 records are larger than a row of {second} tokens .*{names[0]!r}"
    with pytest.raises(InputError, match=said + rf".*raise row_tokens to {whole.tokens.max()}"):
        corpus_rows(imported, budget=small)
    planned = corpus_rows(imported, budget=small, drop_oversize=True)
    report = planned.report()
    assert report["oversize_records"] == names
    assert report["records"] == 150 - len(names)
    tiles = Budget(16, 4, 2600, int(whole.tiles.min()))
    assert corpus_rows(imported, budget=tiles, drop_oversize=True).report()["records"] < 150


def test_the_report_says_what_steps_hold(imported: Path) -> None:
    planned = corpus_rows(imported)
    report = planned.report()
    steps = planned.plan.epoch(0)
    held = [planned.plan.records(step) for step in steps]
    assert report["steps"] == len(steps) == len(planned)
    assert report["records"] == sum(held) == 150
    assert (report["least_records"], report["most_records"]) == (min(held), max(held))
    assert report["deviation"] == pytest.approx(np.abs(np.array(held) - 16).mean())
    # A step misses its records only where the window runs out, at the end.
    assert held[:-3] == [16] * (len(held) - 3) and max(held) == 16
    tokens = sum(int((b["position"] > 0).sum()) for b in (planned[n] for n in range(len(steps))))
    roots = len(planned.plan.groups)
    assert report["token_fill"] * len(steps) * 4 * 2600 == pytest.approx(tokens + roots)
    assert report["trees"] == 50 and report["cut_trees"] == 0


def test_what_is_pickled_builds_the_same(imported: Path) -> None:
    planned = corpus_rows(imported)
    first = planned[1]
    again = pickle.loads(pickle.dumps(planned))
    assert all((again[1][name] == first[name]).all() for name in first)
    assert len(pickle.dumps(planned)) < 5_000_000


def test_an_import_without_lengths_is_counted_once(
    published: Path, imported: Path, tmp_path: Path
) -> None:
    output = tmp_path / "out"
    import_records(small_import((published,), output))
    assert not list(output.glob("tokens-*"))
    ours, theirs = chosen(output), chosen(imported)
    (path,) = output.glob("tokens-*.npz")
    # Within a picture the records may stand in another order; trees are the same.
    assert forest_sizes(ours) == forest_sizes(theirs)
    path.write_bytes(b"damaged")
    with pytest.raises(InputError, match=r"tokens-.*\.npz: cannot be read"):
        chosen(output)


def forest_sizes(records: Chosen) -> list[tuple[int, int, int]]:
    return [(g.tokens, g.tiles, len(g.members)) for g in forest(records, BUDGET).groups]


def batch_digest(batch: Batch) -> list[bytes]:
    return [batch[name].tobytes() for name in sorted(batch)]


def test_threads_and_processes_build_the_same(imported: Path) -> None:
    planned = corpus_rows(imported, epochs=2)
    alone = [batch_digest(planned[step]) for step in range(len(planned))]
    assert [batch_digest(b) for b in batches(planned, 0)] == alone
    assert [batch_digest(b) for b in batches(planned, 3, workers=2)] == alone[3:]
    assert [batch_digest(b) for b in batches(planned, 7, workers=1)] == alone[7:]


@pytest.mark.parametrize("hosts", [1, 2, 4])
def test_hosts_hold_slices_that_make_the_step(hosts: int, imported: Path) -> None:
    planned = corpus_rows(imported)
    each = 4 // hosts
    parts: Sequence[list[Batch]] = [
        list(batches(planned, 2, part=(host * each, (host + 1) * each))) for host in range(hosts)
    ]
    for step, of_hosts in enumerate(zip(*parts, strict=True), start=2):
        whole = planned[step]
        for name, array in whole.items():
            if array.ndim:
                joined = np.concatenate([part[name] for part in of_hosts])
                assert (joined == array).all()
            else:
                assert all(part[name] == array for part in of_hosts)


def test_sets_of_pictures_and_text_alone_have_their_sizes_too(tmp_path: Path) -> None:
    for number in range(3):
        (tmp_path / f"{number}.jpg").write_bytes(picture_file(number))
    ask = {"from": "human", "value": "<image> or <image>?"}
    lines = [
        {"id": f"{n}", "image": image, "conversations": [turn, {"from": "gpt", "value": f"{n}."}]}
        for n, (image, turn) in enumerate(
            [
                (["0.jpg", "1.jpg"], ask),
                (["0.jpg", "1.jpg"], ask),
                (["2.jpg", "2.jpg"], ask),
                (None, {"from": "human", "value": "Hello"}),
                ("0.jpg", {"from": "human", "value": "<image>\nWhat?"}),
            ]
        )
    ]
    source = tmp_path / "list.jsonl"
    source.write_text("\n".join(map(json.dumps, lines)))
    import_records(small_import((source,), tmp_path / "out"))
    planned = corpus_rows(tmp_path / "out")
    assert sorted(len(tree.members) for tree in planned.plan.groups) == [1, 1, 1, 2]
    for tree in planned.plan.groups:
        paths = planned.paths(tree.members)
        assert tree.tokens == size(build(token_keys(paths), range(len(paths))))
        assert tree.tiles == tile_count(paths, range(len(paths)))
    assert planned[0]["records"] == 5
