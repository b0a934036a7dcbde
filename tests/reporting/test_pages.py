"""The HTML kit: what is on a page, and that hostile text on it stays text."""

import base64
import hashlib
import io
import os
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from critic_jax.files import write_atomically
from critic_jax.reporting import (
    Card,
    Html,
    Page,
    Ruling,
    bar_plot,
    card,
    deck,
    element,
    escape,
    facts,
    histogram,
    line_plot,
    paragraph,
    section,
    table,
)
from critic_jax.reporting.cards import thumbnail
from critic_jax.reporting.html import join
from critic_jax.reporting.plots import Axis
from critic_jax.reporting.tables import show

HOSTILE = (
    "<script>alert(1)</script>",
    "\"'><img src=x onerror=alert(1)>",
    "</script></style></title></textarea>-->",
    "nul \x00 bell \x07 half \ud800 \ufffe",
    "W" * 400,
    "\u202eright to left",
    "שלום & <b>",
    "&lt;i&gt; {x} %s",
)

_VOID = {"br", "img", "input", "link", "meta"}


class Outline(HTMLParser):
    """Every element with its attributes, every text; fails on tags that do not nest."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.open: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in _VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] not in ("script", "style"):
            self.texts.append(data)

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]

    @property
    def text(self) -> str:
        return "".join(self.texts)


def picture(mode: str = "RGB", size: tuple[int, int] = (40, 30)) -> Image.Image:
    noise = np.random.default_rng(0).integers(0, 255, (size[1], size[0], 3), dtype=np.uint8)
    return Image.fromarray(noise).convert(mode)


def a_card(text: str = "text") -> Card:
    return Card(
        picture=picture(),
        question=text,
        answers=((text, text), ("B", text)),
        rulings=(Ruling(text, text, text, True, text), Ruling(text, text, text, None, text)),
        truth=text,
        best=0,
        tags=(text, "right"),
        name=text,
    )


def hostile_page() -> Page:
    page = Page(HOSTILE[2] + HOSTILE[0], HOSTILE[3])
    page.add(*HOSTILE)
    page.add(section(HOSTILE[0], table(HOSTILE[:2], [HOSTILE[:2]], caption=HOSTILE[4])))
    page.add(facts([(HOSTILE[0], HOSTILE[1], HOSTILE[2])]))
    page.add(line_plot({text: [(0, 1), (1, 2)] for text in HOSTILE}, *HOSTILE[:3]))
    page.add(bar_plot(HOSTILE, {HOSTILE[0]: [1.0] * len(HOSTILE)}, *HOSTILE[1:4]))
    page.add(deck([a_card(text) for text in HOSTILE], [HOSTILE]))
    return page


def test_hostile_text_stays_text_everywhere() -> None:
    rendered = hostile_page().render()
    outline = Outline(rendered)
    # The page's own script and the cards' pictures, and nothing else of the kind.
    assert len(outline.all("script")) == 1 and len(outline.all("b")) == 3 * len(HOSTILE)
    assert len(outline.all("img")) == len(HOSTILE)
    assert all((image["src"] or "").startswith("data:image/") for image in outline.all("img"))
    for _, attributes in outline.elements:
        assert not [name for name in attributes if name.startswith("on") or name == "style"]
    assert not outline.all("i") and not outline.all("textarea")
    for text in HOSTILE:
        seen = re.sub("[\x00\x07\ud800\ufffe]", "\ufffd", text)
        assert outline.text.count(seen) >= 8
    assert not re.search("[\x00-\x08\x0b-\x1f\ud800-\udfff\ufffe]", rendered)
    rendered.encode("utf-8")


def test_a_page_needs_nothing_else_and_allows_nothing_else() -> None:
    rendered = hostile_page().render()
    outline = Outline(rendered)
    assert rendered.startswith('<!doctype html>\n<html lang="en">')
    assert not re.search(r"(src|href|action)=\"(?!data:)", rendered)
    assert "@import" not in rendered and "url(" not in rendered and "http:" not in rendered
    assert "https:" not in rendered
    policy = next(m["content"] for m in outline.all("meta") if "content" in m and "http-equiv" in m)
    assert policy is not None and policy.startswith("default-src 'none'; img-src data:;")
    # The browser runs only a script and a style whose hash stands in the policy.
    for tag in ("style", "script"):
        inner = re.findall(f"<{tag}>(.*?)</{tag}>", rendered, flags=re.S)
        assert len(inner) == 1
        digest = base64.b64encode(hashlib.sha256(inner[0].encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in policy
    names = {m.get("name"): m.get("content") for m in outline.all("meta")}
    assert names["viewport"] == "width=device-width, initial-scale=1"
    assert "prefers-color-scheme: dark" in rendered


def test_elements_escape_children_and_attributes() -> None:
    assert element("p", 'a<"', class_="x", data_tag="'&", hidden=True, id=None, lang=False) == (
        '<p class="x" data-tag="&#x27;&amp;" hidden>a&lt;&quot;</p>'
    )
    assert element("img", src="data:,") == '<img src="data:,">'
    assert element("p", Html("<b>x</b>"), None, 3) == "<p><b>x</b>3</p>"
    assert element("p", title=Html('<b title="x">')) == (
        '<p title="&lt;b title=&quot;x&quot;&gt;"></p>'
    )
    assert escape(Html("<b>")) == "<b>" and escape("<b>") == "&lt;b&gt;"
    assert join(["<", Html("<br>")]) == "&lt;<br>"


def test_a_table_sorts_numbers_by_value_and_says_what_is_wrong() -> None:
    text = table(["name", "n"], [["a", 1200], ["b", 0.5], ["c", None]])
    outline = Outline(text)
    cells = outline.all("td")
    assert [c.get("data-sort") for c in cells] == [None, "1200.0", None, "0.5", None, None]
    assert [c.get("class") for c in cells] == [None, "number"] * 3
    assert outline.texts == ["name", "n", "a", "1,200", "b", "0.5", "c", "–"]
    assert Outline(table(["x"], [[True], [2]])).all("td")[0] == {}
    with pytest.raises(ValueError, match="row 1 has 1 cells, but 2 columns"):
        table(["a", "b"], [[1, 2], [3]])


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (None, "–"),
        (True, "yes"),
        (1034240, "1,034,240"),
        (0.97754, "0.9775"),
        (0.0, "0"),
        (1.0, "1"),
        (100.0, "100"),
        (231.44, "231.4"),
        (12345.6, "12,346"),
        (2e-6, "2e-06"),
        (float("nan"), "nan"),
        ("text", "text"),
    ],
)
def test_values_are_shown_short(value: object, shown: str) -> None:
    assert show(value) == shown


def test_a_card_shows_all_it_holds() -> None:
    outline = Outline(
        card(
            Card(
                picture=picture(),
                question="Which digit?",
                answers=(("A", "It is a 7."), ("B", "A 1.")),
                rulings=(
                    Ruling("A is better", "Shows a 7.", "raw one", True, "A first"),
                    Ruling("B is better", "Shows a 1.", "raw two", False, "B first"),
                ),
                truth="A",
                best=0,
                tags=("wrong", "pairwise"),
                name="pair-000",
            )
        )
    )
    for text in (
        "pair-000",
        "Which digit?",
        "It is a 7.",
        "A 1.",
        "✓ A is better",
        "✗ B is better",
    ):
        assert text in outline.texts
    assert {"raw one", "raw two", "Shows a 7.", "Shows a 1."} < set(outline.texts)
    assert outline.all("article") == [{"class": "card", "data-tags": '["wrong", "pairwise"]'}]
    divs = [d.get("class") for d in outline.all("div")]
    assert divs.count("answer best") == divs.count("answer") == 1
    assert divs.count("ruling right") == divs.count("ruling wrong") == 1
    assert len(outline.all("details")) == 2
    plain = Outline(card(Card(None, "Q", (("Answer", "a"),), (Ruling("Score 3"),))))
    assert not plain.all("img") and not plain.all("details")
    assert "Score 3" in plain.texts and "True verdict: " not in plain.texts


def test_a_deck_offers_its_filters_only_to_scripts() -> None:
    outline = Outline(deck([a_card(), a_card()], [["right", "wrong"], ["pairwise"]]))
    bar = next(d for d in outline.all("div") if d.get("class") == "filters")
    assert "hidden" in bar
    assert [b["data-tag"] for b in outline.all("button")] == ["", "right", "wrong", "", "pairwise"]
    assert [b["aria-pressed"] for b in outline.all("button")] == [
        "true",
        "false",
        "false",
        "true",
        "false",
    ]
    assert "2 shown" in outline.texts
    assert not any("hidden" in article for article in outline.all("article"))


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "RGBA", "CMYK", "I;16", "LA"])
def test_thumbnails_take_any_mode_and_shrink(mode: str, tmp_path: Path) -> None:
    image = picture("L" if mode == "I;16" else mode, (500, 250))
    if mode == "I;16":
        image = Image.fromarray(np.asarray(image).astype(np.uint16) * 257)
    uri = thumbnail(image)
    assert uri is not None
    kind, _, data = uri.removeprefix("data:image/").partition(";base64,")
    shrunk = Image.open(io.BytesIO(base64.b64decode(data)))
    assert (shrunk.size, shrunk.format) == ((384, 192), kind.upper())
    assert image.size == (500, 250)


def test_thumbnails_of_files_bytes_and_rubbish(tmp_path: Path) -> None:
    path = tmp_path / "small.png"
    picture("L", (8, 8)).save(path)
    assert thumbnail(path) == thumbnail(path.read_bytes()) == thumbnail(picture("L", (8, 8)))
    for wrong in (b"", b"junk", path.read_bytes()[:60], tmp_path / "missing.png", tmp_path):
        assert thumbnail(wrong) is None
    text = card(replace(a_card(), picture=b"junk"))
    assert "This picture cannot be read." in text and "<img" not in text
    turned = picture("RGB", (20, 10))
    exif = turned.getexif()
    exif[0x0112] = 6
    turned.save(tmp_path / "turned.jpg", exif=exif)
    uri = thumbnail(tmp_path / "turned.jpg")
    assert uri is not None
    upright = Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2])))
    assert upright.size == (10, 20)


@pytest.mark.parametrize(
    ("values", "ticks"),
    [
        ([0, 10], [0, 2, 4, 6, 8, 10]),
        ([0.0, 0.97], [0, 0.2, 0.4, 0.6, 0.8, 1.0]),
        ([-3, 3], [-4, -2, 0, 2, 4]),
        ([5], [2, 3, 4, 5, 6, 7, 8]),
        ([0], [-1, -0.5, 0, 0.5, 1]),
        ([1e9, 1.1e9], [1e9, 1.02e9, 1.04e9, 1.06e9, 1.08e9, 1.1e9]),
    ],
)
def test_axis_ticks_are_round_and_enclose(values: list[float], ticks: list[float]) -> None:
    axis = Axis(values, 50, 450)
    assert axis.ticks == pytest.approx(ticks)
    assert axis(axis.low) == 50 and axis(axis.high) == 450
    assert axis.low <= min(values) and max(values) <= axis.high


def test_line_plot_draws_to_scale_and_breaks_at_gaps() -> None:
    nan = float("nan")
    text = line_plot(
        {"loss": [(0, 10), (5, 5), (6, nan), (8, 2), (10, 0)], "gone": [(3, nan)]}, "t", "x", "y"
    )
    outline = Outline(text)
    lines = [p["points"] for p in outline.all("polyline")]
    # x 0..10 spans 56..506, y 0..10 spans 254..12.
    assert lines == ["56.0,12.0 281.0,133.0", "416.0,205.6 506.0,254.0"]
    assert len(outline.all("circle")) == 4
    assert {"loss", "gone", "x", "y", "10"} <= set(outline.texts)
    assert outline.all("svg")[0]["aria-label"] == "t"
    assert "no data" in line_plot({"a": [(nan, 1)]}, "t", "x", "y")
    assert "no data" in line_plot({}, "t", "x", "y")
    many = line_plot({"a": [(n, n) for n in range(100)]}, "t", "x", "y")
    assert "<circle" not in many


def test_bars_stand_on_zero() -> None:
    outline = Outline(bar_plot(["p", "q"], {"s": [2, -1], "t": [float("nan"), 1]}, "t", "x", "y"))
    bars = outline.all("rect")
    assert len(bars) == 3
    heights = [float(bar["height"] or 0) for bar in bars]
    assert (
        heights[0]
        == pytest.approx(2 * heights[1], abs=0.2)
        == pytest.approx(2 * heights[2], abs=0.2)
    )
    floor = float(bars[0]["y"] or 0) + heights[0]
    assert float(bars[1]["y"] or 0) == pytest.approx(floor, abs=0.2)
    assert "p, s: 2" in outline.texts and "q, s: -1" in outline.texts
    with pytest.raises(ValueError, match="s has 1 values for 2 labels"):
        bar_plot(["p", "q"], {"s": [1]}, "t", "x", "y")


def test_histogram_counts_everything_once() -> None:
    few = Outline(histogram({"true": [0, 20, 20, 100], "given": [20, 20]}, "t", "x", "y"))
    assert {"0, true: 1", "20, true: 2", "100, true: 1", "20, given: 2"} < set(few.texts)
    values = [n / 10 for n in range(1000)] + [float("inf")]
    many = histogram({"v": values}, "t", "x", "y", bins=7)
    counts = [int(n) for n in re.findall(r", v: (\d+)<", many)]
    assert len(counts) == 7 and sum(counts) == 1000 and max(counts) - min(counts) <= 1
    assert "no data" in histogram({}, "t", "x", "y")


def test_writing_is_all_or_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = Page("One")
    page.add("words", paragraph("more"))
    path = page.write(tmp_path / "new" / "report.html")
    assert path.read_text(encoding="utf-8") == page.render()
    assert '<p dir="auto">words</p><p dir="auto">more</p>' in page.render()

    def fails(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(os, "replace", fails)
    with pytest.raises(OSError, match="disk full"):
        write_atomically(path, "half")
    assert path.read_text(encoding="utf-8") == page.render()
    assert [p.name for p in path.parent.iterdir()] == ["report.html"]
