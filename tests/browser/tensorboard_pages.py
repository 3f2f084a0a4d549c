"""Reads what TensorBoard's pages really draw, in headless Chromium.

Every page function opens its page, waits until everything it is asked for is
drawn, and returns what is drawn; if that never happens Playwright's
`TimeoutError` passes through. Playwright's CSS selectors pierce shadow roots.
"""

import contextlib
import io
import json
import os
import re
import subprocess
import sys
import tempfile
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Collection, Iterator
from pathlib import Path

import numpy as np
import PIL.Image
from playwright.sync_api import Locator, Page, sync_playwright

CHROMIUM = "/usr/bin/chromium"
ARGUMENTS = (
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


@contextlib.contextmanager
def serve(
    log_dir: str | os.PathLike[str],
    runs: Collection[str] = (),
    *,
    load_fast: bool = True,
) -> Iterator[str]:
    """Run a real TensorBoard server.

    Args:
        log_dir: Its log directory.
        runs: Runs that it must have found before it counts as started.
        load_fast: Whether it uses its fast loader.

    Yields:
        Its address, with a slash at the end.
    """
    with tempfile.TemporaryFile("w+") as output:
        process = subprocess.Popen(
            [
                *(sys.executable, "-m", "tensorboard.main"),
                *("--logdir", os.fspath(log_dir)),
                # 0: a free port, named in the output.
                *("--host", "127.0.0.1", "--port", "0"),
                f"--load_fast={str(load_fast).lower()}",
            ],
            stdout=output,
            stderr=subprocess.STDOUT,
        )
        try:
            yield _wait_for_server(process, output, set(runs))
        finally:
            process.terminate()
            process.wait()


def _wait_for_server(process, output, runs: set[str]) -> str:
    deadline = time.monotonic() + START_SECONDS
    url = None
    while time.monotonic() < deadline and process.poll() is None:
        output.seek(0)
        found = re.search(r"at (http://127\.0\.0\.1:\d+/)", output.read())
        if found:
            url = found[1]
            with urllib.request.urlopen(f"{url}data/runs") as response:
                if runs <= set(json.load(response)):
                    return url
        time.sleep(0.2)
    output.seek(0)
    raise RuntimeError(f"TensorBoard did not start: {output.read()}")


@contextlib.contextmanager
def browse(timeout: float = 20.0) -> Iterator[Page]:
    """Open a page in headless Chromium.

    Args:
        timeout: Seconds that a page function waits for what it looks for.

    Yields:
        The page, for the functions below.
    """
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM, args=ARGUMENTS
        )
        page = browser.new_page(viewport=VIEWPORT)
        page.set_default_timeout(1000 * timeout)
        try:
            yield page
        finally:
            browser.close()


def time_series(page: Page, url: str, tags: Collection[str]) -> dict[str, int]:
    """Coloured pixels in the chart of each of `tags`."""
    _go(page, url, "timeseries", tagFilter=_any_of(tags), smoothing="0")
    return {
        tag: _coloured_pixels(
            page.locator("scalar-card")
            .filter(has=page.locator(f'tb-truncated-path[title="{tag}"]'))
            .locator("line-chart .series-view")
            .first
        )
        for tag in tags
    }


def scalars(page: Page, url: str, tags: Collection[str]) -> dict[str, int]:
    """Lines, one a run, in the chart of each of `tags`."""
    _go(page, url, "scalars", f"&tagFilter={_quoted(_any_of(tags))}")
    return {
        tag: _drawn(_card(page, "tf-scalar-card", tag).locator("path.line"))
        for tag in tags
    }


def histograms(page: Page, url: str, tags: Collection[str]) -> dict[str, int]:
    """Outlines, one a step, in the histogram of each of `tags`."""
    _go(page, url, "histograms", f"&tagFilter={_quoted(_any_of(tags))}")
    return {
        tag: _drawn(
            _card(page, "tf-histogram-loader", tag).locator(".histogram path")
        )
        for tag in tags
    }
