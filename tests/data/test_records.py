"""Critic records: every accepted shape, and one clear reason for each wrong one."""

import base64
import json
from pathlib import Path
from typing import Any

import pytest

from critic_jax.data import BadRecord, Record, read_records
from critic_jax.errors import InputError

TURNS = [{"from": "human", "value": "<image>\nHow many?"}, {"from": "gpt", "value": "Two."}]
GOOD = {"id": "a", "source": "llava-bench", "conversations": TURNS, "image": "pictures/1.png"}


def write(tmp_path: Path, *records: dict[str, Any]) -> Path:
    path = tmp_path / "train.jsonl"
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


def without(field: str) -> dict[str, Any]:
    return {name: value for name, value in GOOD.items() if name != field}


def only(path: Path) -> Record:
    (record,) = read_records(path)
    assert isinstance(record, Record)
    return record


def test_a_record_as_published(tmp_path: Path) -> None:
    picture = (tmp_path / "pictures/1.png",)
    path = write(tmp_path, GOOD)
    assert list(read_records(path)) == [
        Record("a", "llava-bench", tuple(TURNS), picture, line=1, place=f"{path} line 1")
    ]
    # The same in an indented array, where the record begins on line 2.
    array = tmp_path / "train.json"
    array.write_text(json.dumps([GOOD], indent=1))
    assert list(read_records(array)) == [
        Record("a", "llava-bench", tuple(TURNS), picture, line=2, place=f"{array} line 2")
    ]


def test_pictures_lie_in_the_given_folder(tmp_path: Path) -> None:
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    absolute = str(tmp_path / "b.png")
    path = write(tmp_path, {**GOOD, "image": ["a.png", absolute]})
    (record,) = read_records(path, images=folder)
    assert isinstance(record, Record)
    assert record.images == (folder / "a.png", Path(absolute))
    with pytest.raises(InputError, match="no-folder: no such folder of pictures"):
        list(read_records(path, images=tmp_path / "no-folder"))


def test_pictures_as_bytes(tmp_path: Path) -> None:
    raw = bytes(range(256))
    value = {"bytes": base64.b64encode(raw).decode(), "path": "1.png"}
    assert only(write(tmp_path, {**GOOD, "image": value})).images == (raw,)
    assert only(write(tmp_path, {**GOOD, "image": [value, "2.png"]})).images == (
        raw,
        tmp_path / "2.png",
    )


@pytest.mark.parametrize(
    "record", [without("image"), {**GOOD, "image": None}, {**GOOD, "image": []}]
)
def test_text_alone(tmp_path: Path, record: dict[str, Any]) -> None:
    assert only(write(tmp_path, record)).images == ()


def test_a_numeric_id_and_no_source(tmp_path: Path) -> None:
    record = only(write(tmp_path, {**without("source"), "id": 17}))
    assert (record.id, record.source) == ("17", "")


def test_further_fields_are_left_alone(tmp_path: Path) -> None:
    turns = [{**TURNS[0], "weight": 1}, TURNS[1]]
    record = only(write(tmp_path, {**GOOD, "conversations": turns, "model": "x"}))
    assert record.conversations == tuple(TURNS)


@pytest.mark.parametrize(
    ("record", "id_", "reason"),
    [
        (without("id"), None, "field 'id' is missing; every record needs one of its own"),
        ({**GOOD, "id": ""}, None, "field 'id' is ''; it should be a text that is not empty"),
        ({**GOOD, "id": True}, None, "field 'id' is True; it should be a text that is not empty"),
        ({**GOOD, "id": 1.5}, None, "field 'id' is 1.5; it should be a text that is not empty"),
        ({**GOOD, "source": ["x"]}, "a", "field 'source' is ['x']; it should be a text"),
        (
            without("conversations"),
            "a",
            "field 'conversations' is missing; it should be a list of turns "
            '{"from": ..., "value": ...}',
        ),
        (
            {**GOOD, "conversations": []},
            "a",
            "field 'conversations' is []; it should be a list of turns "
            '{"from": ..., "value": ...}',
        ),
        (
            {**GOOD, "conversations": ["Hello"]},
            "a",
            "field 'conversations[0]' is 'Hello'; it should be an object (from, value)",
        ),
        (
            {**GOOD, "conversations": [TURNS[0], {"from": "gpt"}]},
            "a",
            "field 'conversations[1].value' is missing; it should be a text",
        ),
        (
            {**GOOD, "conversations": [{"from": None, "value": "x"}]},
            "a",
            "field 'conversations[0].from' is null; it should be a text",
        ),
        (
            {**GOOD, "image": ""},
            "a",
            "field 'image' is ''; it should be a path, a list of paths, or {\"bytes\": BASE64}",
        ),
        (
            {**GOOD, "image": ["1.png", 5]},
            "a",
            "field 'image[1]' is 5; it should be a path, a list of paths, or {\"bytes\": BASE64}",
        ),
        (
            {**GOOD, "image": {"bytes": "x" * 100 + "!"}},
            "a",
            "field 'image.bytes' is not base64 (Only base64 data is allowed)",
        ),
        (
            {**GOOD, "image": {"bytes": None}},
            "a",
            "field 'image' is {'bytes': None}; it should be a path, a list of paths, or "
            '{"bytes": BASE64}',
        ),
    ],
)
def test_each_wrong_field(
    tmp_path: Path, record: dict[str, Any], id_: str | None, reason: str
) -> None:
    path = write(tmp_path, record, {**GOOD, "id": "after"})
    bad, after = read_records(path)
    assert bad == BadRecord(line=1, id=id_, reason=f"{path} line 1: {reason}")
    assert isinstance(after, Record) and after.id == "after"


def test_a_second_record_of_one_id_is_bad(tmp_path: Path) -> None:
    path = write(tmp_path, GOOD, {**GOOD, "id": "b"}, GOOD)
    records = list(read_records(path))
    assert [type(r) for r in records] == [Record, Record, BadRecord]
    assert records[2] == BadRecord(3, "a", f"{path} line 3: field 'id': 'a' is taken by line 1")


def test_malformed_json_on_line_7_leaves_the_other_records(tmp_path: Path) -> None:
    path = write(tmp_path, *({**GOOD, "id": str(n)} for n in range(1, 10)))
    lines = path.read_text().splitlines()
    lines[6] = lines[6][:-1]
    path.write_text("\n".join(lines))
    records = list(read_records(path))
    (bad,) = [r for r in records if isinstance(r, BadRecord)]
    assert bad.line == 7 and bad.id is None
    assert bad.reason.startswith(
        f"{path} line 7: not valid JSON (Expecting ',' delimiter at column "
    )
    assert [r.id for r in records if isinstance(r, Record)] == list("12345689")


def test_a_long_wrong_value_is_cut_in_the_message(tmp_path: Path) -> None:
    (bad,) = read_records(write(tmp_path, {**GOOD, "source": list(range(1000))}))
    assert isinstance(bad, BadRecord)
    assert len(bad.reason) < len(str(tmp_path)) + 120 and "..." in bad.reason
