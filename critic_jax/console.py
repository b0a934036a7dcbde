"""What a verb prints at its end: one JSON document for a program, or aligned lines for a person."""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from os import PathLike, fspath
from typing import Any


def show(document: Mapping[str, Any], *, as_json: bool) -> None:
    """Print `document` on stdout: as one JSON document, or as lines `name  value`.

    Nested names are joined with a dot in the lines. Values that are not JSON's own are made so:
    paths become text, NumPy scalars Python numbers, NaN and infinities null.
    """
    plain = _plain(document)
    if as_json:
        print(json.dumps(plain, indent=2, ensure_ascii=False, allow_nan=False))
        return
    rows = list(_rows(plain, ""))
    width = max((len(name) for name, _ in rows), default=0)
    for name, text in rows:
        print(f"{name:<{width}}  {text}")


def show_rows(head: Mapping[str, Any], rows: Sequence[Mapping[str, Any]], as_json: bool) -> None:
    """Print a table on stdout: the rows' plain fields as columns, numbers to the right; as JSON
    one document, `head` with the whole `rows` in it. All rows have the first one's fields.
    """
    if as_json:
        show({**head, "rows": rows}, as_json=True)
        return
    plain = [_plain(row) for row in rows]
    columns = [name for name, value in plain[0].items() if not isinstance(value, dict)]
    cells = [[_text(row[name]) for name in columns] for row in plain]
    wide = [max(map(len, column)) for column in zip(columns, *cells, strict=True)]
    right = [any(isinstance(row[name], int | float) for row in plain) for name in columns]
    for line in (columns, *cells):
        fitted = zip(line, wide, right, strict=True)
        print("  ".join(f"{t:>{w}}" if r else f"{t:<{w}}" for t, w, r in fitted).rstrip())


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(name): _plain(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    if isinstance(value, PathLike):
        return fspath(value)
    if hasattr(value, "tolist"):  # NumPy scalars and arrays
        return _plain(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def _rows(document: dict[str, Any], prefix: str) -> Iterator[tuple[str, str]]:
    for name, value in document.items():
        if isinstance(value, dict) and value:
            yield from _rows(value, f"{prefix}{name}.")
        else:
            yield prefix + name, _text(value)


def _text(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}" if abs(value) < 1000 else f"{value:,.0f}"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if value is None or value in ([], {}):
        return "-"
    if isinstance(value, list):
        return ", ".join(_text(inner) for inner in value)
    return str(value)
