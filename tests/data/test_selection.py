"""Filters, samples, weights and the validation split of imports."""

from collections import Counter
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import numpy as np
import pytest
from data_tools_helpers import small_import
from hypothesis import given, settings
from published_set import Row, write_published
from tiny_critic import GEOMETRY, tiny_tokenizer

from critic_data.importing.run import import_records
from critic_jax.data.chosen import Chosen, choose, forest
from critic_jax.data.corpus import Corpus
from critic_jax.data.corpus_rows import CorpusRows
from critic_jax.data.encode import Encoder
from critic_jax.data.plan import Budget
from critic_jax.data.selection import Part, held_out, kept_records
from critic_jax.errors import InputError
from critic_jax.tree import build, size, token_keys

BUDGET = Budget(records=16, rows=4, tokens=2600, tiles=24)


def kept(imported: Path, seed: int = 0, **part: Any) -> list[dict[str, Any]]:
    index = Corpus(imported).index
    mask = kept_records(Part(str(imported), **part), index, seed)
    return [row for row, keep in zip(index.to_pylist(), mask, strict=True) if keep]


def pick(parts: list[Part], seed: int = 0, validation: float = 0.0) -> tuple[Chosen, Chosen]:
    return choose(parts, tiny_tokenizer(), GEOMETRY, seed, 1, validation)


def names(records: Chosen) -> list[str]:
    corpora = [Corpus(folder) for folder in records.folders]
    pairs = zip(records.corpus.tolist(), records.number.tolist(), strict=True)
    return [corpora[place].record(number).id for place, number in pairs]


def test_filters_keep_what_fits(imported: Path, rows: list[Row]) -> None:
    sources = Counter(row.fields["source"] for row in rows)
    assert len(kept(imported)) == 150
    assert {row["config"] for row in kept(imported, configs=("pair*",))} == {"pairwise"}
    found = kept(imported, sources=("caption-*", "mmhal-source"))
    assert Counter(row["source"] for row in found) == {
        name: sources[name] for name in ("caption-source", "mmhal-source")
    }
    scored = kept(imported, kinds=("score: Final Score",), scores=(20, 60))
    assert scored and all(20 <= row["score"] <= 60 for row in scored)
    every = kept(imported, kinds=("score: Final Score",))
    assert len(scored) == sum(20 <= row["score"] <= 60 for row in every)
    assert all(row["score"] is not None for row in kept(imported, scores=(0, 100)))


def test_a_sample_is_seeded(imported: Path) -> None:
    ids = [[row["id"] for row in kept(imported, seed, sample=40)] for seed in (0, 0, 1)]
    assert len(ids[0]) == len(set(ids[0])) == 40
    assert ids[0] == ids[1] != ids[2]
    pairs = kept(imported, configs=("pairwise",), sample=10)
    assert len(pairs) == 10 and {row["config"] for row in pairs} == {"pairwise"}


def test_two_parts_of_one_import_share_trunks(imported: Path) -> None:
    """The paper's v0.5 set: a sample of each config."""
    parts = [
        Part(str(imported), configs=("pointwise",), sample=90),
        Part(str(imported), configs=("pairwise",), sample=45),
    ]
    chosen, _ = pick(parts)
    configs = [name.split("_")[0] for name in names(chosen)]
    found = Counter(configs)
    assert found == {"pointwise": 90, "pairwise": 45}
    trees = forest(chosen, BUDGET).groups
    assert len(trees) <= 50
    both = [{configs[m] for m in tree.members} for tree in trees]
    assert {"pointwise", "pairwise"} in both


def test_weights_say_how_often(imported: Path, tmp_path: Path, rows: list[Row]) -> None:
    few = [Row("pointwise", row.fields | {"id": f"few_{n}"}, n) for n, row in enumerate(rows[:8])]
    write_published(tmp_path / "set", few, files=1, seed=5)
    import_records(small_import((tmp_path / "set",), tmp_path / "few"))
    parts = [Part(str(imported), weight=0.5), Part(str(tmp_path / "few"), weight=2.0)]
    chosen, _ = pick(parts)
    rows_ = CorpusRows(chosen, Encoder(tiny_tokenizer(), GEOMETRY), BUDGET, 2, 0)
    ids = names(chosen)
    seen = []
    for epoch in range(2):
        steps = rows_.plan.epoch(epoch)
        groups = [g for step in steps for row in step for g in row]
        counts = Counter(ids[m] for g in groups for m in rows_.plan.groups[g].members)
        assert {n for name, n in counts.items() if name.startswith("few")} == {2}
        others = {name for name in counts if not name.startswith("few")}
        assert {counts[name] for name in others} == {1}
        pictures = [g for g in groups if not ids[rows_.plan.groups[g].members[0]].startswith("few")]
        assert len(pictures) == 25  # half of 50
        seen.append(others)
    assert seen[0] != seen[1]


@pytest.mark.parametrize(
    ("part", "said"),
    [
        ({"configs": ("both",)}, "no record is left by config .* it has 'pairwise', 'pointwise'"),
        ({"sources": ("nowhere",)}, "no record is left by source"),
        ({"scores": (200, 300)}, "no record has a score from 200 to 300"),
        ({"sample": 151}, "a sample of 151 of 150 records; give 1 to 150"),
        ({"sample": 0}, "a sample of 0"),
        ({"weight": 0.0}, "weight 0.0; it should be above 0"),
    ],
)
def test_wrong_parts(part: dict[str, Any], said: str, imported: Path) -> None:
    with pytest.raises(InputError, match=said):
        kept(imported, **part)


def test_a_picture_is_on_one_side(imported: Path) -> None:
    parts = [Part(str(imported))]
    train, out = pick(parts, validation=0.2)
    assert len(train) + len(out) == 150 and 10 < len(out) < 60
    pictures = [
        {tuple(Corpus(imported).example(int(n))["pictures"]) for n in side.number}
        for side in (train, out)
    ]
    assert not pictures[0] & pictures[1]
    # The same pictures whatever else is chosen, and whatever the seed.
    for_pairs = pick([Part(str(imported), configs=("pairwise",))], seed=3, validation=0.2)[1]
    assert set(names(for_pairs)) == {n for n in names(out) if n.startswith("pairwise")}
    more = set(names(pick(parts, validation=0.4)[1]))
    assert more > set(names(out))
    with pytest.raises(InputError, match=r"validation 1; it should be a share from 0 to below 1"):
        pick(parts, validation=1)


@settings(max_examples=100, deadline=None)
@given(
    sets=st.lists(st.lists(st.integers(0, 40), max_size=3), min_size=1, max_size=60),
    share=st.floats(0, 1),
)
def test_pictures_of_one_record_stay_together(sets: list[list[int]], share: float) -> None:
    hashes = [[f"{n * 2654435761 % 2**32:08x}{n:08x}" for n in numbers] for numbers in sets]
    out = held_out(hashes, [str(n) for n in range(len(sets))], share)
    side: dict[str, bool] = {}
    for names_, held in zip(hashes, out.tolist(), strict=True):
        for name in names_:
            assert side.setdefault(name, held) == held
    if share == 0:
        assert not out.any()
    if share == 1:
        assert out.all()


def test_what_neighbours_share_is_right_for_any_choice(imported: Path) -> None:
    rng = np.random.default_rng(0)
    for _ in range(3):
        part = Part(str(imported), sample=int(rng.integers(20, 120)))
        chosen, _ = pick([part], int(rng.integers(99)))
        rows_ = CorpusRows(chosen, Encoder(tiny_tokenizer(), GEOMETRY), BUDGET, 1, 0)
        for tree in rows_.plan.groups[::5]:
            paths = rows_.paths(tree.members)
            assert tree.tokens == size(build(token_keys(paths), range(len(paths))))
