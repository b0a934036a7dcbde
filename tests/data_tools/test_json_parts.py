"""Parts of JSON files hold the same objects, on the same lines, as the files read whole."""

import json
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, given, settings

from critic_data.importing import json_parts
from critic_jax.data import scan_json_lines
from critic_jax.errors import InputError

TEXTS = st.text(st.sampled_from('ab"\\[]{},\n\u00e9😀 '), max_size=12)
VALUES = st.recursive(
    TEXTS | st.integers() | st.none(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=6,
)
OBJECTS = st.lists(st.dictionaries(TEXTS, VALUES, max_size=3), max_size=8)


def in_parts(path: Path, size: int) -> list[tuple[int, Any]]:
    found = []
    with path.open("rb") as file:
        array = json_parts.is_array(file)
        for part in list(json_parts.parts(file, array, size)):
            found += list(json_parts.part_objects(file, part, array, str(path)))
    return [(line, str(f) if isinstance(f, InputError) else f) for line, f in found]


def whole(path: Path) -> list[tuple[int, Any]]:
    return [(line, str(f) if isinstance(f, InputError) else f) for line, f in scan_json_lines(path)]


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    objects=OBJECTS,
    size=st.integers(1, 60),
    block=st.integers(1, 40),
    form=st.sampled_from(["lines", "array", "indented", "bom"]),
    ascii=st.booleans(),
)
def test_parts_hold_what_the_file_holds(
    objects: list[dict[str, Any]],
    size: int,
    block: int,
    form: str,
    ascii: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    path = tmp_path / "file.json"
    text = {
        "lines": "\n\n".join(json.dumps(o, ensure_ascii=ascii) for o in objects) + "\n",
        "array": json.dumps(objects, ensure_ascii=ascii),
        "indented": " \n" + json.dumps(objects, indent=1, ensure_ascii=ascii) + "\n\n",
        "bom": "\ufeff" + json.dumps(objects, indent=2, ensure_ascii=ascii),
    }[form]
    path.write_text(text, encoding="utf-8")
    with monkeypatch.context() as patched:
        patched.setattr(json_parts, "_BLOCK", block)
        found = in_parts(path, size)
    assert found == whole(path)
    assert [value for _, value in found] == objects


@pytest.mark.parametrize(
    ("text", "good", "said"),
    [
        ('[{"a": 1},\n{"b" 2},\n{"c": 3}]', [{"a": 1}, {"c": 3}], "Expecting ':' delimiter"),
        ('[{"a": 1},\n5,\n{"c": 3}]', [{"a": 1}, {"c": 3}], "a number, where a JSON object"),
        ('[{"a": 1},\n]', [{"a": 1}], "Expecting value"),
        ('[{"a": 1},\n{"b": "x', [{"a": 1}], "Unterminated string"),
        ('[{"a": 1},\n{"c": 3}\n', [{"a": 1}, {"c": 3}], "does not end with a bracket"),
        ('[{"a": 1},\n{"c": 3}] {}', [{"a": 1}, {"c": 3}], "'{}' behind the end of the array"),
        ('[{"a": 1},\n{"c": 3}\n{"d": 4}]', [{"a": 1}], "Extra data"),
    ],
)
@pytest.mark.parametrize("size", [1, 1000])
def test_a_broken_object_of_an_array_costs_itself(
    text: str, good: list[Any], said: str, size: int, tmp_path: Path
) -> None:
    path = tmp_path / "file.json"
    path.write_text(text)
    found = in_parts(path, size)
    assert [f for _, f in found if isinstance(f, dict)] == good
    reasons = [f for _, f in found if not isinstance(f, dict)]
    assert any(said in reason for reason in reasons), reasons
    assert all(reason.startswith(f"{path} line 2: ") for reason in reasons)
