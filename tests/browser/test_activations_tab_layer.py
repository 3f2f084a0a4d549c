"""The Activations tab's page of one layer, and what logs can do to it."""

import os
import shutil
import time

import pytest

pytest.importorskip("playwright")

import event_logs
import numpy as np
import tensorboard_pages
from activations_tab import ActivationsTab
from tab_logs import (
    LoggedLayer,
    LoggedTraining,
    digits_layers,
    plain_layers,
    tensor,
    write_event,
)
from tensorboard_pages import serve

from keras_actpen_tensorboard import schema

pytestmark = [
    pytest.mark.browser,
    pytest.mark.one_backend,
    pytest.mark.skipif(
        not os.access(tensorboard_pages.CHROMIUM, os.X_OK),
        reason=f"{tensorboard_pages.CHROMIUM} is missing",
    ),
]

EPOCHS = 6
RUN, VALIDATION = "digits/actpen/train", "digits/actpen/validation"
HIDDEN = {"page": "layer", "run": RUN, "layer": "head/hidden"}
STRANGE = "<img src=x onerror=alert(1)>"


@pytest.fixture(scope="module")
def log_dir(tmp_path_factory):
    root = tmp_path_factory.mktemp("logs")
    LoggedTraining(root / "digits", digits_layers()).write(EPOCHS)
    spoil = {
        "metric/loss": float("nan"),
        "activation.mean/head/hidden": float("nan"),
        "activation.max/head/hidden": float("inf"),
        "penalty/head/hidden/l1": float("nan"),
        "penalty.share/head/hidden/l1": float("nan"),
    }
    LoggedTraining(root / "nan", digits_layers(), spoil=spoil).write(3)
    strange = [
        LoggedLayer(name, terms={"l1": 0.1})
        for name in (STRANGE, "a'b\"c[0]", "q/*&amp;")
    ]
    LoggedTraining(root / STRANGE.replace("/", ""), strange).write(2)
    LoggedTraining(root / "begun", digits_layers()).start()
    future = root / "future" / "actpen" / "train"
    write_event(future, [tensor(schema.MODEL, b'{"schema": 2}')], 0)
    return root


@pytest.fixture(scope="module")
def written(log_dir):
    return event_logs.read(log_dir)


@pytest.fixture(scope="module", params=["true", "false"])
def url(request, log_dir):
    with serve(log_dir, [RUN], load_fast=request.param) as address:
        yield address


@pytest.fixture(scope="module")
def open_tab(browser, url):
    """One for all tests: a new one would load TensorBoard anew, in seconds."""
    tab = ActivationsTab(browser, url)
    yield tab
    tab.close()


@pytest.fixture
def tab(open_tab):
    yield open_tab
    open_tab.check_console()


def test_curves_of_a_layer(tab):
    tab.open(**HIDDEN)

    def of(run, tag):
        return tab.scalars(run, tag)

    (size,) = tab.lines("Size of the activations")
    mean = of(RUN, "activation.mean/head/hidden")
    std = of(RUN, "activation.std/head/hidden")
    assert size["lines"]["mean"] == mean
    assert size["lines"]["mean, validation"] == of(
        VALIDATION, "activation.mean/head/hidden"
    )
    lower = size["lines"]["± standard deviation (lower)"]
    band = size["lines"]["± standard deviation"]
    np.testing.assert_allclose(lower, np.subtract(mean, std), rtol=1e-12)
    np.testing.assert_allclose(
        np.add(lower, band), np.add(mean, std), rtol=1e-12
    )
    (zeros,) = tab.lines("Zeros and dead units")
    assert zeros["lines"]["zeros"] == of(
        RUN, "activation.zero_fraction/head/hidden"
    )
    assert zeros["lines"]["dead units, validation"] == of(
        VALIDATION, "activation.dead_fraction/head/hidden"
    )
    for title, group in (
        ("Terms", "penalty"),
        ("Share of the loss", "penalty.share"),
        ("Coefficients", "penalty.coefficient"),
    ):
        (chart,) = tab.lines(title)
        assert chart["log"]
        for name in ("l1", "l2"):
            assert chart["lines"][name] == of(
                RUN, f"{group}/head/hidden/{name}"
            )
    (other,) = tab.lines("Other statistics")
    assert other["lines"]["min"] == of(RUN, "activation.min/head/hidden")
    tab.panel("Other statistics").locator("select").select_option("max")
    tab.expect(
        lambda: tab.lines("Other statistics")[0]["lines"].get("max"),
        of(RUN, "activation.max/head/hidden"),
    )


def test_what_is_penalized_of_a_layer(tab):
    tab.open(**HIDDEN, epoch=2)
    text = tab.panel("Layer").inner_text()
    assert "layer 5 of 6 · Dense · (None, 96)" in text
    assert "L1(coefficient=0.001, reduction='batch')" in text
    assert "c * sum|h| / batch" in text
    zeros = tab.scalars(RUN, "activation.zero_fraction/head/hidden")[2]
    assert f"zeros\n{100 * zeros:.0f} %" in text
    # A line marks the epoch in every chart of curves.
    assert tab.lines("Terms")[0]["lines"]["epoch"] == [[2]]


def test_a_layer_without_terms_has_no_panels_of_terms(tab):
    tab.open(page="layer", run=RUN, layer="head/logits")
    assert "watched only" in tab.panel("Layer").inner_text()
    assert not tab.panel("Terms").is_visible()
    tab.panel("Layer").get_by_label("previous layer").click()
    tab.panel("Terms").wait_for()
    assert tab.state()["layer"] == "head/hidden"


def test_another_place_of_a_layer(tab):
    tab.open(**HIDDEN)
    measured = tab.panel("Layer").get_by_label("Measured")
    measured.select_option("preactivation head/hidden")
    tab.expect(
        lambda: tab.lines("Size of the activations")[0]["lines"]["mean"],
        tab.scalars(RUN, "preactivation.mean/head/hidden"),
    )


def test_percentiles_are_those_of_the_histogram_with_zeros(tab, written):
    tab.open(**HIDDEN)
    (chart,) = tab.lines("Percentiles")
    shares = tab.scalars(RUN, "activation.zero_fraction/head/hidden")
    histograms = written[RUN][schema.values_tag("activation", "head/hidden")]
    for epoch, rows in enumerate(histograms.values):
        # Many values evenly within each bucket, and the zeros.
        many = [
            np.linspace(left, right, 200 * int(count))
            for left, right, count in rows
            if count
        ]
        values = np.concatenate(many)
        zeros = round(len(values) * shares[epoch] / (1 - shares[epoch]))
        values = np.concatenate([values, np.zeros(zeros)])
        step = (rows[:, 1] - rows[:, 0]).max()
        for name, low, high in (
            ("1 to 99 %", 1, 99),
            ("5 to 95 %", 5, 95),
            ("25 to 75 %", 25, 75),
        ):
            lower = chart["lines"][f"{name} (lower)"][epoch]
            upper = lower + chart["lines"][name][epoch]
            expected = np.percentile(values, [low, high])
            np.testing.assert_allclose(
                [lower, upper], expected, atol=0.02 * step
            )


def test_ridges_are_the_histograms(tab, written):
    tab.open(**HIDDEN)
    chart = tab.panel("Distribution").locator(".chart")
    chart.scroll_into_view_if_needed()
    box = chart.bounding_box()
    tip = tab.panel("Distribution").locator(".tip-card")
    # Ridges overlap: the last one is on top, at the bottom on the left.
    tab.page.mouse.move(box["x"] + 60, box["y"] + box["height"] - 30)
    tip.wait_for()
    rows = written[RUN][schema.values_tag("activation", "head/hidden")]
    last = rows.values[-1]
    text = tip.inner_text()
    assert text.startswith(f"epoch {EPOCHS - 1}")
    assert f"{int(last[:, 2].sum())}" in text
    assert f"{last[-1, 1]:.3g}" in text


def rates_written(written, run):
    series = written[run][schema.units_tag("activation", "head/hidden")]
    return np.array(series.values, dtype=np.float32)


@pytest.mark.parametrize("phase", ["train", "validation"])
def test_the_firing_rate_of_every_unit(tab, written, phase):
    tab.open(**HIDDEN, phase=phase)
    (shown,) = tab.maps("units")
    rates = rates_written(written, RUN if phase == "train" else VALIDATION)
    np.testing.assert_array_equal(np.array(shown["values"]), rates.T)
    assert shown["labels"] == [str(unit) for unit in range(96)]


def test_units_are_sorted_by_their_last_rate(tab, written):
    tab.open(**HIDDEN)
    panel = tab.panel("Firing rate of every unit")
    panel.get_by_role("button", name="by last rate").click()
    rates = rates_written(written, RUN)
    order = list(np.argsort(-rates[-1], kind="stable"))
    labels = [str(unit) for unit in order]
    tab.expect(lambda: tab.maps("units")[0]["labels"], labels)
    (shown,) = tab.maps("units")
    np.testing.assert_array_equal(np.array(shown["values"]), rates.T[order])
    at = tab.cell("Firing rate of every unit", "units", "maps", 0, 3)
    tab.page.mouse.move(*at)
    tip = tab.frame.locator(".tip:visible")
    tip.wait_for()
    assert tip.inner_text().startswith(f"unit {order[0]}")
    assert "of 1920 positions" in tip.inner_text()


def test_the_histogram_of_log10_firing_rates(tab, written):
    tab.open(**HIDDEN, epoch=4)
    bars = tab.frame.evaluate(
        """async () => {
          const { getInstanceByDom } = await import(
            new URL("./echarts.js", document.baseURI));
          const chart = getInstanceByDom(document.querySelector(
            'section[aria-label="Firing rates, log10"] .chart'));
          return chart.getOption().series[0].data;
        }"""
    )
    rates = rates_written(written, RUN)[4]
    never, *others = np.array(bars)
    assert never[2] == (rates == 0).sum()
    edges = [bar[0] for bar in others] + [others[-1][1]]
    counts, _ = np.histogram(np.log10(rates[rates > 0]), edges)
    assert [bar[2] for bar in others] == list(counts)
    text = tab.panel("Firing rates, log10").inner_text()
    assert f"epoch 4: {int(never[2])} of 96 units never fired" in text


@pytest.mark.parametrize("page", ["overview", "layers", "layer", "trainings"])
def test_numbers_that_are_not_finite(tab, page):
    tab.open(page=page, run="nan/actpen/train", layer="head/hidden")
    assert "NaN" in tab.text()
    assert tab.frame.locator(".warning").count() == 0


@pytest.mark.parametrize("page", ["overview", "layers", "layer", "trainings"])
def test_a_name_is_never_markup(tab, page):
    run = f"{STRANGE.replace('/', '')}/actpen/train"
    tab.open(page=page, run=run, layer=STRANGE)
    assert tab.frame.locator("img").count() == 0
    assert STRANGE in tab.frame.locator("body").evaluate(
        "body => body.textContent"
    )
    canvases = tab.frame.locator("canvas[tabindex]")
    if canvases.count():
        canvases.first.hover()
    assert tab.frame.locator("img").count() == 0
    assert tab.frame.locator(".warning").count() == 0


@pytest.mark.parametrize("page", ["overview", "layers", "layer", "trainings"])
def test_a_training_that_has_just_begun(tab, page):
    tab.open(page=page, run="begun/actpen/train")
    assert tab.frame.locator(".warning").count() == 0
    assert tab.text() != ""


def test_a_training_that_cannot_be_read_is_a_message(tab):
    tab.open(run=RUN, **{"with": "future/actpen/train"})
    warning = tab.frame.locator(".warning").inner_text()
    assert warning.startswith("future cannot be shown. This log has format 2")
    assert len(tab.lines("Loss")) == 1


def test_deep_links_and_back(tab):
    tab.open(**HIDDEN, epoch=3, units="rate")
    assert tab.panel("Layer").get_by_label("Epoch").input_value() == "3"
    link = tab.frame.locator("nav").get_by_role("link", name="Layers")
    # The link itself leads to the page too, in another window.
    assert "p.keras_actpen.page=layers" in link.get_attribute("href")
    link.click()
    tab.panel("Layers").wait_for()
    tab.page.go_back()
    tab.panel("Layer").wait_for()
    assert tab.state()["epoch"] == "3"
    tab.page.get_by_role("tab", name="Scalars").first.click()
    tab.until(lambda: "#scalars" in tab.page.url)
    tab.page.get_by_role("tab", name="Activations").click()
    tab.until(lambda: tab.state().get("page") == "layer")
    assert tab.panel("Layer").is_visible()


def test_nothing_is_asked_while_another_tab_is_open(tab):
    asked = []
    tab.open(run=RUN)
    tab.page.on("request", lambda request: asked.append(request.url))

    def polls():
        return [url for url in asked if "keras_actpen/data" in url]

    tab.until(polls)
    tab.page.get_by_role("tab", name="Scalars").first.click()
    hidden = "() => window.frameElement.style.visibility === 'hidden'"
    tab.until(lambda: tab.frame.evaluate(hidden))
    # What was asked just before may still be on its way.
    tab.page.wait_for_timeout(2000)
    asked.clear()
    tab.page.wait_for_timeout(11_000)  # two polls
    assert polls() == []
    tab.page.get_by_role("tab", name="Activations").click()
    tab.until(polls)


def test_an_empty_log_says_what_to_do(browser, tmp_path):
    with serve(tmp_path) as url:
        tab = ActivationsTab(browser, url)
        tab.page.goto(tab.address())
        tab.ready()
        text = tab.text()
        assert "No activations are logged here yet" in text
        assert 'callbacks=[PenaltyMonitor("logs")]' in text
        tab.close()


@pytest.mark.parametrize("load_fast", ["true", "false"])
def test_a_running_training_grows_by_itself(browser, tmp_path, load_fast):
    training = LoggedTraining(tmp_path, digits_layers()).write(2)
    run = "actpen/train"
    with serve(tmp_path, [run], load_fast=load_fast) as url:
        tab = ActivationsTab(browser, url)
        tab.open(run=run)
        tab.until(lambda: len(tab.lines("Loss")[0]["steps"]) == 2)
        training.write_epoch(2)
        tab.until(lambda: len(tab.maps("maps")[0]["steps"]) == 3)
        tab.until(
            lambda: (
                tab.lines("Loss")[0]["lines"]["loss, validation"]
                == tab.scalars("actpen/validation", "metric/loss")
            )
        )
        chart = tab.lines("Loss")[0]["lines"]
        assert chart["loss"] == tab.scalars(run, "metric/loss")
        assert len(chart["loss"]) == 3
        tab.open(page="layer", run=run, layer="head/hidden")
        training.write_epoch(3)
        tab.until(lambda: len(tab.maps("units")[0]["steps"]) == 4)
        rates = rates_written(event_logs.read(tmp_path), run)
        values = np.array(tab.maps("units")[0]["values"])
        np.testing.assert_array_equal(values, rates.T)
        # A second training shows up in the lists.
        shutil.copytree(tmp_path / "actpen", tmp_path / "b" / "actpen")
        tab.until(lambda: "2 trainings" in tab.text(".bar"))
        tab.close()


def test_60_layers_by_300_epochs_open_as_fast_as_time_series(browser, tmp_path):
    layers = plain_layers(60, "deep/", units=8)
    training = LoggedTraining(
        tmp_path, layers, has_validation=False, has_tensors=False
    )
    training.write(300)
    run = "actpen/train"
    with serve(tmp_path, [run]) as url:
        tab = ActivationsTab(browser, url)
        tab.open(run=run)
        tab.until(lambda: len(tab.maps("maps")[0]["steps"]) == 300)
        assert len(tab.maps("maps")[0]["labels"]) == 60

        def open_time_series():
            tab.page.goto("about:blank")
            tab.page.goto(f"{url}#timeseries")
            tab.page.wait_for_selector("scalar-card line-chart .series-view")

        ours, theirs = [], []
        for _ in range(3):
            theirs.append(seconds(open_time_series))
            ours.append(seconds(lambda: tab.open(run=run)))
        tab.close()
    assert min(ours) <= 3 * min(theirs)


def seconds(act):
    start = time.perf_counter()
    act()
    return time.perf_counter() - start
