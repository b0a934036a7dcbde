"""Where something is to be written and cannot be: one line, and what is there stays."""

from pathlib import Path

import pytest

from critic_jax.errors import InputError
from critic_jax.files import alone, make_folder, write_json


def test_a_folder_where_a_file_is_to_be_is_told(tmp_path: Path) -> None:
    (tmp_path / "a.json").mkdir()
    with pytest.raises(InputError, match=r"a\.json: a folder, where a file is to be written"):
        write_json(tmp_path / "a.json", {})
    assert list(tmp_path.iterdir()) == [tmp_path / "a.json"]


def test_a_file_where_a_folder_is_to_be_is_told(tmp_path: Path) -> None:
    taken = tmp_path / "mine"
    taken.write_text("mine")
    for path in (taken / "a.json", taken / "deeper" / "a.json"):
        with pytest.raises(InputError, match=r"cannot be made a folder \((File exists|Not a dir)"):
            write_json(path, {})
    with pytest.raises(InputError, match="mine: cannot be made a folder"):
        make_folder(taken)
    assert taken.read_text() == "mine"


def test_a_folder_is_one_runs_at_a_time(tmp_path: Path) -> None:
    with alone(tmp_path):
        with pytest.raises(InputError, match="another run is writing to it"), alone(tmp_path):
            pass
        with alone(tmp_path.parent):
            pass
    with alone(tmp_path):
        pass
