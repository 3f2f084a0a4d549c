"""Drives the Activations tab in headless Chromium.

with serve("logs") as url:
    tab = ActivationsTab(browser, url)
    tab.open(page="layer", layer="hidden")
    tab.lines("Zeros and dead units")
"""

import contextlib
import json
import urllib.parse
import urllib.request
from collections.abc import Callable
from typing import Any

from playwright.sync_api import Browser, ConsoleMessage, Frame, Locator

# TensorBoard itself says so, with whatever tab is open.
TENSORBOARDS_OWN = "Multiple instances of Three.js"
SECONDS = 60

# Lines of the charts of a panel, one list a training.
_LINES = """async title => {
  const { getInstanceByDom } = await import(
    new URL("./echarts.js", document.baseURI));
  const panel = document.querySelector(
    `section[aria-label="${title}"]`);
  return [...panel.querySelectorAll(".chart")].map(element => {
    const option = getInstanceByDom(element).getOption();
    return {
      steps: option.xAxis[0].data,
      range: [option.yAxis[0].min, option.yAxis[0].max],
      log: option.yAxis[0].type === "log",
      lines: Object.fromEntries(option.series.map(s => [s.name, s.data])),
    };
  });
}"""
_PIXEL = """async ([title, kind, index, value]) => {
  const { getInstanceByDom } = await import(
    new URL("./echarts.js", document.baseURI));
  const element = document.querySelectorAll(
    `section[aria-label="${title}"] .chart`)[index];
  return getInstanceByDom(element).convertToPixel(kind, value);
}"""
# What the maps of a panel show: labels, steps, values, marks.
_MAPS = """([part, of]) => {
  const found = document.querySelector(".page").parts[part];
  const maps = typeof found[of] === "function" ? found[of]() : [found[of]];
  return maps.map(map => {
    const content = map.content();
    const { labels, steps, values, marks } = content;
    return {
      labels, steps,
      values: values.map(row => [...row].map(v =>
        Number.isFinite(v) || v === null ? v : String(v))),
      marks: marks ? labels.map((_, r) => steps.map((_, c) => marks(r, c)))
                   : null,
      range: [content.scale.low, content.scale.high],
    };
  });
}"""
_RECT = """([part, of, row, column]) => {
  const found = document.querySelector(".page").parts[part];
  const map = typeof found[of] === "function" ? found[of]()[0] : found[of];
  return map.rectOf(row, column);
}"""
# The heat maps draw in the frames after they got their size, charts too.
_IS_DRAWN = """() => new Promise(resolve => {
  const isDrawn = () => [...document.querySelectorAll(".chart")].every(
    e => !e.clientWidth || e.hasAttribute("_echarts_instance_"));
  requestAnimationFrame(() => requestAnimationFrame(
    () => resolve(isDrawn())));
})"""


class ActivationsTab:
    """One browser page with the tab open.

    Args:
        browser: A browser of Playwright.
        url: Address of the TensorBoard server.
        size: Width and height of the window.
    """

    def __init__(
        self, browser: Browser, url: str, size: tuple[int, int] = (1400, 1000)
    ):
        self.page = browser.new_page(
            viewport={"width": size[0], "height": size[1]}
        )
        self.page.set_default_timeout(1000 * SECONDS)
        self.url = url
        self.said: list[str] = []
        self.page.on("console", self._hear)
        self.page.on("pageerror", lambda error: self.said.append(str(error)))

    def _hear(self, message: ConsoleMessage) -> None:
        if TENSORBOARDS_OWN not in message.text:
            self.said.append(f"{message.type}: {message.text}")

    def check_console(self) -> None:
        """Whatever the console has said fails the test."""
        said, self.said = self.said, []
        assert said == []

    def close(self) -> None:
        """Close the page, and check the console."""
        self.page.close()
        self.check_console()

    def address(self, **state: Any) -> str:
        """The deep link to a state."""
        parts = "".join(
            f"&p.keras_actpen.{key}={urllib.parse.quote(str(value), safe='')}"
            for key, value in state.items()
        )
        return f"{self.url}#keras_actpen{parts}"

    def open(self, **state: Any) -> None:
        """Open a deep link, and wait until it is drawn."""
        self.page.goto("about:blank")
        self.page.goto(self.address(**state))
        self.ready()

    @property
    def frame(self) -> Frame:
        """The frame of the tab."""
        return next(f for f in self.page.frames if "plugin_entry" in f.url)

    def ready(self) -> None:
        """Wait until the page is drawn."""
        self.until(
            lambda: any("plugin_entry" in f.url for f in self.page.frames)
        )
        self.frame.wait_for_selector("main section.panel")
        self.frame.wait_for_selector(".loading", state="detached")
        self.until(lambda: self.frame.evaluate(_IS_DRAWN))

    def until(self, holds: Callable[[], Any]) -> None:
        """Wait until something holds."""
        for _ in range(10 * SECONDS):
            if holds():
                return
            self.page.wait_for_timeout(100)
        raise AssertionError(f"It did not come true within {SECONDS} seconds.")

    def expect(self, read: Callable[[], Any], expected: Any) -> None:
        """Wait until something is what it should be; a difference fails."""
        with contextlib.suppress(AssertionError):
            self.until(lambda: read() == expected)
        assert read() == expected

    def panel(self, title: str) -> Locator:
        """A panel by its title."""
        return self.frame.locator(f'section[aria-label="{title}"]')

    def text(self, selector: str = "main") -> str:
        """What can be read."""
        return self.frame.locator(selector).inner_text()

    def state(self) -> dict[str, str]:
        """What the address holds."""
        parts = urllib.parse.urlsplit(self.page.url).fragment.split("&")
        pairs = [part.split("=", 1) for part in parts if "=" in part]
        return {
            key.removeprefix("p.keras_actpen."): urllib.parse.unquote(value)
            for key, value in pairs
        }

    def lines(self, title: str) -> list[dict[str, Any]]:
        """Steps and lines of the charts of a panel, one a training."""
        return self.frame.evaluate(_LINES, title)

    def maps(self, part: str, of: str = "maps") -> list[dict[str, Any]]:
        """What heat maps show, one a training."""
        return self.frame.evaluate(_MAPS, [part, of])

    def point_in(
        self, title: str, kind: str, value: Any, index: int = 0
    ) -> tuple[float, float]:
        """Where a value is in the window, in the chart of a panel."""
        chart = self.panel(title).locator(".chart").nth(index)
        chart.scroll_into_view_if_needed()
        x, y = self.frame.evaluate(_PIXEL, [title, kind, index, value])
        box = chart.bounding_box()
        return box["x"] + x, box["y"] + y

    def cell(
        self, title: str, part: str, of: str, row: int, column: int
    ) -> tuple[float, float]:
        """Where the middle of a cell is in the window."""
        canvas = self.panel(title).locator("canvas").first
        canvas.scroll_into_view_if_needed()
        rect = self.frame.evaluate(_RECT, [part, of, row, column])
        box = canvas.bounding_box()
        return (
            box["x"] + rect["x"] + rect["width"] / 2,
            box["y"] + rect["y"] + rect["height"] / 2,
        )

    def scalars(self, run: str, tag: str) -> list[float]:
        """Values of a curve as TensorBoard's own Scalars page gets them."""
        query = urllib.parse.urlencode({"run": run, "tag": tag})
        address = f"{self.url}data/plugin/scalars/scalars?{query}"
        with urllib.request.urlopen(address) as response:
            return [row[2] for row in json.load(response)]
