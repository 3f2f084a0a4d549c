"""What a real TensorBoard draws of a sweep and of a search."""

import os

import pytest

pytest.importorskip("keras_tuner")
pytest.importorskip("mlxtend")
pytest.importorskip("playwright")

import keras
import keras_tuner
import tensorboard_pages
from tensorboard_pages import TensorBoardPages, serve

from keras_actpen import PenaltyMonitor, attach_penalty
from keras_actpen.demo import demo, sweep

pytestmark = [
    pytest.mark.browser,
    pytest.mark.one_backend,
    pytest.mark.skipif(
        not os.access(tensorboard_pages.CHROMIUM, os.X_OK),
        reason=f"{tensorboard_pages.CHROMIUM} is missing",
    ),
    # Keras Tuner 1.4 asks for the name of its thread in the old way.
    pytest.mark.filterwarnings("ignore:currentThread.* is deprecated"),
    pytest.mark.filterwarnings("ignore:getName.* is deprecated"),
]

EPOCHS = 2
COEFFICIENTS = (1e-5, 1e-4, 1e-3, 1e-2, 1e-1)
SESSIONS = tuple(f"l2={c:g}/actpen/hparams" for c in COEFFICIENTS)
TRAIN = {f"l2={c:g}/actpen/train" for c in COEFFICIENTS}
SCALARS = (
    "Overview/penalty_share",
    "metric/accuracy",
    "penalty/dense_4/l2",
)
COLUMNS = (
    "dense_4/l2",
    "hparams/val_accuracy",
    "hparams/val_loss",
    "hparams/zeros dense_4",
)
HISTOGRAM = "activation.values/dense_4"


def digits():
    (x, y), (x_test, y_test) = demo.load_sample()
    return (x[:64], y[:64]), (x_test[:32], y_test[:32])


@pytest.fixture(scope="module")
def swept(tmp_path_factory):
    """Log directory of a sweep, and what each coefficient led to."""
    log_dir = tmp_path_factory.mktemp("sweep")
    train, test = digits()
    model = attach_penalty(demo.build_model(), "dense_4", l2=1e-3)
    measured = sweep.run_sweep(
        model,
        "dense_4",
        "l2",
        COEFFICIENTS,
        log_dir=log_dir,
        seed=0,
        fit=lambda _, callbacks: demo.fit(
            model, train, test, EPOCHS, callbacks
        ),
        measure=lambda: demo.measure(model, "dense_4", test),
    )
    keras.utils.clear_session()
    return log_dir, measured


@pytest.fixture(scope="module")
def pages(browser, swept):
    with serve(swept[0], SESSIONS) as url:
        yield TensorBoardPages(browser, url, timeout=60)


def test_time_series_draws_every_coefficient(pages):
    # The curves of the smallest coefficients lie on each other.
    drawn = pages.time_series(SCALARS, overlapping=True)
    for tag in SCALARS:
        assert set(drawn[tag]) >= TRAIN
        # A curve is at least this long.
        assert max(drawn[tag].values()) > 50


def test_scalars_draws_every_coefficient(pages):
    assert pages.scalars(SCALARS) == dict.fromkeys(SCALARS, 10)


def test_histograms_and_distributions_draw_every_coefficient(pages):
    assert pages.histograms([HISTOGRAM]) == {HISTOGRAM: EPOCHS}
    assert pages.page.locator("tf-histogram-loader:visible").count() >= 5
    assert pages.distributions([HISTOGRAM]) == {HISTOGRAM: 8}
    assert pages.page.locator("tf-distribution-loader:visible").count() >= 5


def test_custom_scalars_draws_every_coefficient(pages):
    charts = {
        "penalty_total": 10,
        "penalty terms": 10,
        "share of the loss": 10,
        "output: mean and standard deviation": 5,
        "output: zeros and dead units": 10,
    }
    assert pages.custom_scalars(charts) == charts


def test_texts_show_every_coefficient(pages):
    pages.texts(["actpen/attached"])
    cells = pages.page.locator("tf-text-loader:visible td").all_inner_texts()
    shown = {cell.rpartition("now ")[2] for cell in cells}
    assert {f"{c:g}" for c in COEFFICIENTS} <= shown


def test_hparams_sorts_five_rows(pages, swept):
    measured = swept[1]
    for column, direction in (
        ("hparams/val_accuracy", "Descending"),
        ("hparams/zeros dense_4", "Ascending"),
        ("dense_4/l2", "Descending"),
    ):
        cells = pages.sorted_hparams((*COLUMNS, "Trial ID"), column, direction)
        assert len(cells[column]) == 5
    assert [float(cell) for cell in cells["dense_4/l2"]] == sorted(
        COEFFICIENTS, reverse=True
    )
    assert [
        float(cell) for cell in cells["hparams/val_accuracy"]
    ] == pytest.approx(
        [measured[c].accuracy for c in sorted(COEFFICIENTS, reverse=True)],
        # The page shows five digits.
        rel=1e-4,
    )
    names = [cell.partition("/")[0] for cell in cells["Trial ID"]]
    assert names == [f"l2={c:g}" for c in sorted(COEFFICIENTS, reverse=True)]


def test_parallel_coordinates_draw_a_line_a_coefficient(pages):
    pages.hparams(COLUMNS)
    pages.open_parallel_coordinates()
    pages.choose_scale("dense_4/l2", "Logarithmic")
    lines = pages.page.locator("tf-hparams-parallel-coords-plot g.foreground")
    assert lines.locator("path").count() == 5


def test_hparams_shows_a_search_of_keras_tuner(browser, tmp_path):
    class Sparse(keras_tuner.HyperModel):
        def build(self, hp):
            return attach_penalty(
                demo.build_model(),
                "dense_4",
                l2=hp.Float("l2", 1e-5, 1e-1, sampling="log"),
            )

    train, test = digits()
    tuner = keras_tuner.RandomSearch(
        Sparse(), "val_accuracy", max_trials=3, directory=tmp_path / "tuner"
    )
    tuner.search(
        *train,
        validation_data=test,
        # A single point is no line.
        epochs=2,
        verbose=0,
        callbacks=[PenaltyMonitor(tmp_path / "logs", alerts=())],
    )
    trials = tuner.oracle.trials.values()
    runs = [f"{name}/hparams" for name in ("actpen", "actpen-2", "actpen-3")]
    with serve(tmp_path / "logs", runs) as url:
        pages = TensorBoardPages(browser, url, timeout=60)
        cells = pages.hparams(COLUMNS)
        assert sorted(map(float, cells["dense_4/l2"])) == pytest.approx(
            sorted(trial.hyperparameters.get("l2") for trial in trials),
            rel=1e-4,
        )
        assert sorted(
            map(float, cells["hparams/val_accuracy"])
        ) == pytest.approx(sorted(trial.score for trial in trials), rel=1e-4)
        assert pages.scalars(SCALARS[1:2]) == {SCALARS[1]: 6}
