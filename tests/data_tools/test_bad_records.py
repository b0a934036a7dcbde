"""Wrong records: each kind is told and left out, none costs a good record."""

import base64
import json
import zlib
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from published_set import SCHEMA, picture_file

from critic_data.cli import main
from critic_jax.data.corpus import Corpus

ASK = {"from": "human", "value": "<image>\nHow many?"}
SAY = {"from": "gpt", "value": "Two."}
CHAT = [ASK, SAY]


def chunk(name: bytes, content: bytes) -> bytes:
    check = zlib.crc32(name + content).to_bytes(4, "big")
    return len(content).to_bytes(4, "big") + name + content + check


def bomb() -> bytes:
    """A PNG of a few hundred bytes that says it has 1.6 billion pixels."""
    size = (40_000).to_bytes(4, "big") * 2
    head = chunk(b"IHDR", size + bytes([8, 2, 0, 0, 0]))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(b"\0" * 999))


def turns(*values: str) -> list[dict[str, str]]:
    return [{"from": ("human", "gpt")[n % 2], "value": value} for n, value in enumerate(values)]


# What a good record is changed by -> words of the reason.
RECORDS: dict[str, tuple[dict[str, Any], str]] = {
    "missing picture": ({"image": "no.jpg"}, "no.jpg: no such file"),
    "picture is a folder": ({"image": "folder"}, "is a folder"),
    "empty picture file": ({"image": "empty.jpg"}, "the file is empty"),
    "not a picture": ({"image": "text.jpg"}, "is not a picture"),
    "picture cut off": ({"image": "cut.jpg"}, "damaged or cut off"),
    "picture bomb": ({"image": "bomb.png"}, "is too large"),
    "not base64": ({"image": {"bytes": "~~~"}}, "not base64"),
    "image is a number": ({"image": 5}, "field 'image' is 5"),
    "zero turns": ({"conversations": []}, "field 'conversations' is []"),
    "no turns": ({"conversations": None}, "field 'conversations' is null"),
    "turn is a text": ({"conversations": ["hello"]}, "'conversations[0]' is 'hello'"),
    "turn without value": ({"conversations": [{"from": "human"}]}, "value' is missing"),
    "unknown speaker": (
        {"conversations": [ASK, {"from": "judge", "value": "Two."}]},
        "is from 'judge'",
    ),
    "no marker": ({"conversations": turns("How many?", "Two.")}, "0 <image> markers and 1 picture"),
    "marker without picture": ({"image": None}, "1 <image> marker and 0 pictures"),
    "two markers": (
        {"conversations": turns("<image><image>\nHow many?", "Two.")},
        "2 <image> markers",
    ),
    "two answers": ({"conversations": [*CHAT, SAY]}, "human and gpt should take turns"),
    "answer first": ({"conversations": [SAY, ASK]}, "human and gpt should take turns"),
    "no answer": ({"conversations": [ASK]}, "no turn is from gpt"),
    "empty target": ({"conversations": turns("<image>\nHow many?", "  \n")}, "is an empty answer"),
    "NUL in a text": ({"conversations": turns("<image>\nHow\0 many?", "Two.")}, "a NUL character"),
    "half a surrogate pair": (
        {"conversations": turns("<image>\nHow \ud83d many?", "Two.")},
        "half of a surrogate pair",
    ),
    "no id": ({"id": None}, "field 'id' is null"),
    "empty id": ({"id": ""}, "field 'id' is ''"),
    "source is a list": ({"source": []}, "field 'source' is []"),
    "id taken": ({"id": "good 0", "source": "other"}, "is taken by"),
    "same again": ({"id": "good 0"}, "this is the same record again"),
}
LINES: dict[str, tuple[bytes, str]] = {
    "not UTF-8": (b'{"id": "\xff"}', "not UTF-8"),
    "NUL byte": (b'{"id": "\0"}', "a NUL byte"),
    "broken JSON": (b'{"id": "x", "conversations": [', "not valid JSON"),
    "a list": (b"[1, 2]", "a list, where a JSON object"),
    "NaN": (b'{"id": NaN}', "NaN is no JSON number"),
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "folder").mkdir()
    good = picture_file(0)
    files = {
        "good.jpg": good,
        "empty.jpg": b"",
        "text.jpg": b"not a picture",
        "cut.jpg": good[: len(good) // 2],
        "bomb.png": bomb(),
    }
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    return tmp_path


def good(number: int) -> dict[str, Any]:
    return {"id": f"good {number}", "source": "s", "image": "good.jpg", "conversations": CHAT}


def reasons(output: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (output / "rejected.jsonl").read_text().splitlines()]


def test_wrong_lines_of_json(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = [json.dumps(good(0)).encode()]
    wanted: list[tuple[int, str]] = []
    for n, (change, said) in enumerate(RECORDS.values()):
        wanted.append((len(lines) + 1, said))
        lines.append(json.dumps({**good(0), "id": f"bad {n}", **change}).encode())
        lines.append(json.dumps(good(2 * n + 1)).encode())
    for n, (raw, said) in enumerate(LINES.values()):
        wanted.append((len(lines) + 1, said))
        lines += [raw, json.dumps(good(2 * n + 2)).encode()]
    source = folder / "list.jsonl"
    source.write_bytes(b"\n".join(lines))
    assert main(["import", str(source), "--output", str(folder / "out"), "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    kinds = len(RECORDS) + len(LINES)
    assert kinds > 30
    assert (printed["records"], printed["rejected"]) == (1 + kinds, kinds)
    found = reasons(folder / "out")
    assert [line["line"] for line in found] == [line for line, _ in wanted]
    for line, (number, said) in zip(found, wanted, strict=True):
        assert line["file"] == str(source)
        assert line["reason"].startswith(f"{source} line {number}: ")
        assert said in line["reason"], line["reason"]
    ids = {line["id"] for line in found}
    assert {"bad 0", "bad 20", "good 0", None} <= ids
    assert main(["validate", str(folder / "out")]) == 0


def parquet(path: Path, rows: list[dict[str, Any]], schema: pa.Schema = SCHEMA) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows, schema), path, row_group_size=2)
    return path


def row(number: int, **change: Any) -> dict[str, Any]:
    image = {"bytes": picture_file(number % 3), "path": None}
    return {"id": f"r{number}", "source": "s", "conversations": CHAT, "image": image, **change}


def test_wrong_rows_and_files_of_parquet(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [
        row(0),
        row(1, image={"bytes": None, "path": None}),
        row(2, image={"bytes": b"GIF", "path": None}),
        row(3, image={"bytes": None, "path": "good.jpg"}),  # a path is as good as bytes
        row(4, conversations=None),
        row(5, id=None),
        row(6, conversations=turns("<image>\nHow\0 many?", "Two.")),
        row(7, image={"bytes": bomb(), "path": None}),
        row(8),
    ]
    whole = parquet(folder / "set" / "a.parquet", rows)
    # A text column can hold bytes that are no text; Arrow doesn't look.
    table = pq.read_table(whole)
    bad = pa.array([b"\xff\xfe"] * len(rows), pa.binary()).view(pa.string())
    broken = table.set_column(1, "source", bad)
    ids = pa.array([f"c{n}" for n in range(len(rows))])
    pq.write_table(broken.set_column(0, "id", ids).slice(0, 2), folder / "set" / "b.parquet")
    content = whole.read_bytes()
    (folder / "set" / "c.parquet").write_bytes(content[: len(content) // 2])
    texts = pa.schema([f if f.name != "conversations" else (f.name, pa.string()) for f in SCHEMA])
    parquet(folder / "set" / "d.parquet", [row(0, conversations="hello")], texts)
    parquet(folder / "set" / "e.parquet", [{"id": "x"}], pa.schema([SCHEMA.field("id")]))
    (folder / "set" / "f.parquet").write_bytes(b"")
    words = ["import", str(folder / "set"), "--images", str(folder), "--output"]
    assert main([*words, str(folder / "out"), "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert [Corpus(folder / "out").record(n).id for n in range(3)] == ["r0", "r3", "r8"]
    found = [(line["file"][-9:], line["line"], line["reason"]) for line in reasons(folder / "out")]
    wanted = [
        ("a.parquet", 2, "1 <image> marker and 0 pictures"),
        ("a.parquet", 3, "picture 1 of 1: is not a picture"),
        ("a.parquet", 5, "field 'conversations' is null"),
        ("a.parquet", 6, "field 'id' is null"),
        ("a.parquet", 7, "NUL character"),
        ("a.parquet", 8, "is too large"),
        ("b.parquet", 1, "field 'source': byte 1 is 0xff: not UTF-8"),
        ("b.parquet", 2, "field 'source': byte 1 is 0xff: not UTF-8"),
        ("c.parquet", 0, "not a whole parquet file"),
        ("d.parquet", 0, "column 'conversations' is string; it should be a list of struct"),
        ("e.parquet", 0, "column 'conversations' is missing"),
        ("f.parquet", 0, "not a whole parquet file"),
    ]
    assert [line[:2] for line in found] == [line[:2] for line in wanted]
    for (*_, reason), (*_, said) in zip(found, wanted, strict=True):
        assert said in reason
    assert printed["rejected"] == len(wanted)


def test_damage_inside_a_parquet_file_costs_its_row_group(folder: Path) -> None:
    path = parquet(folder / "set" / "a.parquet", [row(n) for n in range(6)])
    content = bytearray(path.read_bytes())
    offset = pq.ParquetFile(path).metadata.row_group(1).column(0).data_page_offset
    content[offset : offset + 8] = b"\xff" * 8
    path.write_bytes(content)
    assert main(["import", str(folder / "set"), "--output", str(folder / "out")]) == 0
    assert [Corpus(folder / "out").record(n).id for n in range(4)] == ["r0", "r1", "r4", "r5"]
    (line,) = reasons(folder / "out")
    assert line["line"] == 3
    assert "row group 1 is damaged, 2 rows are lost" in line["reason"]


@pytest.mark.parametrize("workers", ["1", "2"])
def test_strict_stops_at_the_first(
    workers: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = [good(0), {**good(1), "image": "no.jpg"}, good(2), {**good(3), "id": ""}]
    source = folder / "list.jsonl"
    source.write_text("\n".join(map(json.dumps, lines)))
    words = ["import", str(source), "--output", str(folder / "out"), "--workers", workers]
    assert main([*words, "--strict"]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"critic-data: error: {source} line 2: field 'image'")
    assert error.count("\n") == 1 and not (folder / "out" / "import.json").exists()
    with pytest.raises(Exception, match="the import is not finished"):
        Corpus(folder / "out")
    # The same without --strict goes on, and a repeated id stops --strict too.
    assert main(words) == 0
    assert len(Corpus(folder / "out")) == 2
    source.write_text("\n".join(map(json.dumps, [good(0), good(0) | {"source": "t"}])))
    assert main(["import", str(source), "--output", str(folder / "two"), "--strict"]) == 2
    assert "is taken by" in capsys.readouterr().err


def test_nothing_good_at_all(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = folder / "list.jsonl"
    source.write_text(json.dumps({**good(0), "image": "no.jpg"}))
    assert main(["import", str(source), "--output", str(folder / "out")]) == 2
    assert "all 1 records are rejected" in capsys.readouterr().err
    assert len(reasons(folder / "out")) == 1


def test_a_picture_that_changes_meanwhile_stops_the_import(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from critic_data.importing import run

    source = folder / "list.jsonl"
    source.write_text(json.dumps(good(0)))
    merge = run.merge

    def change(*arguments: Any) -> Any:
        (folder / "good.jpg").write_bytes(picture_file(1))
        return merge(*arguments)

    with monkeypatch.context() as patched:
        patched.setattr(run, "merge", change)
        words = ["import", str(source), "--output", str(folder / "out"), "--workers", "1"]
        assert main(words) == 2
    assert "changed while it was imported" in capsys.readouterr().err
    assert main(words) == 0
    assert Corpus(folder / "out").picture(0) == picture_file(1)


def test_base64_pictures_in_json(folder: Path) -> None:
    image = {"bytes": base64.b64encode(picture_file(2)).decode()}
    source = folder / "list.json"
    source.write_text(json.dumps([{**good(n), "image": image} for n in range(3)]))
    assert main(["import", str(source), "--output", str(folder / "out")]) == 0
    corpus = Corpus(folder / "out")
    assert corpus.summary["pictures"] == 1 and corpus.picture(0) == picture_file(2)
