import os

import pytest

pytest.importorskip("playwright")

import synthetic_log as log
import tensorboard_pages
from tensorboard_pages import NothingDrawn, TensorBoardPages, serve

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(
        not os.access(tensorboard_pages.CHROMIUM, os.X_OK),
        reason=f"{tensorboard_pages.CHROMIUM} is missing",
    ),
]


@pytest.fixture(scope="session")
def log_dir(tmp_path_factory):
    path = tmp_path_factory.mktemp("logs")
    log.write(path)
    return path


@pytest.fixture(scope="module")
def browser():
    with tensorboard_pages.chromium() as browser:
        yield browser


@pytest.fixture(scope="module")
def pages(browser, log_dir):
    with serve(log_dir, log.RUNS) as url:
        yield TensorBoardPages(browser, url)


@pytest.fixture(scope="module")
def empty_pages(browser, tmp_path_factory):
    with serve(tmp_path_factory.mktemp("empty")) as url:
        yield TensorBoardPages(browser, url, timeout=3)


@pytest.mark.parametrize("start", range(0, len(log.SCALARS), 12))
def test_time_series_draws_every_run(pages, start):
    tags = log.SCALARS[start : start + 12]
    drawn = pages.time_series(tags)
    assert {tag: set(runs) for tag, runs in drawn.items()} == {
        tag: {"actpen/train", "actpen/validation"} for tag in tags
    }
    assert min(min(runs.values()) for runs in drawn.values()) > 50


@pytest.mark.parametrize("start", range(0, len(log.SCALARS), 12))
def test_scalars_draws_a_line_a_run(pages, start):
    tags = log.SCALARS[start : start + 12]
    assert pages.scalars(tags) == dict.fromkeys(tags, 2)


def test_histograms_draws_an_outline_an_epoch(pages):
    assert pages.histograms(log.HISTOGRAMS) == dict.fromkeys(
        log.HISTOGRAMS, log.EPOCHS
    )


def test_distributions_draws_eight_bands(pages):
    assert pages.distributions(log.HISTOGRAMS) == dict.fromkeys(
        log.HISTOGRAMS, 8
    )


def test_custom_scalars_draws_the_layout(pages):
    drawn = pages.custom_scalars(log.CHARTS)
    assert drawn == dict.fromkeys(log.CHARTS, 2)


def test_images_are_loaded(pages):
    assert pages.images(log.IMAGES) == dict.fromkeys(
        log.IMAGES, (40 * log.EPOCHS, 40 * len(log.LAYERS))
    )


def test_text_is_a_table(pages):
    assert pages.texts(log.TEXTS) == {
        "actpen/attached": [
            "encoder/dense",
            "l2",
            "0.01",
            "dense_1",
            "l2",
            "0.01",
        ]
    }


def test_hparams_has_a_column_a_coefficient_and_metric(pages):
    metrics = [f"{group}.{tag}" for group, tag in log.METRICS]
    table = pages.hparams([*log.HPARAMS, *metrics])
    for name, coefficient in log.HPARAMS.items():
        assert table[name] == [f"{coefficient:.6f}"]
    for metric in metrics:
        (loss,) = table[metric]
        assert float(loss) > 0


EVERY_PAGE = {
    "time_series": log.SCALARS[:1],
    "scalars": log.SCALARS[:1],
    "histograms": log.HISTOGRAMS,
    "distributions": log.HISTOGRAMS,
    "custom_scalars": log.CHARTS,
    "images": log.IMAGES,
    "texts": log.TEXTS,
    "hparams": log.HPARAMS,
}


@pytest.mark.parametrize("name", EVERY_PAGE)
def test_an_empty_log_directory_fails_every_check(empty_pages, name):
    with pytest.raises(NothingDrawn, match=r"drew \{\}, but not"):
        getattr(empty_pages, name)(EVERY_PAGE[name])


@pytest.mark.parametrize("name", ["time_series", "scalars", "hparams"])
def test_one_missing_thing_fails_the_check(pages, monkeypatch, name):
    monkeypatch.setattr(pages, "timeout", 3)
    with pytest.raises(NothingDrawn, match=r"but not \['missing'\]"):
        getattr(pages, name)([*EVERY_PAGE[name], "missing"])


def test_screenshot(pages, tmp_path):
    pages.scalars(log.SCALARS[:3])
    pages.save_screenshot(tmp_path / "scalars.png", 800, 600)
    assert (tmp_path / "scalars.png").read_bytes()[16:24] == bytes(
        [0, 0, 3, 32, 0, 0, 2, 88]
    )
