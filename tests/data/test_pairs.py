"""Preference pairs: what a line holds, and what is said of a wrong one."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tiny_critic import GEOMETRY, tiny_tokenizer

from critic_jax.data.encode import Encoder
from critic_jax.data.pair_rows import PairRows
from critic_jax.data.pairs import Reference, read_pairs, with_reference
from critic_jax.data.plan import Budget
from critic_jax.errors import InputError
from critic_jax.files import write_json_lines

ENCODER = Encoder(tiny_tokenizer(), GEOMETRY)
PAIR = {"id": "p1", "prompt": "Which digit?", "chosen": "It is a 7.", "rejected": "It is a 1."}


def write(folder: Path, *lines: dict[str, Any]) -> Path:
    return write_json_lines(folder / "pairs.jsonl", lines)


def test_a_line_with_all_fields(tmp_path: Path) -> None:
    said = {"chosen": -3.5, "rejected": -4, "labels": "answer", "model": "start"}
    line = PAIR | {"image": "a.png", "prompt": "<image>\nWhich?", "reference_logprobs": said}
    (pair,) = read_pairs(write(tmp_path, line))
    assert pair.images == (tmp_path / "a.png",) and pair.prompt == "Which?"
    assert pair.reference == Reference(-3.5, -4.0, "answer", "start")
    again = with_reference(pair, Reference(-1.0, -2.0), tmp_path / "runs")
    assert again == line | {
        "image": "../a.png",
        "reference_logprobs": {"chosen": -1.0, "rejected": -2.0},
    }


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"prompt": None}, "field 'prompt' is null; it should be a text"),
        ({"chosen": 3}, "field 'chosen' is 3; it should be a text"),
        ({"id": "p1"}, "field 'id': 'p1' is taken by line 1"),
        ({"id": ""}, "field 'id' is ''; it should be a text that is not empty"),
        ({"image": 7}, "field 'image' is 7; it should be a path"),
        ({"prompt": "<image>\nWhich?"}, "field 'prompt': 1 <image> marker and 0 pictures"),
        ({"reference_logprobs": [-1, -2]}, "field 'reference_logprobs' is [-1, -2]; it should be"),
        ({"reference_logprobs": {"chosen": -1}}, "field 'reference_logprobs.rejected' is missing"),
        (
            {"reference_logprobs": {"chosen": -1, "rejected": 2}},
            "field 'reference_logprobs.rejected' is 2; a sum of log-probabilities is 0 or below",
        ),
    ],
)
def test_a_wrong_line_is_named(tmp_path: Path, change: dict[str, Any], said: str) -> None:
    path = write(tmp_path, PAIR, PAIR | {"id": "p2"} | change)
    with pytest.raises(InputError) as caught:
        read_pairs(path)
    assert str(caught.value).startswith(f"{path} line 2: {said}")
    assert "\n" not in str(caught.value)


def test_a_field_that_is_missing_and_a_file_without_pairs(tmp_path: Path) -> None:
    short = {name: text for name, text in PAIR.items() if name != "rejected"}
    with pytest.raises(InputError, match="line 1: field 'rejected' is missing; it should be"):
        read_pairs(write(tmp_path, short))
    with pytest.raises(InputError, match="holds no pairs"):
        read_pairs(write(tmp_path))


def rows(folder: Path, lines: list[dict[str, Any]], budget: Budget, **how: bool) -> PairRows:
    return PairRows(read_pairs(write(folder, *lines)), ENCODER, budget, 1, 0, **how)


def test_equal_answers_make_no_pair(tmp_path: Path) -> None:
    lines = [PAIR | {"id": f"p{n}"} for n in range(3)]
    lines[1] |= {"rejected": PAIR["chosen"]}
    found = rows(tmp_path, lines, Budget(4, 1, 256, 0))
    assert found.members() == [0, 2] and found.report()["equal_answers"] == ["p1"]
    assert float(found[0]["records"]) == 2
    with pytest.raises(InputError, match="of 1 pairs 1 have two equal answers"):
        rows(tmp_path, lines[1:2], Budget(4, 1, 256, 0))


def test_a_pair_larger_than_a_row_is_an_error_or_left_out(tmp_path: Path) -> None:
    lines = [PAIR, PAIR | {"id": "p2", "chosen": "It is a 7. " * 40}]
    with pytest.raises(InputError, match=r"line 2, record 'p2': \d+ tokens and 0 tiles; a row"):
        rows(tmp_path, lines, Budget(4, 1, 128, 0))
    found = rows(tmp_path, lines, Budget(4, 1, 128, 0), drop_oversize=True)
    assert found.members() == [0] and found.report()["oversize_records"] == ["p2"]


def test_pairs_of_a_picture_share_it_but_no_row_holds_more_than_a_step(tmp_path: Path) -> None:
    Image.new("RGB", (16, 16), (20, 90, 200)).save(tmp_path / "a.png")
    lines = [PAIR | {"id": f"p{n}", "image": "a.png", "chosen": f"A {n}."} for n in range(5)]
    shared = rows(tmp_path, lines, Budget(2, 1, 256, 2))
    assert [len(g.members) for g in shared.plan.groups] == [2, 2, 1] and len(shared) == 3
    apart = rows(tmp_path, lines, Budget(2, 1, 512, 2), share_trunks=False)
    assert shared.plan.groups[0].tokens < sum(g.tokens for g in apart.plan.groups[:2]) - 3 * 36
    # Each answer's places in a row hold its own supervised tokens, shared or not.
    for found in (shared, apart):
        for step in range(len(found)):
            batch = found[step]
            members = [m for g in found.plan.step(step)[0] for m in found.plan.groups[g].members]
            counted = np.bincount(batch["segment"][0], minlength=9)[:8]
            tokens = batch["member"][0] @ counted
            for place, member in enumerate(members):
                expected = [np.count_nonzero(p.weights) for p in found.paths([member])]
                assert tokens[place].tolist() == expected
