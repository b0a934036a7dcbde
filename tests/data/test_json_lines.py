"""Reading JSON objects from lines and arrays: values, line numbers, and each kind of wrong line."""

import json
import re
from pathlib import Path

import pytest

from critic_jax.data import read_json_lines, scan_json_lines
from critic_jax.errors import InputError


def write(tmp_path: Path, content: str | bytes, name: str = "data.jsonl") -> Path:
    path = tmp_path / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def scan(path: Path) -> list[tuple[int, object]]:
    """Errors as their message without the path of the file's folder."""
    return [
        (
            line,
            str(found).removeprefix(f"{path.parent}/") if isinstance(found, InputError) else found,
        )
        for line, found in scan_json_lines(path)
    ]


def test_lines_are_numbered_from_one_and_blank_ones_left_out(tmp_path: Path) -> None:
    path = write(tmp_path, '{"a": 1}\n\n  \t\n{"b": "ü\\n"}\r\n{"c": [1, {"d": null}]}')
    assert list(read_json_lines(path)) == [
        (1, {"a": 1}),
        (4, {"b": "ü\n"}),
        (5, {"c": [1, {"d": None}]}),
    ]


def test_a_line_separator_inside_a_string_ends_no_line(tmp_path: Path) -> None:
    objects = [{"t": "one\u2028two\u0085three\x0b"}, {"t": "next"}]
    path = write(tmp_path, "\n".join(json.dumps(o, ensure_ascii=False) for o in objects))
    assert list(read_json_lines(path)) == [(1, objects[0]), (2, objects[1])]


def test_a_byte_order_mark_is_no_part_of_the_text(tmp_path: Path) -> None:
    assert list(read_json_lines(write(tmp_path, b'\xef\xbb\xbf{"a": 1}\n{"a": 2}\n'))) == [
        (1, {"a": 1}),
        (2, {"a": 2}),
    ]
    array = write(tmp_path, b'\xef\xbb\xbf\n[{"a": 1}]', "array.json")
    assert list(read_json_lines(array)) == [(2, {"a": 1})]


@pytest.mark.parametrize("indent", [None, 2])
def test_an_array_gives_the_same_objects_as_lines(tmp_path: Path, indent: int | None) -> None:
    objects = [{"id": str(n), "text": "a\nb ] , [ {"} for n in range(5)]
    path = write(tmp_path, json.dumps(objects, indent=indent) + "\n", "data.json")
    found = list(read_json_lines(path))
    assert [o for _, o in found] == objects
    step = 4  # lines of an indented object: { id text }
    assert [n for n, _ in found] == [1 if indent is None else 2 + step * k for k in range(5)]


@pytest.mark.parametrize("content", ["", "\n \n", "[]", " [ \n ] "])
def test_nothing_in_a_file_gives_nothing(tmp_path: Path, content: str) -> None:
    assert list(read_json_lines(write(tmp_path, content))) == []


def test_malformed_json_on_line_7_is_named_and_the_rest_is_read(tmp_path: Path) -> None:
    lines = [json.dumps({"id": str(n)}) for n in range(1, 10)]
    lines[6] = '{"id": "7" "source": "x"}'
    path = write(tmp_path, "\n".join(lines))
    found = scan(path)
    assert found[6] == (
        7,
        "data.jsonl line 7: not valid JSON (Expecting ',' delimiter at column 12)",
    )
    assert [o for _, o in found[:6] + found[7:]] == [{"id": str(n)} for n in range(1, 10) if n != 7]
    with pytest.raises(InputError, match=r"data\.jsonl line 7: not valid JSON"):
        list(read_json_lines(path))


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b'{"a": "\xff\xfe"}', "not valid JSON (byte 8 is 0xff: not UTF-8)"),
        (b'{"a": "\xc3"}', "not valid JSON (byte 8 is 0xc3: not UTF-8)"),
        (b'{"a": "\x00"}', "not valid JSON (a NUL byte at byte 8; is it a text file?)"),
        (b'{"a": NaN}', "not valid JSON (NaN is no JSON number)"),
        (b'{"a": -Infinity}', "not valid JSON (-Infinity is no JSON number)"),
        (b'{"a": 1} {"a": 2}', "not valid JSON (Extra data at column 10)"),
        (b'{"a": "cut', "not valid JSON (Unterminated string starting at column 7)"),
        (b"[" * 100_000, "not valid JSON (nested too deep)"),
        (b"[1, 2]", "a list, where a JSON object {...} is wanted"),
        (b'"text"', "a text, where a JSON object {...} is wanted"),
        (b"true", "true or false, where a JSON object {...} is wanted"),
        (b"3.5", "a number, where a JSON object {...} is wanted"),
        (b"null", "null, where a JSON object {...} is wanted"),
        (b'{"a": "\\ud83d"}', "half of a surrogate pair (\\ud800 to \\udfff), not text"),
    ],
)
def test_each_kind_of_wrong_line(tmp_path: Path, line: bytes, reason: str) -> None:
    path = write(tmp_path, b'{"a": 1}\n' + line + b'\n{"a": 3}\n')
    assert scan(path) == [(1, {"a": 1}), (2, f"data.jsonl line 2: {reason}"), (3, {"a": 3})]


def test_a_number_of_too_many_digits_is_a_wrong_line(tmp_path: Path) -> None:
    (line, message), after = scan(write(tmp_path, '{"a": ' + "9" * 5000 + '}\n{"a": 1}'))
    assert line == 1 and str(message).startswith("data.jsonl line 1: not valid JSON (Exceeds the")
    assert after == (2, {"a": 1})


def test_a_whole_surrogate_pair_is_text(tmp_path: Path) -> None:
    assert list(read_json_lines(write(tmp_path, '{"a": "\\ud83d\\ude00"}'))) == [(1, {"a": "😀"})]


@pytest.mark.parametrize(
    ("content", "last"),
    [
        ('[\n{"a": 1},\n{"a" 2},\n{"a": 3}]', (3, "Expecting ':' delimiter at column 6")),
        ('[\n{"a": 1}\n{"a": 2}]', (3, "Expecting ',' delimiter at column 1")),
        ('[\n{"a": 1},\n', (3, "Expecting value at column 1")),
        ('[\n{"a": 1},\n]', (3, "Expecting value at column 1")),
        ('[\n{"a": 1}\n', (3, "Expecting ',' delimiter at column 1")),
        ('[\n{"a": 1}]\n{"a": 2}', (2, "'{\"a\": 2}' behind the end of the array")),
    ],
)
def test_a_broken_array_gives_what_stands_before_the_break(
    tmp_path: Path, content: str, last: tuple[int, str]
) -> None:
    line, reason = last
    assert scan(write(tmp_path, content, "data.json")) == [
        (2, {"a": 1}),
        (line, f"data.json line {line}: not valid JSON ({reason})"),
    ]


def test_a_wrong_item_of_an_array_leaves_the_others(tmp_path: Path) -> None:
    assert scan(write(tmp_path, '[\n{"a": 1},\n 5,\n{"a": 3}]', "data.json")) == [
        (2, {"a": 1}),
        (3, "data.json line 3: a number, where a JSON object {...} is wanted"),
        (4, {"a": 3}),
    ]


def test_what_is_no_readable_file_is_one_clear_line(tmp_path: Path) -> None:
    missing = tmp_path / "no.jsonl"
    with pytest.raises(InputError, match=rf"^{re.escape(str(missing))}: no such file$"):
        list(read_json_lines(missing))
    with pytest.raises(InputError, match=rf"^{re.escape(str(tmp_path))}: a folder, where"):
        list(read_json_lines(tmp_path))
    with pytest.raises(
        InputError, match=r"array\.json: not valid JSON \(byte 9 is 0xe9: not UTF-8"
    ):
        list(read_json_lines(write(tmp_path, b'[{"a": "\xe9"}]', "array.json")))
