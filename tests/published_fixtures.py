"""Fixtures of several rooms: a published set in small, imported once, and a tokenizer's folder."""

from pathlib import Path

import pytest
from data_tools_helpers import small_import
from published_set import Row, published_rows, write_published
from tiny_critic import tiny_tokenizer

from critic_data.importing.run import import_records


@pytest.fixture(scope="session")
def rows() -> list[Row]:
    return published_rows(records=150, pictures=50)


@pytest.fixture(scope="session")
def published(rows: list[Row], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the parquet files, as the hub has it."""
    folder = tmp_path_factory.mktemp("published")
    write_published(folder, rows, rows_a_group=20)
    return folder


@pytest.fixture(scope="session")
def tokenizer_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tokenizer")
    tiny_tokenizer().save(folder)
    return folder


@pytest.fixture(scope="session")
def imported(
    published: Path, tokenizer_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """The import of `published`, in several shards of pictures and of records."""
    output = tmp_path_factory.mktemp("imported") / "critic"
    import_records(small_import((published,), output, tokenizer=tokenizer_folder))
    return output
