"""The same lines from JSONL, CSV and parquet, and what is said of files that are none of them."""

import csv
import io
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from critic_jax.cli import main
from critic_jax.data import BadRecord
from critic_jax.errors import InputError
from critic_jax.files import write_json_lines
from critic_jax.judging.input_rows import scan_rows
from critic_jax.judging.lines import JudgeLine, read_judge_lines

LINES: list[dict[str, Any]] = [
    {"id": "1", "image": "0.png", "question": 'Which "digit"?', "response": "It is,\nwell, a 7."},
    {"id": "2", "image": ["1.png", "2.png"], "question": "Ein Ü?", "response": "é"},
    {"id": "3", "question": "?", "response_a": "a", "response_b": "b", "template": "mt-bench"},
]


def write_csv(path: Path, lines: list[dict[str, Any]], bom: bool = False) -> Path:
    names = list(dict.fromkeys(name for line in lines for name in line))
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, names)
    writer.writeheader()
    for line in lines:
        listed = {n: json.dumps(v) if isinstance(v, list) else v for n, v in line.items()}
        writer.writerow(listed)
    path.write_bytes(text.getvalue().encode("utf-8-sig" if bom else "utf-8"))
    return path


def write_parquet(path: Path, lines: list[dict[str, Any]]) -> Path:
    names = dict.fromkeys(name for line in lines for name in line)
    table = {name: [line.get(name) for line in lines] for name in names}
    pq.write_table(pa.Table.from_pydict(table), path)
    return path


def judge_lines(path: Path) -> list[tuple[Any, ...]]:
    found = list(read_judge_lines(path))
    assert all(isinstance(line, JudgeLine) for line in found), found
    return [
        (line.id, line.images, line.template.name, line.texts)
        for line in found
        if isinstance(line, JudgeLine)
    ]


def test_the_kinds_of_file_hold_the_same(tmp_path: Path) -> None:
    wanted = judge_lines(write_json_lines(tmp_path / "in.jsonl", LINES))
    assert len(wanted) == 3
    assert judge_lines(write_csv(tmp_path / "in.csv", LINES)) == wanted
    assert judge_lines(write_csv(tmp_path / "excel.CSV", LINES, bom=True)) == wanted
    listed = [
        line if "image" not in line or isinstance(line["image"], list) else line | {"image": [i]}
        for line in LINES
        for i in [line.get("image")]
    ]
    assert judge_lines(write_parquet(tmp_path / "in.parquet", listed)) == wanted


def test_a_table_may_hold_the_pictures(pictures: Path) -> None:
    raw = (pictures / "0.png").read_bytes()
    line = {"id": 7, "question": "?", "response": "x"}
    cells: list[tuple[Any, Any]] = [
        ({"bytes": raw, "path": "0.png"}, (raw,)),
        ({"bytes": None, "path": "1.png"}, (pictures / "1.png",)),
        (raw, (raw,)),
        ([{"bytes": raw, "path": None}] * 2, (raw, raw)),
        (None, ()),
    ]
    for number, (cell, images) in enumerate(cells):
        path = write_parquet(pictures / f"{number}.parquet", [line | {"image": cell}])
        assert [found[:2] for found in judge_lines(path)] == [("7", images)]


def test_a_row_is_named_by_its_first_line(tmp_path: Path) -> None:
    path = tmp_path / "in.csv"
    path.write_text('id,question,response\n1,"two\nlines",x\n\n2,?\n3,?,\n1,?,x\n')
    rows = list(scan_rows(path))
    assert [row.number for row in rows] == [2, 5, 6, 7]
    good, *bad = read_judge_lines(path)
    assert isinstance(good, JudgeLine) and good.texts["question"] == "two\nlines"
    assert [b.reason for b in bad if isinstance(b, BadRecord)] == [
        f"{path} line 5: 2 cells, but the first line names 3",
        f"{path} line 6: field 'response' is missing; "
        "a line holds question and response, or response_a and response_b, or responses",
        f"{path} line 7: id '1' is taken by line 2",
    ]
    table = write_parquet(tmp_path / "in.parquet", [LINES[2], LINES[2]])
    _, again = read_judge_lines(table)
    assert isinstance(again, BadRecord)
    assert again.reason == f"{table} row 2: id '3' is taken by row 1"


@pytest.mark.parametrize(
    ("name", "raw", "said"),
    [
        ("in.csv", b"id,question\n1,\xff\n", "byte 15: not UTF-8"),
        ("in.csv", b"name,question\n1,?\n", "line 1: no column is called id"),
        ("in.csv", b"id,id\n1,?\n", "line 1: two columns are called id"),
        ("in.csv", b'id,question\n1,"x" y\n', "line 2: not valid CSV"),
        ("in.csv", b'id,image,question\n1,"[1",?\n', "line 2: field 'image' is not valid JSON"),
        ("in.parquet", b"PAR1 and no more", "in.parquet: not a whole parquet file"),
        ("in.parquet", b"", "in.parquet: not a whole parquet file"),
    ],
)
def test_what_is_no_table_is_one_line(
    tmp_path: Path, capsys: Any, name: str, raw: bytes, said: str
) -> None:
    path = tmp_path / name
    path.write_bytes(raw)
    words = ["judge", "--model", "none", "--input", str(path), "--output", str(tmp_path / "o")]
    assert main(words) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and said in error
    for missing in (tmp_path / f"gone-{name}", tmp_path):
        with pytest.raises(InputError, match=r"no such file|a folder, where a"):
            list(scan_rows(missing if missing.suffix else missing.with_suffix(path.suffix)))
