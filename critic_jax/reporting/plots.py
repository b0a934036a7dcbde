"""Plots as inline SVG, coloured by the page's style sheet."""

import math
from collections.abc import Mapping, Sequence

from critic_jax.reporting.html import Html, element, join
from critic_jax.reporting.tables import show

WIDTH, HEIGHT = 520, 300
LEFT, RIGHT, TOP, BOTTOM = 56, 14, 12, 46
LETTER = 9.4  # the width of one, about, at the size that small screens get
COLOURS = 6


def line_plot(
    series: Mapping[str, Sequence[tuple[float, float]]], title: str, x_label: str, y_label: str
) -> Html:
    """Lines through points (x, y), one a series; a value that is not finite breaks its line."""
    points = [p for line in series.values() for p in line if _finite(p)]
    if not points:
        return _figure(title, _nothing(), ())
    x_axis = Axis([x for x, _ in points], LEFT, WIDTH - RIGHT)
    y_axis = Axis([y for _, y in points], HEIGHT - BOTTOM, TOP)
    marks: list[Html] = [_frame(x_axis, y_axis, x_label, y_label)]
    for n, (name, line) in enumerate(series.items()):
        for piece in _unbroken(line):
            path = " ".join(f"{x_axis(x):.1f},{y_axis(y):.1f}" for x, y in piece)
            marks.append(element("polyline", points=path, class_=f"line c{n % COLOURS}"))
        dots = [p for p in line if _finite(p)]
        if len(dots) <= 30:
            for x, y in dots:
                marks.append(
                    element(
                        "circle",
                        element("title", f"{name}: {show(float(x))}, {show(float(y))}"),
                        cx=f"{x_axis(x):.1f}",
                        cy=f"{y_axis(y):.1f}",
                        r=3,
                        class_=f"dot c{n % COLOURS}",
                    )
                )
    return _figure(title, join(marks), tuple(series))


def bar_plot(
    labels: Sequence[str],
    series: Mapping[str, Sequence[float]],
    title: str,
    x_label: str,
    y_label: str,
) -> Html:
    """Bars, one group a label and one bar a series in it.

    Raises ValueError where a series has another number of values than there are labels.
    """
    for name, values in series.items():
        if len(values) != len(labels):
            raise ValueError(f"{name} has {len(values)} values for {len(labels)} labels")
    finite = [v for values in series.values() for v in values if math.isfinite(v)]
    if not finite:
        return _figure(title, _nothing(), ())
    y_axis = Axis([0.0, *finite], HEIGHT - BOTTOM, TOP)
    step = (WIDTH - LEFT - RIGHT) / len(labels)
    wide = 0.8 * step / len(series)
    marks: list[Html] = [_frame(None, y_axis, x_label, y_label)]
    for n, (name, values) in enumerate(series.items()):
        for place, value in enumerate(values):
            if not math.isfinite(value):
                continue
            top, floor = sorted((y_axis(value), y_axis(0.0)))
            marks.append(
                element(
                    "rect",
                    element("title", f"{labels[place]}, {name}: {show(value)}"),
                    x=f"{LEFT + (place + 0.1) * step + n * wide:.1f}",
                    y=f"{top:.1f}",
                    width=f"{max(wide - 1, 0.5):.1f}",
                    height=f"{floor - top:.1f}",
                    class_=f"bar c{n % COLOURS}",
                )
            )
    # Labels share the width: of many only every second, third, ... is written.
    room = max(1, math.ceil(max(map(len, labels)) * 8 / step))
    for place in range(0, len(labels), room):
        half = len(labels[place]) * LETTER / 2
        middle = max(LEFT + half, min(LEFT + (place + 0.5) * step, WIDTH - half))
        marks.append(_text(labels[place], middle, HEIGHT - BOTTOM + 18))
    return _figure(title, join(marks), tuple(series))


def histogram(
    series: Mapping[str, Sequence[float]], title: str, x_label: str, y_label: str, bins: int = 10
) -> Html:
    """How often values fall into `bins` equal parts of their common range, a bar a series.

    Where all values together are at most `bins` different ones, each gets its own bars.
    """
    finite = {name: [v for v in values if math.isfinite(v)] for name, values in series.items()}
    levels = sorted({v for values in finite.values() for v in values})
    if len(levels) <= bins:
        counts = {n: [float(vs.count(level)) for level in levels] for n, vs in finite.items()}
        return bar_plot([show(v) for v in levels], counts, title, x_label, y_label)
    low, width = levels[0], (levels[-1] - levels[0]) / bins
    counts = {}
    for name, values in finite.items():
        tally = [0.0] * bins
        for value in values:
            tally[min(int((value - low) / width), bins - 1)] += 1
        counts[name] = tally
    edges = [f"{show(low + n * width)}–{show(low + (n + 1) * width)}" for n in range(bins)]
    return bar_plot(edges, counts, title, x_label, y_label)


class Axis:
    """A linear scale from values to pixels, with round ticks that enclose the values."""

    def __init__(self, values: Sequence[float], start: float, end: float) -> None:
        low, high = min(values), max(values)
        if low == high:
            pad = abs(low) / 2 or 1.0
            low, high = low - pad, high + pad
        step = _round_step((high - low) / 5)
        first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
        self.ticks = [n * step for n in range(first, last + 1)]
        self.low, self.high = self.ticks[0], self.ticks[-1]
        self.start, self.end = start, end

    def __call__(self, value: float) -> float:
        """The pixel of a value."""
        share = (value - self.low) / (self.high - self.low)
        return self.start + share * (self.end - self.start)


def _round_step(step: float) -> float:
    """The next larger of 1, 2, 2.5 and 5 times a power of ten."""
    power = 10.0 ** math.floor(math.log10(step))
    return next(n * power for n in (1, 2, 2.5, 5, 10) if n * power >= step * (1 - 1e-9))


def _finite(point: tuple[float, float]) -> bool:
    return math.isfinite(point[0]) and math.isfinite(point[1])


def _unbroken(line: Sequence[tuple[float, float]]) -> list[list[tuple[float, float]]]:
    pieces: list[list[tuple[float, float]]] = [[]]
    for point in line:
        if _finite(point):
            pieces[-1].append(point)
        elif pieces[-1]:
            pieces.append([])
    return [piece for piece in pieces if piece]


def _frame(x_axis: Axis | None, y_axis: Axis, x_label: str, y_label: str) -> Html:
    marks: list[Html] = []
    for tick in y_axis.ticks:
        y = y_axis(tick)
        marks.append(
            element("line", x1=LEFT, x2=WIDTH - RIGHT, y1=f"{y:.1f}", y2=f"{y:.1f}", class_="grid")
        )
        marks.append(_text(_tick(tick), LEFT - 7, y + 4, "end"))
    for tick in x_axis.ticks if x_axis else ():
        marks.append(_text(_tick(tick), x_axis(tick) if x_axis else 0, HEIGHT - BOTTOM + 17))
    floor = HEIGHT - BOTTOM
    marks.append(element("line", x1=LEFT, x2=WIDTH - RIGHT, y1=floor, y2=floor, class_="axis"))
    marks.append(_text(x_label, (LEFT + WIDTH - RIGHT) / 2, HEIGHT - 8))
    middle = (TOP + floor) / 2
    marks.append(
        element(
            "text",
            y_label,
            x=17,
            y=f"{middle:.1f}",
            text_anchor="middle",
            transform=f"rotate(-90 17 {middle:.1f})",
        )
    )
    return join(marks)


def _tick(value: float) -> str:
    return "0" if abs(value) < 1e-12 else show(round(float(value), 10))


def _text(text: str, x: float, y: float, anchor: str = "middle") -> Html:
    return element("text", text, x=f"{x:.1f}", y=f"{y:.1f}", text_anchor=anchor)


def _nothing() -> Html:
    return _text("no data", WIDTH / 2, HEIGHT / 2)


def _figure(title: str, marks: Html, names: tuple[str, ...]) -> Html:
    legend = [
        element("li", element("span", class_=f"swatch c{n % COLOURS}"), name)
        for n, name in enumerate(names)
    ]
    return element(
        "figure",
        element("figcaption", title),
        element("svg", marks, viewBox=f"0 0 {WIDTH} {HEIGHT}", role="img", aria_label=title),
        element("ul", join(legend), class_="legend") if len(legend) > 1 else None,
        class_="plot",
    )
