"""Data behind URLs, in a store that is a double: memory under the name gs."""

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem
from published_fixtures import imported, published, rows, tokenizer_folder

from critic_data.cli import main
from critic_jax.data.corpus import Corpus
from critic_jax.errors import InputError, WorkError
from critic_jax.remote import cache_folder, fetched, sent, url_of

__all__ = ["imported", "published", "rows", "tokenizer_folder"]


class Double(MemoryFileSystem):
    """Speaks fsspec's interface as gcsfs does; counts what is fetched, and can fail."""

    protocol = "gs"
    store: ClassVar[dict[str, Any]] = {}
    pseudo_dirs: ClassVar[list[str]] = [""]
    got: ClassVar[list[str]] = []
    put = 0
    broken = False

    def get_file(self, rpath: str, lpath: str, **how: Any) -> None:
        if self.broken:
            raise OSError("connection reset")
        self.got.append(rpath)
        super().get_file(rpath, lpath, **how)

    def put_file(self, lpath: str, rpath: str, **how: Any) -> None:
        if self.broken:
            raise OSError("connection reset")
        Double.put += 1
        super().put_file(lpath, rpath, **how)


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Double]:
    monkeypatch.setenv("CRITIC_JAX_CACHE", str(tmp_path / "cache"))
    Double.store, Double.pseudo_dirs, Double.got, Double.broken = {}, [""], [], False
    fsspec.register_implementation("gs", Double, clobber=True)
    Double.clear_instance_cache()
    yield Double()
    Double.clear_instance_cache()
    del sys.modules["fsspec.registry"]._registry["gs"]  # type: ignore[attr-defined]


def test_urls_and_paths_are_told_apart() -> None:
    assert url_of("gs://bucket/set") == "gs://bucket/set"
    assert url_of(Path("gs://bucket/set")) == "gs://bucket/set"
    for path in ("set", "/set", "./gs/set", "a:b", "C:/set"):
        assert url_of(path) is None
        assert fetched(path) == Path(path)


def test_a_set_is_imported_from_and_to_a_store(
    store: Double, published: Path, imported: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sent(published, "gs://bucket/published")
    words = ["import", "gs://bucket/published", "--output", "gs://bucket/critic"]
    assert main([*words, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["records"] == 150
    names = store.find("gs://bucket/critic")
    assert any(name.endswith("import.json") for name in names)
    assert not any("/." in name for name in names)
    for verb in ("validate", "stats"):
        assert main([verb, "gs://bucket/critic"]) == 0
    assert main(["verify", "gs://bucket/critic"]) == 2  # it is not the published set
    corpus = Corpus(fetched("gs://bucket/critic"))
    ids = {corpus.record(number).id for number in range(150)}
    assert ids == {Corpus(imported).record(number).id for number in range(150)}


def test_only_what_has_changed_is_fetched_again(store: Double, tmp_path: Path) -> None:
    for name, text in (("a", "1"), ("inner/b", "2"), ("import.json", "3")):
        (tmp_path / "set" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "set" / name).write_text(text)
    sent(tmp_path / "set", "gs://bucket/set")
    copy = fetched("gs://bucket/set/")
    assert copy == cache_folder("gs://bucket/set")
    assert {p.name: p.read_text() for p in copy.rglob("*") if p.is_file()} == {
        "a": "1",
        "b": "2",
        "import.json": "3",
    }
    assert [name.rsplit("/", 1)[1] for name in Double.got] == ["a", "b", "import.json"]
    fetched("gs://bucket/set")
    assert len(Double.got) == 3
    store.pipe("gs://bucket/set/a", b"new")
    assert (fetched("gs://bucket/set") / "a").read_text() == "new"
    assert len(Double.got) == 4
    put = Double.put
    sent(tmp_path / "set", "gs://bucket/set")
    assert Double.put == put
    (tmp_path / "set" / "a").write_text("2")  # of the same size
    sent(tmp_path / "set", "gs://bucket/set")
    assert Double.put == put + 1 and (fetched("gs://bucket/set") / "a").read_text() == "2"
    assert fetched("gs://bucket/set/inner/b").read_text() == "2"


def test_wrong_urls_and_lost_connections(store: Double, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="gs://bucket/no: no such file or folder"):
        fetched("gs://bucket/no")
    with pytest.raises(InputError, match="nosuch://bucket/set: Protocol not known: nosuch"):
        fetched("nosuch://bucket/set")
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "a").write_text("1")
    sent(tmp_path / "set", "gs://bucket/set")
    Double.broken = True
    with pytest.raises(WorkError, match=r"could not be fetched \(connection reset\); run the same"):
        fetched("gs://bucket/set")
    assert not list(Path(os.environ["CRITIC_JAX_CACHE"]).rglob("a"))
    with pytest.raises(WorkError, match="could not be written"):
        sent(tmp_path / "set", "gs://bucket/other")
    Double.broken = False
    assert (fetched("gs://bucket/set") / "a").read_text() == "1"
