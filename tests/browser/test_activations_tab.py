"""The Activations tab shows what is in the log: its overview and tables."""

import os

import pytest

pytest.importorskip("playwright")

import event_logs
import numpy as np
import tensorboard_pages
from activations_tab import ActivationsTab
from tab_logs import LoggedTraining, digits_layers, plain_layers
from tensorboard_pages import serve

pytestmark = [
    pytest.mark.browser,
    pytest.mark.one_backend,
    pytest.mark.skipif(
        not os.access(tensorboard_pages.CHROMIUM, os.X_OK),
        reason=f"{tensorboard_pages.CHROMIUM} is missing",
    ),
]

EPOCHS = 8
STRONG, WEAK = "strong/actpen/train", "weak/actpen/train"
VALIDATION = "strong/actpen/validation"
PATHS = [layer.path for layer in digits_layers()]
TERMS = [
    f"{layer.path}/{name}" for layer in digits_layers() for name in layer.terms
]
HIDDEN = PATHS.index("head/hidden")


@pytest.fixture(scope="module")
def log_dir(tmp_path_factory):
    root = tmp_path_factory.mktemp("logs")
    LoggedTraining(root / "strong", digits_layers(1e-1)).write(EPOCHS)
    LoggedTraining(root / "weak", digits_layers(1e-4), seed=1).write(EPOCHS)
    LoggedTraining(
        root / "many", plain_layers(36, "deep/"), has_validation=False
    ).write(3)
    return root


@pytest.fixture(scope="module")
def written(log_dir):
    return event_logs.read(log_dir)


@pytest.fixture(scope="module", params=["true", "false"])
def url(request, log_dir):
    runs = [STRONG, WEAK, "many/actpen/train"]
    with serve(log_dir, runs, load_fast=request.param) as address:
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


def test_the_loss(tab):
    tab.open(run=STRONG)
    (chart,) = tab.lines("Loss")
    assert chart["steps"] == [str(epoch) for epoch in range(EPOCHS)]
    assert chart["lines"] == {
        "loss": tab.scalars(STRONG, "metric/loss"),
        "task loss": tab.scalars(STRONG, "Overview/task_loss"),
        "loss, validation": tab.scalars(VALIDATION, "metric/loss"),
        "task loss, validation": tab.scalars(VALIDATION, "Overview/task_loss"),
    }
    x, y = tab.point_in("Loss", "grid", [3, 1.0])
    tab.page.mouse.move(x, y)
    tip = tab.panel("Loss").locator(".tip-card")
    tip.wait_for()
    assert "epoch 3" in tip.inner_text()
    loss = tab.scalars(STRONG, "metric/loss")[3]
    assert f"{loss:.3g}" in tip.inner_text()
    # The legend is a switch.
    switch = tab.panel("Loss").get_by_role("button", name="task loss")
    switch.first.click()
    assert "task loss" not in tab.lines("Loss")[0]["lines"]


def test_key_figures(tab):
    tab.open(run=STRONG)
    text = tab.text(".figures")
    assert f"epochs\n{EPOCHS}" in text
    loss = tab.scalars(STRONG, "metric/loss")[-1]
    assert f"loss\n{loss:.3g}" in text
    share = tab.scalars(STRONG, "Overview/penalty_share")[-1]
    assert f"penalties, share of the loss\n{100 * share:.0f} %" in text
    accuracy = tab.scalars(VALIDATION, "metric/accuracy")[-1]
    assert f"validation accuracy\n{accuracy:.3g}" in text


def test_what_the_loss_is_made_of(tab):
    title = "What the loss is made of"
    tab.open(run=STRONG)
    (chart,) = tab.lines(title)
    task = chart["lines"].pop("task")
    assert chart["lines"] == {
        name: tab.scalars(STRONG, f"penalty.share/{name}") for name in TERMS
    }
    total = np.sum(list(chart["lines"].values()), axis=0)
    np.testing.assert_allclose(task, 1 - total, rtol=1e-6)
    tab.panel(title).get_by_role("button", name="value").click()
    tab.panel(title).get_by_role("button", name="validation").click()
    values = {
        name: tab.scalars(VALIDATION, f"penalty/{name}") for name in TERMS
    }
    tab.expect(lambda: tab.lines(title)[0]["lines"], values)
    assert tab.state()["terms"] == "value"


def test_the_smallest_of_many_terms_are_one_band_that_opens(tab):
    run = "many/actpen/train"
    title = "What the loss is made of"
    tab.open(run=run, terms="value")
    (chart,) = tab.lines(title)
    others = chart["lines"].pop("4 others")
    assert len(chart["lines"]) == 8
    names = [f"{one.path}/l1" for one in plain_layers(36, "deep/") if one.terms]
    every = {name: tab.scalars(run, f"penalty/{name}") for name in names}
    shown = chart["lines"]
    assert shown == {name: every[name] for name in shown}
    hidden = [every[name] for name in names if name not in shown]
    np.testing.assert_allclose(others, np.sum(hidden, axis=0), rtol=1e-6)
    assert max(v[-1] for v in hidden) <= min(v[-1] for v in shown.values())
    tab.panel(title).get_by_role("button", name="4 others").click()
    tab.expect(lambda: tab.lines(title)[0]["lines"], every)


@pytest.mark.parametrize(
    "statistic", ["zero_fraction", "dead_fraction", "mean", "nonfinite"]
)
def test_layers_by_epochs(tab, statistic):
    tab.open(run=STRONG)
    chosen = f"activation.{statistic}"
    tab.panel("Layers by epochs").locator("select").select_option(chosen)
    values = [tab.scalars(STRONG, f"{chosen}/{path}") for path in PATHS]
    tab.expect(lambda: tab.maps("maps")[0]["values"], values)
    (shown,) = tab.maps("maps")
    assert shown["labels"] == PATHS
    assert shown["steps"] == list(range(EPOCHS))


def test_penalties_by_epochs(tab):
    tab.open(run=STRONG, quantity="penalty")
    (shown,) = tab.maps("maps")
    hidden = shown["labels"].index("head/hidden")
    both = [
        tab.scalars(STRONG, f"penalty/head/hidden/{name}")
        for name in ("l1", "l2")
    ]
    np.testing.assert_allclose(
        shown["values"][hidden], np.sum(both, axis=0), rtol=1e-12
    )
    assert "head/logits" not in shown["labels"]


def test_rings_are_where_findings_are(tab, written):
    tab.open(run=STRONG)
    (shown,) = tab.maps("maps")
    shares = written[STRONG]["penalty.share/head/hidden/l1"].values
    dead = written[STRONG]["activation.dead_fraction/head/hidden"].values
    wrong = [
        bool(s >= 0.5 or d >= 0.5) for s, d in zip(shares, dead, strict=True)
    ]
    assert any(wrong)
    assert shown["marks"][HIDDEN] == wrong
    assert not any(shown["marks"][0])


def test_colors_can_be_logarithmic(tab):
    tab.open(run=STRONG, quantity="activation.mean")
    panel = tab.panel("Layers by epochs")
    means = np.array(tab.maps("maps")[0]["values"])
    panel.get_by_role("button", name="log").click()
    extent = [means.min(), means.max()]
    tab.expect(lambda: tab.maps("maps")[0]["range"], extent)
    assert tab.state()["scale"] == "log"


def test_the_map_is_filtered(tab):
    tab.open(run=STRONG)
    panel = tab.panel("Layers by epochs")
    panel.get_by_role("searchbox").fill("conv stage2")
    tab.until(lambda: len(tab.maps("maps")[0]["labels"]) == 2)
    # What all layers have in common stays folded, whatever the filter.
    assert tab.maps("maps")[0]["labels"] == ["stage2/conv_a", "stage2/conv_b"]
    panel.get_by_role("searchbox").fill("nothing")
    panel.get_by_text("No layer matches this filter.").wait_for()


def test_a_cell_is_hovered_and_clicked(tab):
    tab.open(run=STRONG)
    at = tab.cell("Layers by epochs", "maps", "maps", HIDDEN, 6)
    tab.page.mouse.move(*at)
    tip = tab.frame.locator(".tip:visible")
    tip.wait_for()
    zeros = tab.scalars(STRONG, "activation.zero_fraction/head/hidden")[6]
    assert f"epoch 6: {100 * zeros:.0f} %" in tip.inner_text()
    tab.page.mouse.click(*at)
    tab.panel("Layer").wait_for()
    state = tab.state()
    assert (state["page"], state["layer"]) == ("layer", "head/hidden")
    assert state["epoch"] == "6"
    tab.page.go_back()
    tab.panel("Findings").wait_for()


def test_the_color_of_a_cell_is_that_of_its_value(tab):
    tab.open(run=STRONG)
    x, y = tab.cell("Layers by epochs", "maps", "maps", 0, 1)
    box = tab.panel("Layers by epochs").locator("canvas").bounding_box()
    color = tab.frame.evaluate(
        """async ([x, y]) => {
          const canvas = document.querySelector(".heat-map canvas");
          const ratio = window.devicePixelRatio;
          const seen = [...canvas.getContext("2d").getImageData(
            x * ratio, y * ratio, 1, 1).data].slice(0, 3);
          const map = document.querySelector(".page").parts.maps.maps()[0];
          const { scale, values } = map.content();
          return [seen, scale.color(scale.position(values[0][1]))];
        }""",
        [x - box["x"], y - box["y"]],
    )
    np.testing.assert_allclose(color[0], color[1], atol=2)


def test_the_keyboard_reaches_every_cell(tab):
    tab.open(run=STRONG)
    canvas = tab.panel("Layers by epochs").locator("canvas")
    canvas.focus()
    canvas.press("ArrowDown")  # the first key shows the cursor
    for key in ("ArrowDown", "ArrowDown", "ArrowLeft"):
        canvas.press(key)
    said = tab.panel("Layers by epochs").locator(".said").inner_text()
    assert said.startswith(f"{PATHS[2]}, epoch {EPOCHS - 2}: ")
    canvas.press("Enter")
    tab.panel("Layer").wait_for()
    assert tab.state()["layer"] == PATHS[2]


def test_every_control_is_in_the_order_of_the_keyboard(tab):
    tab.open(run=STRONG)
    controls = tab.frame.evaluate(
        """() => [...document.querySelectorAll(
          "a, button, select, input, canvas[tabindex]")]
          .filter(e => e.checkVisibility() && !e.disabled && !e.closest(
            ".chart"))
          .filter(e => e.tabIndex < 0 || !(e.getAttribute("aria-label")
            || e.textContent.trim() || e.closest("label"))).length"""
    )
    assert controls == 0
    tab.frame.locator("nav a").first.focus()
    tab.page.keyboard.press("Tab")
    tab.page.keyboard.press("Enter")
    tab.panel("Layers").wait_for()


def test_findings_are_links(tab):
    tab.open(run=STRONG)
    panel = tab.panel("Findings")
    assert "the penalty is" in panel.inner_text()
    panel.get_by_role("link").first.click()
    tab.panel("Layer").wait_for()
    assert tab.state()["epoch"] == str(EPOCHS - 1)


def column(tab, position):
    cells = tab.panel("Layers").locator(f"tbody td:nth-child({position})")
    return [text.split("\n")[0] for text in cells.all_inner_texts()]


def test_the_table_of_layers(tab):
    tab.open(run=STRONG, page="layers")
    panel = tab.panel("Layers")
    assert column(tab, 2) == PATHS
    zeros = [
        tab.scalars(STRONG, f"activation.zero_fraction/{path}")[-1]
        for path in PATHS
    ]
    assert column(tab, 7) == [f"{100 * zero:.0f} %" for zero in zeros]
    panel.get_by_role("button", name="zeros").click()
    tab.until(lambda: tab.state().get("sort") == "zero_fraction")
    order = np.argsort(-np.array(zeros), kind="stable")
    tab.expect(lambda: column(tab, 2), [PATHS[index] for index in order])
    assert (
        panel.locator("th[aria-sort=descending]")
        .inner_text()
        .startswith("zeros")
    )
    panel.get_by_role("searchbox").fill("logits")
    tab.until(lambda: column(tab, 2) == ["head/logits"])
    panel.get_by_text("columns").click()
    panel.get_by_label("max", exact=True).check()
    tab.until(lambda: panel.get_by_role("button", name="max").count() == 1)
    panel.get_by_role("link", name="head/logits").click()
    tab.panel("Layer").wait_for()
    assert tab.state()["layer"] == "head/logits"


def test_the_common_prefix_of_paths_is_folded(tab):
    tab.open(run="many/actpen/train", page="layers")
    assert "below deep/" in tab.panel("Layers").inner_text()
    assert column(tab, 2)[:2] == ["block_0/conv_a", "block_0/conv_b"]


def test_two_trainings_side_by_side_on_one_scale(tab):
    tab.open(run=STRONG, **{"with": WEAK})
    charts = tab.lines("Loss")
    for chart, run in zip(charts, (STRONG, WEAK), strict=True):
        assert chart["lines"]["loss"] == tab.scalars(run, "metric/loss")
    assert charts[0]["range"] == charts[1]["range"]
    first, second = tab.maps("maps")
    assert first["range"] == second["range"]
    (difference,) = tab.maps("maps", "difference")
    expected = np.array(second["values"]) - np.array(first["values"])
    np.testing.assert_allclose(difference["values"], expected, atol=1e-12)
    assert difference["range"][0] == -difference["range"][1]


def test_the_scatter_of_all_trainings(tab):
    tab.open(run=STRONG, page="trainings")
    option = tab.frame.evaluate(
        """async () => {
          const { getInstanceByDom } = await import(
            new URL("./echarts.js", document.baseURI));
          const chart = getInstanceByDom(document.querySelector(
            'section[aria-label="Trainings"] .chart'));
          return chart.getOption().series[0].data.map(
            d => [...d.value, d.itemStyle.color]);
        }"""
    )
    runs = (STRONG, WEAK)
    assert [point[:2] for point in option] == [
        [
            tab.scalars(run, "activation.zero_fraction/head/hidden")[-1],
            tab.scalars(run.replace("train", "validation"), "metric/accuracy")[
                -1
            ],
        ]
        for run in runs
    ]
    assert option[0][2] != option[1][2]
    at = tab.point_in("Trainings", "grid", option[1][:2])
    tab.page.mouse.move(*at)
    tip = tab.panel("Trainings").locator(".tip-card")
    tip.wait_for()
    assert tip.inner_text().startswith("weak")
    tab.page.mouse.click(*at)
    tab.panel("Findings").wait_for()
    assert tab.state()["run"] == WEAK


def test_the_scatter_has_no_shares_below_zero(tab):
    layer = "head/logits"
    dead = f"activation.dead_fraction/{layer}"
    tab.open(run=STRONG, page="trainings", layer=layer, x=f"train:{dead}")
    assert tab.scalars(STRONG, dead)[-1] == tab.scalars(WEAK, dead)[-1] == 0
    least = tab.frame.evaluate(
        """async () => {
          const { getInstanceByDom } = await import(
            new URL("./echarts.js", document.baseURI));
          return getInstanceByDom(document.querySelector(
            'section[aria-label="Trainings"] .chart')
          ).getOption().xAxis[0].min;
        }"""
    )
    assert least == 0


def test_dark_mode(browser, url):
    # A page of its own, as TensorBoard remembers it.
    tab = ActivationsTab(browser, url)
    tab.open(run=STRONG)
    body = "() => getComputedStyle(document.documentElement).backgroundColor"
    light = tab.frame.evaluate(body)
    tab.page.get_by_label("Menu for changing light or dark theme").click()
    tab.page.get_by_text("Dark", exact=True).click()
    tab.until(lambda: tab.frame.evaluate(body) != light)
    assert tab.frame.evaluate(body) == "rgb(43, 43, 43)"
    color = """async () => {
      const { getInstanceByDom } = await import(
        new URL("./echarts.js", document.baseURI));
      return getInstanceByDom(document.querySelector(".chart"))
        .getOption().series[0].lineStyle.color;
    }"""
    tab.until(lambda: tab.frame.evaluate(color) == "#56b4e9")
    tab.close()
