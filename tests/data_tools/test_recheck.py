"""`critic-data validate`, `stats` and `verify` on an import."""

import json
import shutil
from collections import Counter
from pathlib import Path

import pytest
from data_tools_helpers import small_import
from published_set import Row

from critic_data import published as published_counts
from critic_data.cli import main
from critic_data.importing.run import import_records


def test_a_whole_import_is_all_good(imported: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["validate", str(imported)]) == 0
    assert capsys.readouterr().out == f"{imported}: 150 records, all good\n"


def damaged(imported: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(imported, tmp_path / "damaged"))


def test_a_picture_that_is_not_its_hash(
    imported: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = damaged(imported, tmp_path)
    shard = sorted((folder / "pictures").glob("*.array_record-*"))[0]
    content = bytearray(shard.read_bytes())
    where = content.index(b"\xff\xd8\xff") + 2_000  # inside the first JPEG
    content[where] ^= 0xFF
    shard.write_bytes(content)
    assert main(["validate", str(folder), "--json"]) == 2
    rejected = json.loads(capsys.readouterr().out)["rejected"]
    assert rejected and all(
        "import again" in bad["reason"] or "hash" in bad["reason"] for bad in rejected
    )
    assert rejected[0]["line"] == 1 and f"{folder} record 1" in rejected[0]["reason"]


def test_a_lost_shard_is_told(
    imported: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = damaged(imported, tmp_path)
    next((folder / "records").glob("*.array_record-00001-*")).unlink()
    assert main(["validate", str(folder)]) == 2
    assert "cannot be read back" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["import.json", "index.parquet"])
def test_an_import_without_its_files_is_told(
    name: str, imported: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = damaged(imported, tmp_path)
    (folder / name).unlink()
    assert main(["validate", str(folder)]) == 2
    error = capsys.readouterr().err
    assert str(folder) in error and error.count("\n") == 1


def test_stats_of_an_import(
    imported: Path, rows: list[Row], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "stats.html"
    assert main(["stats", str(imported), "--json", "--page", str(page)]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["records"] == 150 and found["rejected"] == 0
    assert found["configs"] == {"pointwise": 97, "pairwise": 53}
    sources = Counter(row.fields["source"] for row in rows)
    assert found["sources"] == sources
    assert found["templates"] == {
        "critic-pairwise": 53,
        "other": sources["choice-source"],
        **{name: sources[f"{name}-source"] for name in ("caption", "llava-bench", "wildvision")},
        **{name: sources[f"{name}-source"] for name in ("mmhal", "mmvet")},
    }
    assert found["tasks"]["preference"] == 53
    assert found["kinds"]["pair: two scores"] == sources["llava-bench-source"]
    assert found["kinds"]["no verdict"] == sources["choice-source"]
    assert set(found["verdicts"]) <= {"A>>B", "A>B", "A=B", "B>A", "B>>A", "A", "B", "tie"}
    assert found["verdicts"]["tie"] >= sources["tie-source"]
    assert sum(found["scores"]["of 6"].values()) == sources["mmhal-source"]
    assert sum(found["scores"]["of 100"].values()) == sources["caption-source"]
    assert found["distinct_pictures"] == 50
    assert found["records_per_picture"]["total"] == 150
    assert found["text_tokens"]["minimum"] > 0 and found["tiles"]["minimum"] >= 2
    text = page.read_text()
    for heading in ("By evaluation task", "By template", "Scores of single answers", "Lengths"):
        assert heading in text
    assert text.count("<svg") >= 8


def test_stats_of_what_records_tell_themselves(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    turns = [{"from": "human", "value": "Hello"}, {"from": "gpt", "value": "Hi."}]
    told = {"task": "chat", "domain": "charts", "response_model": "a model"}
    lines = [{"id": "a", "conversations": turns, **told}, {"id": "b", "conversations": turns}]
    source = tmp_path / "list.jsonl"
    source.write_text("\n".join(map(json.dumps, lines)))
    assert main(["import", str(source), "--output", str(tmp_path / "out")]) == 0
    capsys.readouterr()
    for path in (source, tmp_path / "out"):
        assert main(["stats", str(path), "--json"]) == 0
        found = json.loads(capsys.readouterr().out)
        assert found["tasks"] == {"chat": 1, "other": 1}
        assert found["domains"] == {"charts": 1, "not told": 1}
        assert found["response_models"] == {"a model": 1, "not told": 1}


def test_verify_compares_with_the_published_counts(
    imported: Path,
    rows: list[Row],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["verify", str(imported)]) == 2
    out, err = capsys.readouterr()
    assert "rows, pointwise" in out and "published  72,782  found      97  DIFFERS" in out
    assert "not LLaVA-Critic-113k as published" in err
    captions = sum(row.fields["source"] == "caption-source" for row in rows)
    monkeypatch.setattr(published_counts, "ROWS", {"pointwise": 97, "pairwise": 53})
    monkeypatch.setattr(published_counts, "FINAL_SCORES", captions)
    monkeypatch.setattr(published_counts, "PICTURES", 400)
    assert main(["verify", str(imported), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["agrees"] and [count["found"] for count in found["counts"]] == [
        97,
        53,
        0,
        captions,
        50,
    ]


def test_a_verify_of_a_file_is_a_wrong_input(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["verify", str(tmp_path)]) == 2
    assert "no import; `critic-data import` makes one" in capsys.readouterr().err


def test_an_import_with_the_same_job_is_found_again(
    published: Path, imported: Path, tokenizer_folder: Path
) -> None:
    before = (imported / "import.json").stat().st_mtime_ns
    import_records(small_import((published,), imported, tokenizer=tokenizer_folder))
    assert (imported / "import.json").stat().st_mtime_ns == before
