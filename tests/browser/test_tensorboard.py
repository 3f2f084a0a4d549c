"""What a real TensorBoard draws of the demo's penalized model."""

import os

import pytest

pytest.importorskip("playwright")
pytest.importorskip("mlxtend")

import keras
import tensorboard_pages
from tensorboard_pages import NothingDrawn, TensorBoardPages, serve

from keras_actpen import PenaltyMonitor, attach_penalty
from keras_actpen.demo import demo

pytestmark = [
    pytest.mark.browser,
    pytest.mark.one_backend,
    pytest.mark.skipif(
        not os.access(tensorboard_pages.CHROMIUM, os.X_OK),
        reason=f"{tensorboard_pages.CHROMIUM} is missing",
    ),
]

EPOCHS = 3
RUNS = ("actpen/hparams", "actpen/train", "actpen/validation")
OVERVIEW = tuple(
    f"{group}/{name}"
    for group in ("Overview", "actpen")
    for name in ("penalty_total", "penalty_share", "task_loss")
)
# Scalars with a curve for training and for validation, and for training only:
# of the layer's terms, and of its activations.
BOTH = (
    *OVERVIEW,
    "metric/accuracy",
    "metric/loss",
    "penalty/dense_4/l2",
    "penalty.share/dense_4/l2",
)
TRAIN = ("penalty.coefficient/dense_4/l2", "metric/learning_rate")
ACTIVATIONS = (
    *(
        f"activation.{name}/dense_4"
        for name in (
            "mean",
            "std",
            "min",
            "max",
            "rms",
            "zero_fraction",
            "l0",
            "dead_fraction",
            "dead_window",
            "nonfinite",
        )
    ),
    "activation.std_band/dense_4/lower",
    "activation.std_band/dense_4/upper",
)
HISTOGRAMS = ("activation.values/dense_4",)
# Lines or bands by title of the chart.
CHARTS = {
    "penalty_total": 2,
    "penalty_share": 2,
    "task_loss": 2,
    "penalty terms": 2,
    "share of the loss": 2,
    "output: mean and standard deviation": 1,
    "output: zeros and dead units": 2,
}
IMAGES = ("actpen/penalty_by_layer", "actpen/dead_fraction_by_layer")
TEXTS = ("actpen/attached",)
HPARAMS = (
    "dense_4/l2",
    "hparams/val_accuracy",
    "hparams/val_loss",
    "hparams/penalty_total",
    "hparams/zeros dense_4",
)


@pytest.fixture(scope="module")
def training(tmp_path_factory):
    """Log directory of a short training, and its history."""
    log_dir = tmp_path_factory.mktemp("logs")
    (x, y), (x_test, y_test) = demo.load_sample()
    model = attach_penalty(demo.build_model(), "dense_4", l2=0.01)
    history = model.fit(
        x[:320],
        y[:320],
        batch_size=64,
        epochs=EPOCHS,
        validation_data=(x_test[:64], y_test[:64]),
        callbacks=[PenaltyMonitor(log_dir, statistics_freq=2, images=True)],
        verbose=0,
    )
    keras.utils.clear_session()
    return log_dir, history.history


@pytest.fixture(scope="module")
def pages(browser, training):
    with serve(training[0], RUNS) as url:
        yield TensorBoardPages(browser, url, timeout=60)


@pytest.fixture(scope="module")
def empty_pages(browser, tmp_path_factory):
    with serve(tmp_path_factory.mktemp("empty")) as url:
        yield TensorBoardPages(browser, url, timeout=3)


@pytest.mark.parametrize(
    ("tags", "runs"),
    [
        (BOTH, {"actpen/train", "actpen/validation"}),
        (TRAIN, {"actpen/train"}),
        (ACTIVATIONS, {"actpen/train"}),
    ],
    ids=["both", "train", "activations"],
)
def test_time_series_draws_every_run(pages, tags, runs):
    drawn = pages.time_series(tags)
    assert {tag: set(found) for tag, found in drawn.items()} == dict.fromkeys(
        tags, runs
    )
    # Of pixels in the run's color; a curve is at least this long.
    assert min(min(found.values()) for found in drawn.values()) > 50


@pytest.mark.parametrize(
    ("tags", "lines"),
    [(BOTH, 2), (TRAIN, 1), (ACTIVATIONS, 1)],
    ids=["both", "train", "activations"],
)
def test_scalars_draws_a_line_a_run(pages, tags, lines):
    assert pages.scalars(tags) == dict.fromkeys(tags, lines)


def test_histograms_draws_an_outline_an_epoch(pages):
    assert pages.histograms(HISTOGRAMS) == dict.fromkeys(HISTOGRAMS, EPOCHS)


def test_distributions_draws_eight_bands(pages):
    assert pages.distributions(HISTOGRAMS) == dict.fromkeys(HISTOGRAMS, 8)


def test_custom_scalars_draws_the_layout(pages):
    assert pages.custom_scalars(CHARTS) == CHARTS


def test_images_are_loaded(pages):
    drawn = pages.images(IMAGES)
    assert {tag: width for tag, (width, _) in drawn.items()} == dict.fromkeys(
        IMAGES, 700
    )


def test_text_is_a_table(pages):
    assert pages.texts(TEXTS) == {
        TEXTS[0]: [
            "dense_4",
            "Dense",
            "(None, 128)",
            "output",
            "l2",
            "L2(coefficient=0.01, reduction='batch', name='l2'), now 0.01",
        ]
    }


def test_hparams_has_a_column_a_coefficient_and_metric(pages, training):
    history = training[1]
    table = pages.hparams(HPARAMS)
    found = {name: float(cell) for name, (cell,) in table.items()}
    assert 0 < found.pop("hparams/zeros dense_4") < 1
    expected = {
        "dense_4/l2": 0.01,
        "hparams/val_accuracy": history["val_accuracy"][-1],
        "hparams/val_loss": history["val_loss"][-1],
        "hparams/penalty_total": history["penalty/dense_4/l2"][-1],
    }
    assert found == pytest.approx(expected, rel=1e-3)


EVERY_PAGE = {
    "time_series": BOTH[:1],
    "scalars": BOTH[:1],
    "histograms": HISTOGRAMS,
    "distributions": HISTOGRAMS,
    "custom_scalars": tuple(CHARTS),
    "images": IMAGES,
    "texts": TEXTS,
    "hparams": HPARAMS[:1],
}


@pytest.mark.parametrize("name", EVERY_PAGE)
def test_an_empty_log_directory_fails_every_check(empty_pages, name):
    with pytest.raises(NothingDrawn, match=r"drew \{\}, but not"):
        getattr(empty_pages, name)(EVERY_PAGE[name])


@pytest.mark.parametrize("name", ["time_series", "scalars", "hparams"])
def test_one_missing_thing_fails_the_check(pages, monkeypatch, name):
    monkeypatch.setattr(pages, "timeout", 3)
    with pytest.raises(NothingDrawn, match=r"but not .*'missing'"):
        getattr(pages, name)([*EVERY_PAGE[name], "missing"])


def test_screenshot(pages, tmp_path):
    pages.scalars(BOTH[:3])
    pages.show_outliers()
    pages.save_screenshot(tmp_path / "scalars.png", 800, 600)
    assert (tmp_path / "scalars.png").read_bytes()[16:24] == bytes(
        [0, 0, 3, 32, 0, 0, 2, 88]
    )
