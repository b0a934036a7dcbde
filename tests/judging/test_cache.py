"""Judgments kept on disk: what finds them again, and what becomes of damaged ones."""

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from critic_jax.judging.ask import Ask, Asking
from critic_jax.judging.cache import JudgmentCache
from critic_jax.judging.judgment import Judgment
from critic_jax.judging.templates import get_template
from critic_jax.testing import FakePicture

TEXTS: dict[str, str | None] = {"question": "?", "response_a": "é", "response_b": "b"}
ASK = Ask((FakePicture("k"),), get_template("llava-bench"), TEXTS)
SAID = Judgment("value", None, "A", (8.0, 3.5), "Fine — é.", "", "8 3.5\nFine", "llava-bench", "m")


def test_a_judgment_comes_back_as_it_was(tmp_path: Path) -> None:
    cache = JudgmentCache(tmp_path, "f", "m")
    assert cache.get(ASK) is None
    cache.put(ASK, SAID)
    assert cache.get(ASK) == SAID
    assert JudgmentCache(tmp_path, "f", "m").get(ASK) == SAID
    # The same weights under another name.
    assert JudgmentCache(tmp_path, "f", "n").get(ASK) == replace(SAID, model="n")


@pytest.mark.parametrize(
    "other",
    [
        replace(ASK, visuals=()),
        replace(ASK, visuals=(FakePicture("l"),)),
        replace(ASK, visuals=(FakePicture("k"), FakePicture("k"))),
        replace(ASK, order="ba"),
        replace(ASK, texts={**TEXTS, "question": "??"}),
        replace(ASK, texts={**TEXTS, "criteria": "c"}),
        replace(ASK, template=get_template("mt-bench")),
    ],
)
def test_whatever_matters_makes_another_place(tmp_path: Path, other: Ask) -> None:
    cache = JudgmentCache(tmp_path, "f", "m")
    cache.put(ASK, SAID)
    assert cache.get(other) is None
    assert JudgmentCache(tmp_path, "g", "m").get(ASK) is None
    assert cache.get(ASK) == SAID


@pytest.mark.parametrize(
    "how",
    [{"verdict_only": True}, {"probabilities": True}, {"reasks": 1}, {"constrained": True}],
)
def test_another_way_of_asking_makes_another_place(tmp_path: Path, how: Any) -> None:
    JudgmentCache(tmp_path, "f", "m").put(ASK, SAID)
    other = JudgmentCache(tmp_path, "f", "m", Asking(**how))
    assert other.get(ASK) is None
    read = replace(SAID, probabilities={"expected_a": 7.5, "valid": 1.0}, asks=2, first_why="hm")
    other.put(ASK, read)
    assert other.get(ASK) == read
    assert JudgmentCache(tmp_path, "f", "m").get(ASK) == SAID


@pytest.mark.parametrize("damage", ["empty", "cut", "changed", "other", "list", "binary"])
def test_a_damaged_entry_is_warned_of_and_replaced(
    tmp_path: Path, capsys: Any, damage: str
) -> None:
    cache = JudgmentCache(tmp_path, "f", "m")
    cache.put(ASK, SAID)
    (path,) = [p for p in tmp_path.rglob("*") if p.is_file()]
    whole = path.read_bytes()
    path.write_bytes(
        {
            "empty": b"",
            "cut": whole[: len(whole) // 2],
            "changed": whole.replace(b"3.5]", b"9.5]"),
            "other": json.dumps({"judgment": {"state": "value"}, "digest": "x"}).encode(),
            "list": b"[]",
            "binary": b"\xff\x00\xfe",
        }[damage]
    )
    assert path.read_bytes() != whole
    assert cache.get(ASK) is None
    error = capsys.readouterr().err
    assert error.startswith(f"critic-jax: warning: {path}: damaged (") and error.count("\n") == 1
    cache.put(ASK, SAID)
    assert cache.get(ASK) == SAID and path.read_bytes() == whole
    assert [p for p in tmp_path.rglob("*") if p.is_file()] == [path]


def test_a_disk_that_refuses_costs_only_the_cache(
    tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = JudgmentCache(tmp_path / "c", "f", "m")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    cache.put(ASK, SAID)
    cache.put(ASK, SAID)
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "cannot be kept (No space left on device)" in error
    assert not [p for p in tmp_path.rglob("*") if p.is_file()]
