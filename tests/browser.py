"""A real Chromium, headless and without network, driven by selenium: what a reader of a page sees.

Debian's packages bring it: chromium and chromium-driver.
"""

from __future__ import annotations

import base64
import json
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from selenium.webdriver import Chrome, ChromeOptions
from selenium.webdriver.chrome.service import Service

FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-quic",
    "--hide-scrollbars",
    # No name leads anywhere: a page that asked for something would not get it.
    "--host-resolver-rules=MAP * ~NOTFOUND",
)
WIDE, PHONE = (1280, 900), (375, 812)

# Of every element that holds text of its own: what it says, its colour and what is behind it.
_TEXTS = """
const found = [], layers = (of) => {
  const stack = [];
  for (let e = of; e; e = e.parentElement) stack.push(getComputedStyle(e).backgroundColor);
  return stack;
};
for (const e of document.querySelectorAll("body *")) {
  const own = Array.from(e.childNodes).filter((n) => n.nodeType === 3).map((n) => n.data).join("");
  const box = e.getBoundingClientRect(), style = getComputedStyle(e);
  if (!own.trim() || !box.width || ["SCRIPT", "STYLE", "TITLE", "title"].includes(e.tagName)) {
    continue;
  }
  const ink = e instanceof SVGElement ? style.fill : style.color;
  found.push([own.trim().slice(0, 60), ink, layers(e)]);
}
for (const e of document.querySelectorAll("[placeholder]")) {
  if (!e.getBoundingClientRect().width) continue;
  found.push([e.placeholder, getComputedStyle(e, "::placeholder").color, layers(e)]);
}
return found;
"""
# What sticks out to the right of the screen, or out of a box that hides what does not fit into it.
# A table's own box scrolls.
_OUTSIDE = """
const out = [], wide = document.documentElement.clientWidth;
for (const e of document.querySelectorAll("body *")) {
  if (e.closest(".scroll, .sr, svg") && !e.matches(".scroll, svg")) continue;
  const box = e.getBoundingClientRect(), style = getComputedStyle(e);
  const cut = style.overflowX === "hidden" && e.scrollWidth > e.clientWidth + 1;
  if (box.width && (box.right > wide + 0.5 || box.left < -0.5 || cut)) {
    out.push(`${e.tagName}.${e.className}: ${e.textContent.slice(0, 40)}`);
  }
}
return out;
"""
# Words of a plot that lie on each other, or stick out of it.
_CROWDED = """
const found = [];
for (const plot of document.querySelectorAll("svg")) {
  const frame = plot.getBoundingClientRect();
  const texts = Array.from(plot.querySelectorAll("text")).filter((t) => t.textContent);
  const boxes = texts.map((t) => [t.textContent, t.getBoundingClientRect()]);
  boxes.forEach(([said, a], place) => {
    if (a.left < frame.left - 1 || a.right > frame.right + 1 || a.bottom > frame.bottom + 1) {
      found.push(`${plot.ariaLabel}: ${said} sticks out`);
    }
    for (const [other, b] of boxes.slice(place + 1)) {
      const across = Math.min(a.right, b.right) - Math.max(a.left, b.left);
      const down = Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top);
      if (across > 1 && down > 3) found.push(`${plot.ariaLabel}: ${said} on ${other}`);
    }
  });
}
return found;
"""
_PICTURES = """
const done = arguments[0], all = Array.from(document.images);
for (const one of all) one.loading = "eager";
Promise.allSettled(all.map((one) => one.decode())).then(() => done(all.map((i) => i.naturalWidth)));
"""

Rgb = tuple[float, float, float]


class Browser:
    """One window. `open` a page; `clear` tells whether anything went wrong on it since."""

    def __init__(self, driver: Chrome) -> None:
        self.driver = driver

    def open(self, page: Path, size: tuple[int, int] = WIDE, dark: bool = False) -> None:
        """Show a file on a screen of so many pixels, in one of both colour schemes."""
        width, height = size
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1}
        phone = {"mobile": size == PHONE}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", {**metrics, **phone})
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})
        self.asked_for(), self.complaints()  # about an earlier page
        self.driver.get(page.resolve().as_uri())

    def run(self, script: str, *arguments: Any) -> Any:
        """What JavaScript returns."""
        return self.driver.execute_script(script, *arguments)

    def asked_for(self) -> list[str]:
        """The address of everything that was asked for since the last call."""
        events = [json.loads(entry["message"])["message"] for entry in self._log("performance")]
        named = "Network.requestWillBeSent"
        return [e["params"]["request"]["url"] for e in events if e["method"] == named]

    def complaints(self) -> list[str]:
        """What the console says since the last call: errors, and what the page's policy forbade."""
        return [entry["message"] for entry in self._log("browser")]

    def _log(self, kind: str) -> list[dict[str, Any]]:
        return self.driver.get_log(kind)

    def pictures(self) -> list[int]:
        """How many pixels wide each picture is, those further down too; 0 for one without."""
        return list(self.driver.execute_async_script(_PICTURES))

    def sideways(self) -> int:
        """How wide the page is, whatever the screen shows of it."""
        return int(self.run("return document.scrollingElement.scrollWidth"))

    def outside(self) -> list[str]:
        """What is not to be seen without scrolling sideways, or not at all."""
        return list(self.run(_OUTSIDE))

    def crowded(self) -> list[str]:
        """Words of plots that cannot be read for others, or stick out."""
        return list(self.run(_CROWDED))

    def contrasts(self) -> list[tuple[float, str]]:
        """The contrast of every text with what is behind it (WCAG 2, 1.4.3), the lowest first."""
        texts = self.run(_TEXTS)
        return sorted((_contrast(ink, layers), said) for said, ink, layers in texts)

    def shoot(self, path: Path) -> None:
        """A picture of the whole page, for a person to look at."""
        told = self.driver.execute_cdp_cmd("Page.getLayoutMetrics", {})["cssContentSize"]
        # What is not on the screen is not drawn; so the screen is made as tall as the page.
        screen = {"width": round(told["width"]), "height": round(told["height"]) + 2000}
        metrics = {**screen, "deviceScaleFactor": 1, "mobile": False}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
        self.run("window.scrollTo(0, 1); window.scrollTo(0, 0)")
        data = self.driver.execute_cdp_cmd("Page.captureScreenshot", {})["data"]
        path.write_bytes(base64.b64decode(data))


@contextmanager
def browsing() -> Iterator[Browser]:
    """A browser while the block lasts. Fails the test where there is none."""
    programs = [shutil.which(name) for name in ("chromium", "chromedriver")]
    if None in programs:
        pytest.fail("no chromium or chromedriver: apt-get install chromium chromium-driver")
    options = ChromeOptions()
    options.binary_location = programs[0]
    options.set_capability("goog:loggingPrefs", {"performance": "ALL", "browser": "ALL"})
    with tempfile.TemporaryDirectory() as profile:
        for flag in (*FLAGS, f"--user-data-dir={profile}"):
            options.add_argument(flag)
        driver = Chrome(options=options, service=Service(programs[1]))
        try:
            driver.get("about:blank")
            browser = Browser(driver)
            browser.asked_for()  # by the window's own first page
            yield browser
        finally:
            driver.quit()


def _contrast(ink: str, layers: Sequence[str]) -> float:
    behind: Rgb = (255.0, 255.0, 255.0)
    for layer in reversed(layers):
        behind = _over(layer, behind)
    bright, dim = sorted((_luminance(_over(ink, behind)), _luminance(behind)), reverse=True)
    return (bright + 0.05) / (dim + 0.05)


def _over(colour: str, behind: Rgb) -> Rgb:
    """A computed colour, rgb(...) or rgba(...), on top of another."""
    numbers = [float(n) for n in colour[colour.index("(") + 1 : -1].split(",")]
    alpha = numbers[3] if len(numbers) > 3 else 1.0
    red, green, blue = (
        alpha * n + (1 - alpha) * b for n, b in zip(numbers[:3], behind, strict=True)
    )
    return red, green, blue


def _luminance(colour: Rgb) -> float:
    """Relative luminance as WCAG 2 defines it."""
    linear = [
        c / 255 / 12.92 if c / 255 <= 0.04045 else ((c / 255 + 0.055) / 1.055) ** 2.4
        for c in colour
    ]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
