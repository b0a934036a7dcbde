"""`critic-data import` of the published layout: all of it, each picture once, by picture."""

import hashlib
import json
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from data_tools_helpers import digest, small_import
from published_set import Row, picture_file, write_published
from tiny_critic import tiny_tokenizer

from critic_data.cli import main
from critic_data.importing.run import Import, import_records
from critic_jax.data import Record
from critic_jax.data.corpus import Corpus, lengths_file
from critic_jax.imaging import ImageGeometry, open_picture, picture_tile_count, picture_token_count
from critic_jax.text import encode_chat, record_turns


def test_every_record_is_there_with_its_picture_as_it_came(imported: Path, rows: list[Row]) -> None:
    corpus = Corpus(imported)
    assert len(corpus) == len(rows)
    by_id = {row.fields["id"]: row for row in rows}
    found = [corpus.record(number) for number in range(len(corpus))]
    assert sorted(record.id for record in found) == sorted(by_id)
    for record in found:
        row = by_id[record.id]
        assert record.source == row.fields["source"]
        assert list(record.conversations) == row.fields["conversations"]
        assert record.images == (picture_file(row.picture),)


def test_pictures_are_stored_once_and_their_records_stand_together(
    imported: Path, rows: list[Row]
) -> None:
    corpus = Corpus(imported)
    pictures = corpus.index["pictures"].to_pylist()
    order = [numbers[0] for numbers in pictures]
    runs = [a for a, b in zip(order, [-1, *order], strict=False) if a != b]
    assert runs == list(range(50))
    hashes = [corpus.stored_picture(n)["hash"].decode() for n in range(50)]
    assert len(set(hashes)) == 50
    for number, name in enumerate(hashes):
        assert hashlib.sha256(corpus.picture(number)).hexdigest() == name
    with pytest.raises(IndexError):
        corpus.picture(50)


def test_the_index_tells_sizes_and_lengths(imported: Path, rows: list[Row]) -> None:
    corpus, geometry, tokenizer = Corpus(imported), ImageGeometry(), tiny_tokenizer()
    by_id = {row.fields["id"]: row for row in rows}
    with np.load(imported / lengths_file(tokenizer)) as lengths:
        tokens, order = lengths["tokens"], lengths["order"]
    assert order.tolist() == list(range(len(rows)))  # stored as the tokenizer's trees have it
    for number, entry in enumerate(corpus.index.to_pylist()):
        row = by_id[entry["id"]]
        width, height = open_picture(picture_file(row.picture)).size
        assert (entry["config"], entry["source"]) == (row.config, row.fields["source"])
        assert (entry["widths"], entry["heights"]) == ([width], [height])
        assert entry["tiles"] == picture_tile_count(width, height, geometry)
        assert entry["picture_tokens"] == picture_token_count(width, height, geometry)
        turns = record_turns(row.fields["conversations"], 1)
        text = len(encode_chat(tokenizer, turns, [0]).tokens)
        assert entry["text_tokens"] == tokens[number] == text


def test_tensorflow_datasets_reads_it_and_tensorflow_is_nowhere(imported: Path) -> None:
    program = """
import sys
import tensorflow_datasets as tfds
builder = tfds.builder_from_directory(sys.argv[1] + "/records")
assert builder.info.file_format.value == "array_record", builder.info.file_format
assert builder.info.splits["train"].num_shards > 1
source = builder.as_data_source("train")
pictures = tfds.builder_from_directory(sys.argv[1] + "/pictures").as_data_source("train")
last = source[len(source) - 1]
print(len(source), len(pictures), last["id"].decode(), last["pictures"][0])
assert not {"tensorflow", "jax"} & set(sys.modules)
"""
    done = subprocess.run(
        [sys.executable, "-c", program, imported], capture_output=True, text=True, check=True
    )
    last = Corpus(imported).record(149).id
    assert done.stdout.split() == ["150", "50", last, "49"]


@pytest.mark.parametrize("form", ["lines", "array", "indented"])
def test_json_with_a_picture_folder_imports_the_same(
    form: str, imported: Path, published: Path, rows: list[Row], tmp_path: Path
) -> None:
    (tmp_path / "pictures").mkdir()
    lines = []
    for row in (r for r in rows if r.config == "pointwise"):
        name = f"{row.picture}.jpg"
        (tmp_path / "pictures" / name).write_bytes(picture_file(row.picture))
        lines.append({**row.fields, "image": name})
    text = {
        "lines": "\n".join(map(json.dumps, lines)),
        "array": json.dumps(lines),
        "indented": "\ufeff" + json.dumps(lines, indent=2, ensure_ascii=False),
    }[form]
    source = tmp_path / "list.json"
    source.write_text(text, encoding="utf-8")
    job = Import((source,), tmp_path / "out", images=tmp_path / "pictures", workers=2)
    assert import_records(job)["rejected"] == 0
    job = Import((published / "pointwise",), tmp_path / "parquet")
    import_records(job)
    ours, theirs = Corpus(tmp_path / "out"), Corpus(tmp_path / "parquet")
    assert content(ours) == content(theirs) and len(ours) == len(lines)


def content(corpus: Corpus) -> list[Any]:
    records = [corpus.record(number) for number in range(len(corpus))]
    return [(r.id, r.source, r.conversations, r.images) for r in records]


def test_the_number_of_processes_changes_nothing(
    published: Path, imported: Path, tokenizer_folder: Path, tmp_path: Path
) -> None:
    job = small_import((published,), tmp_path / "out", tokenizer=tokenizer_folder, workers=2)
    import_records(job)
    assert digest(tmp_path / "out") == digest(imported)


def test_records_of_several_pictures_and_of_none(tmp_path: Path) -> None:
    for number in range(3):
        (tmp_path / f"{number}.jpg").write_bytes(picture_file(number))
    ask = {"from": "human", "value": "<image> or <image>?"}
    answer = {"from": "gpt", "value": "The first."}
    text = {"from": "human", "value": "Hello"}
    one = {"from": "human", "value": "<image>\nWhat?"}
    lines: list[dict[str, Any]] = [
        {"id": "two", "image": ["0.jpg", "1.jpg"], "conversations": [ask, answer]},
        {"id": "text", "conversations": [text, answer]},
        {"id": 7, "image": "0.jpg", "conversations": [one, answer]},
        {"id": "again", "image": ["0.jpg", "1.jpg"], "conversations": [ask, text | answer]},
        {"id": "twice", "image": ["2.jpg", "2.jpg"], "conversations": [ask, answer]},
    ]
    source = tmp_path / "list.jsonl"
    source.write_text("\n".join(map(json.dumps, lines)))
    import_records(Import((source,), tmp_path / "out"))
    corpus = Corpus(tmp_path / "out")
    found = {r.id: r for r in (corpus.record(n) for n in range(5))}
    assert list(found) == ["two", "again", "text", "7", "twice"]
    files = [picture_file(n) for n in range(3)]
    assert found["two"].images == found["again"].images == tuple(files[:2])
    assert found["text"].images == () and found["7"].images == (files[0],)
    assert found["twice"].images == (files[2], files[2])
    assert corpus.summary["pictures"] == 3
    assert corpus.index["tiles"].to_pylist()[0] == 2
    assert corpus.index["tiles"].to_pylist()[4] == 1


def test_text_alone_imports_too(tmp_path: Path) -> None:
    turns = [{"from": "human", "value": "Hello"}, {"from": "gpt", "value": "Hi."}]
    source = tmp_path / "list.jsonl"
    source.write_text(json.dumps({"id": "a", "conversations": turns}))
    assert main(["import", str(source), "--output", str(tmp_path / "out")]) == 0
    assert isinstance(Corpus(tmp_path / "out").record(0), Record)
    assert main(["validate", str(tmp_path / "out")]) == 0


def test_ids_are_counted_by_config(published: Path, rows: list[Row], tmp_path: Path) -> None:
    """The published parts number for themselves: an id of one may be that of another's record."""
    both = [Row("pointwise", rows[0].fields | {"id": "train_0"}, 0)]
    both.append(Row("pairwise", rows[-1].fields | {"id": "train_0"}, 1))
    write_published(tmp_path / "set", both, files=1)
    summary = import_records(Import((tmp_path / "set",), tmp_path / "out"))
    assert summary["configs"] == {
        config: {"records": 1, "rejected": 0} for config in ("pairwise", "pointwise")
    }


def test_another_record_with_a_taken_id_may_be_numbered(tmp_path: Path) -> None:
    turns = [{"from": "human", "value": "Hello"}, {"from": "gpt", "value": "Hi."}]
    lines = [{"id": "a", "source": f"s{n}", "conversations": turns} for n in (0, 1, 2, 1)]
    source = tmp_path / "list.jsonl"
    source.write_text("\n".join(map(json.dumps, lines)))
    words = ["import", str(source), "--output", str(tmp_path / "out")]
    assert main([*words, "--repeated-ids", "number"]) == 0
    assert [Corpus(tmp_path / "out").record(n).id for n in range(4)] == ["a", "a#2", "a#3", "a#4"]


def test_what_is_printed(
    published: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["import", str(published), "--output", str(tmp_path / "out"), "--workers", "1"]
    assert main([*words, "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["records"] == 150 and printed["rejected"] == 0 and printed["pictures"] == 50
    assert Counter({k: v["records"] for k, v in printed["configs"].items()}) == Counter(
        pointwise=97, pairwise=53
    )
    assert main(words) == 0  # of a finished import the same again, and nothing is done
    assert re.search(r"^records +150$", capsys.readouterr().out, re.M)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "no file to import is named"),
        (["missing.parquet"], "missing.parquet: no such file or folder"),
        (["empty"], "empty: holds no .parquet file"),
        (["list.jsonl", "list.jsonl"], "a file is named twice"),
        (["list.jsonl", "--images", "nowhere"], "nowhere: no such folder of pictures"),
        (["list.jsonl", "--workers", "0"], "--workers 0: at least one"),
        (["list.jsonl", "--tokenizer", "empty"], "empty"),
        (["list.jsonl", "--output", "list.jsonl"], "is a file; name a folder"),
        (["list.jsonl", "--output", "full"], "full: is not empty and no import"),
    ],
)
def test_wrong_commands(
    words: list[str],
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine").write_text("mine")
    turns = [{"from": "human", "value": "Hello"}, {"from": "gpt", "value": "Hi."}]
    Path("list.jsonl").write_text(json.dumps({"id": "a", "conversations": turns}))
    output = [] if "--output" in words else ["--output", "out"]
    assert main(["import", *words, *output]) == 2
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 1
    assert (tmp_path / "full" / "mine").read_text() == "mine"
    assert not (tmp_path / "out").exists()


def test_an_import_of_something_else_is_not_replaced(
    published: Path, imported: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = digest(imported)
    assert main(["import", str(published / "pairwise"), "--output", str(imported)]) == 2
    assert "holds an import of other files or options" in capsys.readouterr().err
    assert digest(imported) == before
