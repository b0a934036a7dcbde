"""Tables whose columns sort at a click."""

import math
from collections.abc import Iterable, Sequence

from critic_jax.reporting.html import Html, element, join


def table(columns: Sequence[str], rows: Iterable[Sequence[object]], caption: str = "") -> Html:
    """A table. Numbers stand to the right and sort by value, everything else by its text.

    Raises ValueError where a row has another number of cells than there are columns.
    """
    lines = [list(row) for row in rows]
    for number, line in enumerate(lines):
        if len(line) != len(columns):
            raise ValueError(f"row {number} has {len(line)} cells, but {len(columns)} columns")
    numeric = [
        bool(lines) and all(line[n] is None or _is_number(line[n]) for line in lines)
        for n in range(len(columns))
    ]
    head = [
        element("th", name, scope="col", class_="number" if numeric[n] else None)
        for n, name in enumerate(columns)
    ]
    body = [
        element("tr", *(_cell(value, numeric[n]) for n, value in enumerate(line))) for line in lines
    ]
    return element(
        "div",
        element(
            "table",
            element("caption", caption) if caption else None,
            element("thead", element("tr", *head)),
            element("tbody", join(body)),
            class_="sortable",
        ),
        class_="scroll",
    )


def facts(pairs: Iterable[tuple[str, object, str]]) -> Html:
    """The few numbers that a page is about: (name, value, a note on it), large."""
    blocks = [
        element(
            "div",
            element("dt", name),
            element("dd", show(value), class_="value"),
            element("dd", note, class_="note") if note else None,
        )
        for name, value, note in pairs
    ]
    return element("dl", join(blocks), class_="facts")


def show(value: object) -> str:
    """A value as a reader wants it: four significant digits, thousands apart, a dash for none."""
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        if not math.isfinite(value):
            return str(value)
        if value and not 1e-4 <= abs(value) < 1e7:
            return f"{value:.3g}"
        digits = 4 if abs(value) < 1 else max(0, 3 - math.floor(math.log10(abs(value))))
        text = f"{value:,.{digits}f}"
        return text.rstrip("0").rstrip(".") if "." in text else text
    if isinstance(value, list | tuple):
        return ", ".join(map(show, value))
    return str(value)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _cell(value: object, numeric: bool) -> Html:
    if isinstance(value, Html):
        return element("td", value)
    key = repr(float(value)) if isinstance(value, int | float) and numeric else None
    return element(
        "td",
        element("span", show(value), dir="auto"),
        class_="number" if numeric else None,
        data_sort=key,
    )
