"""What a verb prints: valid JSON for a program, aligned lines for a person."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from critic_jax.console import show

DOCUMENT: dict[str, Any] = {
    "path": Path("a/b"),
    "accuracy": np.float32(0.5),
    "correlation": math.nan,
    "lines": np.int64(12345),
    "resumed": False,
    "states": {"value": 3, "by template": {"mmhal": 2.0}},
    "shape": np.array([2, 3]),
    "bad": [],
    "name": "Käse",
}


def test_json_is_one_valid_document(capsys: pytest.CaptureFixture[str]) -> None:
    show(DOCUMENT, as_json=True)
    out = capsys.readouterr().out
    assert json.loads(out, parse_constant=pytest.fail) == {
        "path": "a/b",
        "accuracy": 0.5,
        "correlation": None,
        "lines": 12345,
        "resumed": False,
        "states": {"value": 3, "by template": {"mmhal": 2.0}},
        "shape": [2, 3],
        "bad": [],
        "name": "Käse",
    }
    assert "Käse" in out


def test_lines_are_aligned_and_nested_names_joined(capsys: pytest.CaptureFixture[str]) -> None:
    show(DOCUMENT, as_json=False)
    rows = [line.split("  ", 1) for line in capsys.readouterr().out.splitlines()]
    assert [(name.strip(), text.strip()) for name, text in rows] == [
        ("path", "a/b"),
        ("accuracy", "0.5"),
        ("correlation", "-"),
        ("lines", "12,345"),
        ("resumed", "no"),
        ("states.value", "3"),
        ("states.by template.mmhal", "2"),
        ("shape", "2, 3"),
        ("bad", "-"),
        ("name", "Käse"),
    ]
