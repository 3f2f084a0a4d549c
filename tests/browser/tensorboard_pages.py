"""Reads what TensorBoard's pages really draw, in headless Chromium.

    with serve("logs", runs=["actpen/train"]) as url, chromium() as browser:
        pages = TensorBoardPages(browser, url)
        pages.scalars(["penalty/dense_4/l2"])
        pages.save_screenshot("scalars.png")

Playwright's CSS selectors pierce the shadow roots of TensorBoard's elements.
"""

import contextlib
import io
import json
import os
import re
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any

import numpy as np
import PIL.Image
from playwright.sync_api import Browser, Page, sync_playwright

from keras_actpen.demo import server

CHROMIUM = "/usr/bin/chromium"
CHROMIUM_ARGUMENTS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
# Cards outside the viewport are not drawn, so it is tall.
VIEWPORT = {"width": 1400, "height": 3000}
START_SECONDS = 60
# TensorBoard shows no more on a page; further ones are on the next.
CARDS = 12
# Colors this near (Euclidean, of 255) are a run's own color.
COLOR_DISTANCE = 40

# Elements with a length; TensorBoard also keeps empty paths around.
_COUNT_DRAWN = """paths => paths.filter(
    path => path.getTotalLength() > 0).length"""
_READ_LEGEND = """card => [...card.querySelectorAll('.row-circle span')].map(
    circle => [
        circle.closest('tb-data-table-content-row').innerText
            .trim().split('\\n')[0].trim(),
        circle.style.backgroundColor.match(/\\d+/g).map(Number)])"""


class NothingDrawn(AssertionError):
    """A page did not draw what was looked for."""


@contextlib.contextmanager
def serve(
    log_dir: str | os.PathLike[str],
    runs: Collection[str] = (),
    *,
    load_fast: str = "auto",
) -> Iterator[str]:
    """Run a real TensorBoard server.

    Args:
        log_dir: Its log directory.
        runs: Runs that it must have found before it counts as started.
        load_fast: `"true"`, `"false"` or `"auto"`: its fast loader.

    Yields:
        Its address.
    """
    arguments = ("--reload_interval", "1", "--load_fast", load_fast)
    with server.tensorboard_server(log_dir, *arguments) as url:
        _wait_for_runs(url, set(runs))
        yield url


def _wait_for_runs(url: str, runs: set[str]) -> None:
    deadline = time.monotonic() + START_SECONDS
    found: set[str] = set()
    while time.monotonic() < deadline:
        with urllib.request.urlopen(
            f"{url}data/runs", timeout=START_SECONDS
        ) as response:
            found = set(json.load(response))
        if runs <= found:
            return
        time.sleep(0.2)
    raise RuntimeError(
        f"TensorBoard did not find {sorted(runs - found)} within "
        f"{START_SECONDS} seconds."
    )


@contextlib.contextmanager
def chromium() -> Iterator[Browser]:
    """Start headless Chromium; Playwright allows one at a time."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM, args=list(CHROMIUM_ARGUMENTS)
        )
        try:
            yield browser
        finally:
            browser.close()


class TensorBoardPages:
    """The pages of one TensorBoard server, one method a page.

    A method opens its page, waits until all of `wanted` is drawn and nothing
    changes any more, and returns what is drawn of it. If that takes too long
    it raises `NothingDrawn`. Pages that can be filtered by tag are: without a
    filter TensorBoard opens the first two groups only. With one it shows at
    most `CARDS` cards, so `wanted` holds no more tags.

    Args:
        browser: What `chromium` yields.
        url: What `serve` yields.
        timeout: Seconds that a page may take to draw, once it is loaded.
    """

    def __init__(self, browser: Browser, url: str, timeout: float = 20.0):
        self.page: Page = browser.new_page(viewport=VIEWPORT)
        self.page.set_default_timeout(1000 * START_SECONDS)
        self.url = url
        self.timeout = timeout

    def time_series(
        self, wanted: Collection[str], *, overlapping: bool = False
    ) -> dict[str, dict[str, int]]:
        """Pixels by tag and run, in the color that the run has there.

        Every run must have some, unless curves may hide each other.
        """
        query = {"smoothing": 0, "tagFilter": _any_of(wanted)}
        self._open("timeseries", query=query)
        enough = any if overlapping else all
        return self._wait(
            lambda: {
                tag: runs
                for tag, runs in self._read_time_series().items()
                if enough(runs.values())
            },
            wanted,
        )

    def scalars(
        self, wanted: Collection[str], tag_filter: str | None = None
    ) -> dict[str, int]:
        """Lines by tag, one a run.

        `tag_filter` is the regular expression that the page shows; by default
        it finds exactly what is wanted.
        """
        if tag_filter is None:
            tag_filter = _any_of(wanted)
        # ?smoothing=0 is for Time Series only.
        state = {"_smoothingWeight": 0, "tagFilter": tag_filter}
        self._open("scalars", state)
        return self._wait(
            lambda: self._count("tf-scalar-card", "tag", "path.line"), wanted
        )

    def histograms(
        self, wanted: Collection[str], tag_filter: str | None = None
    ) -> dict[str, int]:
        """Outlines by tag, one a step; `tag_filter` as in `scalars`."""
        if tag_filter is None:
            tag_filter = _any_of(wanted)
        self._open("histograms", {"tagFilter": tag_filter})
        return self._wait(
            lambda: self._count(
                "tf-histogram-loader", "tag", ".histogram path"
            ),
            wanted,
        )

    def distributions(self, wanted: Collection[str]) -> dict[str, int]:
        """Bands by tag, of which TensorBoard draws eight."""
        self._open("distributions", {"tagFilter": _any_of(wanted)})
        return self._wait(
            lambda: self._count("tf-distribution-loader", "tag", "path.area"),
            wanted,
        )

    def custom_scalars(self, wanted: Collection[str]) -> dict[str, int]:
        """Lines or bands by chart title, one a run.

        `wanted` holds titles of charts in unfolded categories.
        """
        self._open("custom_scalars", {"_smoothingWeight": 0})
        return self._wait(
            lambda: {
                **self._count(
                    "tf-custom-scalar-multi-line-chart-card",
                    "title",
                    "path.line",
                ),
                **self._count(
                    "tf-custom-scalar-margin-chart-card", "title", "path.area"
                ),
            },
            wanted,
        )

    def images(self, wanted: Collection[str]) -> dict[str, tuple[int, int]]:
        """Width and height of the loaded image by tag."""
        self._open("images", {"tagFilter": _any_of(wanted)})
        return self._wait(self._read_images, wanted)

    def texts(self, wanted: Collection[str]) -> dict[str, list[str]]:
        """Table cells by tag, rendered from Markdown."""
        self._open("text", {"tagFilter": _any_of(wanted)})
        return self._wait(self._read_texts, wanted)

    def hparams(self, wanted: Collection[str]) -> dict[str, list[str]]:
        """Columns of the table: title and cells."""
        self._open("hparams")
        return self._wait(self._read_hparams, wanted)

    def sorted_hparams(
        self, wanted: Collection[str], title: str, direction: str
    ) -> dict[str, list[str]]:
        """Columns of the table, sorted by the one with a title.

        `direction` is `"Ascending"` or `"Descending"`.
        """
        self.hparams(wanted)
        for menu, choice in (("Sort by", title), ("Direction", direction)):
            dropdown = self.page.locator(f"paper-dropdown-menu[label='{menu}']")
            dropdown.click()
            dropdown.locator("paper-item").get_by_text(
                choice, exact=True
            ).click()

        def read() -> dict[str, list[str]]:
            table = self._read_hparams()
            values = [float(cell) for cell in table.get(title, ())]
            falls = direction == "Descending"
            return table if values == sorted(values, reverse=falls) else {}

        return self._wait(read, wanted)

    def open_parallel_coordinates(self) -> None:
        """Go to the HParams page's second tab."""
        self.page.locator("paper-tab").filter(has_text="Parallel").click()
        self.page.wait_for_timeout(1000)

    def choose_scale(self, title: str, scale: str) -> None:
        """Choose `"Linear"`, `"Logarithmic"` or `"Quantile"` for an axis."""
        axis = self.page.locator("div.column:visible").filter(has_text=title)
        axis.locator("paper-radio-button").filter(has_text=scale).click()
        self.page.wait_for_timeout(500)

    def show_outliers(self) -> None:
        """Let the charts of the Scalars page show all of their curves."""
        box = self.page.locator("paper-checkbox:visible")
        box.filter(has_text="Ignore outliers").click()

    def enlarge(self, element: str) -> None:
        """Widen the cards of one kind to the width of the page."""
        for button in self.page.locator(
            f"{element} paper-icon-button[icon=fullscreen]:visible"
        ).all():
            button.click()

    def save_screenshot(
        self,
        path: str | os.PathLike[str],
        width: int = 1400,
        height: int = 900,
    ) -> None:
        """Save the page that was opened last as a PNG file."""
        self.page.set_viewport_size({"width": width, "height": height})
        # The charts follow the window after a moment.
        self.page.wait_for_timeout(1000)
        self.page.screenshot(path=path)
        self.page.set_viewport_size(VIEWPORT)

    def _open(
        self,
        page: str,
        state: Mapping[str, Any] | None = None,
        query: Mapping[str, Any] | None = None,
    ) -> None:
        address = f"{self.url}?{_encode(query or {})}#{page}"
        if state:
            address += f"&{_encode(state)}"
        # Between two hash addresses the browser would not load anything.
        self.page.goto("about:blank")
        self.page.goto(address)

    def _wait(
        self, read: Callable[[], dict[str, Any]], wanted: Collection[str]
    ) -> dict[str, Any]:
        deadline = time.monotonic() + self.timeout
        before: dict[str, Any] = {}
        while time.monotonic() < deadline:
            found = read()
            drawn = {key: found[key] for key in wanted if found.get(key)}
            if len(drawn) == len(wanted) and drawn == before:
                return drawn
            before = drawn
            self.page.wait_for_timeout(250)
        missing = sorted(set(wanted) - set(before))
        raise NothingDrawn(
            f"Within {self.timeout} seconds {self.page.url} drew {before}, "
            f"but not {missing}."
        )

    def _count(self, element: str, key: str, paths: str) -> dict[str, int]:
        drawn: dict[str, int] = {}
        for card in self.page.locator(element).all():
            name = card.evaluate(f"card => card.{key}")
            count = card.locator(paths).evaluate_all(_COUNT_DRAWN)
            # A tag is in its group too, out of sight and not drawn.
            drawn[name] = max(count, drawn.get(name, 0))
        return drawn

    def _read_time_series(self) -> dict[str, dict[str, int]]:
        with PIL.Image.open(io.BytesIO(self.page.screenshot())) as image:
            screen = np.asarray(image.convert("RGB"), dtype=np.int64)
        drawn = {}
        for card in self.page.locator("scalar-card").all():
            tag = card.locator("tb-truncated-path").first
            chart = card.locator("line-chart .series-view")
            if tag.count() and chart.count():
                pixels = _crop(screen, chart.first.bounding_box())
                drawn[tag.get_attribute("title")] = {
                    run: _count_pixels(pixels, color)
                    for run, color in card.evaluate(_READ_LEGEND)
                }
        return drawn

    def _read_images(self) -> dict[str, tuple[int, int]]:
        return {
            loader.evaluate("loader => loader.tag"): tuple(size)
            for loader in self.page.locator("tf-image-loader").all()
            for size in loader.locator("img").evaluate_all(
                "images => images.filter(i => i.naturalWidth > 0)"
                ".map(i => [i.naturalWidth, i.naturalHeight])"
            )
        }

    def _read_texts(self) -> dict[str, list[str]]:
        return {
            loader.evaluate("loader => loader.tag"): loader.locator(
                "td"
            ).all_inner_texts()
            for loader in self.page.locator("tf-text-loader").all()
        }

    def _read_hparams(self) -> dict[str, list[str]]:
        # The table recycles its cells in any order: sort them by place.
        columns: dict[float, list[tuple[float, str]]] = {}
        for cell in self.page.locator("vaadin-grid-cell-content").all():
            box = cell.bounding_box()
            text = cell.inner_text().strip()
            if text and box and box["height"] > 0:
                columns.setdefault(box["x"], []).append((box["y"], text))
        texts = [[text for _, text in sorted(c)] for c in columns.values()]
        return {title: cells for title, *cells in texts}


def _any_of(tags: Collection[str]) -> str:
    """A tag filter that finds exactly these."""
    if len(tags) > CARDS:
        raise ValueError(f"TensorBoard shows {CARDS} cards, not {len(tags)}.")
    return "|".join(f"^{re.escape(tag)}$" for tag in tags)


def _encode(parameters: Mapping[str, Any]) -> str:
    # quote: TensorBoard does not read + as a space.
    return urllib.parse.urlencode(parameters, quote_via=urllib.parse.quote)


def _crop(screen: np.ndarray, box: dict[str, float] | None) -> np.ndarray:
    if box is None:
        return screen[:0, :0]
    left, top = int(box["x"]), int(box["y"])
    right, bottom = left + int(box["width"]), top + int(box["height"])
    return screen[top:bottom, left:right]


def _count_pixels(pixels: np.ndarray, color: list[int]) -> int:
    distance = np.sqrt(np.square(pixels - np.array(color)).sum(axis=-1))
    return int((distance < COLOR_DISTANCE).sum())
