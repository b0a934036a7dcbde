"""Pages opened in a real browser, as files and without network: on a desk, on a phone, at night."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from io import StringIO
from pathlib import Path

import pytest
from browser import PHONE, WIDE, Browser, browsing
from browser_pages import PAIRS, SINGLES, evaluated, judged, sampled
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("browser")]

PAGES = ("judged", "evaluated", "sampled")
ENOUGH = 4.5
"""The contrast that WCAG 2 asks of text at level AA."""

RIGHT = {1, 4, 5, 10, 11, 12, 14, 16}
EVERY = set(range(PAIRS + SINGLES))


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with browsing() as found:
        yield found


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Pages by name, as files of their own: nothing that they were made of lies beside them."""
    made = tmp_path_factory.mktemp("pages")
    with pytest.MonkeyPatch.context() as patch, _printed() as printed:
        found = {
            "judged": judged(tmp_path_factory.mktemp("judged"), patch),
            "evaluated": evaluated(tmp_path_factory.mktemp("evaluated"), patch, printed),
            "sampled": sampled(tmp_path_factory.mktemp("sampled")),
        }
    return {name: page.rename(made / page.name) for name, page in found.items()}


@contextmanager
def _printed() -> Iterator[Callable[[], str]]:
    """What is printed in the block is taken away by the call that it gets."""
    said = StringIO()

    def taken() -> str:
        text = said.getvalue()
        said.seek(0)
        said.truncate()
        return text

    with redirect_stdout(said):
        yield taken


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("size", [WIDE, PHONE], ids=["wide", "phone"])
@pytest.mark.parametrize("name", PAGES)
def test_a_page_is_whole_readable_and_asks_for_nothing(
    browser: Browser, pages: dict[str, Path], name: str, size: tuple[int, int], dark: bool
) -> None:
    browser.open(pages[name], size, dark)
    shown = browser.pictures()
    assert all(wide > 0 for wide in shown) and bool(shown) == (name != "evaluated")
    assert browser.sideways() <= size[0]
    assert browser.outside() == [] and browser.crowded() == []
    contrasts = browser.contrasts()
    assert len(contrasts) > 100 and contrasts[0][0] >= ENOUGH, contrasts[:5]
    browser.run("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
    assert browser.sideways() <= size[0]
    assert browser.complaints() == []
    asked = [url for url in browser.asked_for() if not url.startswith("data:")]
    assert asked == [pages[name].resolve().as_uri()]


@pytest.mark.parametrize("name", PAGES)
def test_at_night_the_page_is_dark(browser: Browser, pages: dict[str, Path], name: str) -> None:
    colours = []
    for dark in (False, True):
        browser.open(pages[name], dark=dark)
        seen = "const s = getComputedStyle(document.body); return [s.color, s.backgroundColor];"
        colours.append(browser.run(seen))
    (ink, paper), (ink_at_night, paper_at_night) = colours
    assert brightness(paper) > 0.9 > 0.2 > brightness(ink)
    assert brightness(ink_at_night) > 0.8 > 0.2 > brightness(paper_at_night)


def brightness(colour: str) -> float:
    """The mean of a colour's channels; of rgb(...)."""
    return sum(map(float, colour[4:-1].split(","))) / 3 / 255


def press(browser: Browser, *tags: str) -> None:
    """Choose tags, and none in the other groups."""
    for group in browser.driver.find_elements(By.CSS_SELECTOR, ".choice"):
        buttons = group.find_elements(By.TAG_NAME, "button")
        chosen = [b for b in buttons if b.get_attribute("data-tag") in tags]
        (chosen or buttons)[0].click()


def cards(browser: Browser) -> set[int]:
    """The numbers of the cards that are to be seen."""
    found = browser.driver.find_elements(By.CSS_SELECTOR, ".card")
    shown = [card for card in found if card.is_displayed()]
    count = browser.driver.find_element(By.CSS_SELECTOR, ".filters output").text
    assert count == f"{len(shown)} shown"
    return {int(card.find_element(By.CSS_SELECTOR, ".name").text[1:]) for card in shown}


@pytest.mark.parametrize("size", [WIDE, PHONE], ids=["wide", "phone"])
def test_filters_hide_and_show(
    browser: Browser, pages: dict[str, Path], size: tuple[int, int]
) -> None:
    browser.open(pages["judged"], size)
    assert cards(browser) == EVERY
    pairs = set(range(PAIRS))
    agreeing = {1, 2, 4, 5, 8, 10, 11}
    for tags, expected in (
        (["right"], RIGHT),
        (["wrong"], EVERY - RIGHT),
        (["pairwise"], pairs),
        (["mt-bench", "wrong"], pairs - RIGHT),
        (["unparsed"], {7}),
        (["unparsed", "right"], set()),
        (["orders agree"], agreeing),
        (["orders agree", "wrong"], {2, 8}),
        (["orders differ"], pairs - agreeing),
        (["critic-pointwise"], EVERY - pairs),
        ([], EVERY),
    ):
        press(browser, *tags)
        assert cards(browser) == expected, tags
        pressed = browser.driver.find_elements(By.CSS_SELECTOR, "button[aria-pressed=true]")
        assert {b.get_attribute("data-tag") for b in pressed} >= set(tags)
    search = browser.driver.find_element(By.CSS_SELECTOR, ".filters input")
    search.send_keys("DESCRIBE 14")
    assert cards(browser) == {14}
    press(browser, "wrong")
    assert cards(browser) == set()
    search.send_keys(Keys.CONTROL, "a")
    search.send_keys(Keys.DELETE)
    assert cards(browser) == EVERY - RIGHT
    assert browser.complaints() == []


def test_a_table_sorts_by_the_column_that_is_pressed(
    browser: Browser, pages: dict[str, Path]
) -> None:
    browser.open(pages["evaluated"])
    table = next(
        found
        for found in browser.driver.find_elements(By.CSS_SELECTOR, "table.sortable")
        if "win rate" in found.text
    )

    def column(place: int) -> list[str]:
        return [row[place] for row in browser.run(_ROWS, table)]

    heads = table.find_elements(By.CSS_SELECTOR, "th button")
    names = [head.text for head in heads]
    best_first = column(0)
    assert set(best_first) == {"anchor", *(f"model-{n}" for n in range(4))}
    score = names.index("score")
    values = [float(text) for text in column(score)]
    assert values == sorted(values, reverse=True) and len(set(values)) == len(values)
    heads[score].click()
    assert column(0) == best_first[::-1]
    heads[score].click()
    assert column(0) == best_first
    heads[0].click()
    assert column(0) == sorted(best_first)
    assert browser.complaints() == []


_ROWS = """
return Array.from(arguments[0].tBodies[0].rows, (r) => Array.from(r.cells, (c) => c.innerText))
"""


def test_the_browser_sees_what_is_wrong(browser: Browser, tmp_path: Path) -> None:
    """The checks above can fail: each finds its fault on a page that has them all."""
    page = tmp_path / "wrong.html"
    page.write_text(
        "<!doctype html><meta name=viewport content='width=device-width'><body>"
        "<img src='https://example.org/a.png'><p style='color: #aaa'>pale</p>"
        "<div style='width: 600px'>wide</div>"
        "<div style='width: 90px; overflow: hidden; white-space: nowrap'>cut off, it seems</div>"
        "<svg viewBox='0 0 100 50'><text x=20 y=30>one</text><text x=25 y=30>two</text>"
        "<text x=90 y=40>three</text></svg>"
        "<img src='data:image/png;base64,AAAA'><script>fault()</script>"
    )
    browser.open(page, PHONE)
    assert 0 in browser.pictures()
    assert browser.sideways() > PHONE[0]
    outside = " ".join(browser.outside())
    assert "wide" in outside and "cut off" in outside and "pale" not in outside
    crowded = " ".join(browser.crowded())
    assert "one on two" in crowded and "three sticks out" in crowded
    (least, said), *_ = browser.contrasts()
    assert said == "pale" and 2.3 < least < 2.4  # #aaa on white: 2.32
    assert any("fault" in line for line in browser.complaints())
    assert "https://example.org/a.png" in browser.asked_for()


def test_without_a_browser_the_packages_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(pytest.fail.Exception, match="install chromium chromium-driver"), browsing():
        pass
