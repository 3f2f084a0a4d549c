"""Figures of a log directory and of a report."""

import io
import sys

import event_logs
import keras
import numpy as np
import PIL.Image
import pytest
from keras import layers
from models import QUICK, data, nested

from keras_actpen import (
    PenaltyMonitor,
    attach_penalty,
    penalty_report,
    plot_activations,
    watch_activations,
)

pytestmark = pytest.mark.one_backend

EPOCHS = 3


def penalized():
    model = attach_penalty(nested(), "encoder/dense_4", l1=0.01, l2=0.02)
    model = attach_penalty(model, "unfold", l2=0.1, on="preactivation")
    model = attach_penalty(model, "unfold", l1=0.01)
    model = watch_activations(model, "code")
    model.compile("sgd", "mse", **QUICK)
    return model


@pytest.fixture(scope="module")
def log_dir(tmp_path_factory):
    directory = tmp_path_factory.mktemp("logs")
    keras.utils.set_random_seed(7)
    model, monitor = penalized(), PenaltyMonitor(directory, alerts=())
    model.fit(*data(8), epochs=EPOCHS, callbacks=[monitor], verbose=0)
    # A second run, with fewer epochs.
    model.fit(*data(8), epochs=1, callbacks=[monitor], verbose=0)
    return directory


def curves(axes):
    """Points of every line by its label."""
    return {
        line.get_label(): (list(line.get_xdata()), list(line.get_ydata()))
        for line in axes.lines
    }


def rows_of(figure):
    return [figure.axes[i : i + 3] for i in range(0, len(figure.axes), 3)]


def test_curves_are_those_of_tensorboard(log_dir):
    figure = plot_activations(log_dir, run="actpen")
    logged = event_logs.scalars(event_logs.read(log_dir)["actpen/train"])
    rows = rows_of(figure)
    titles = [row[0].get_title(loc="left") for row in rows]
    assert titles == ["encoder/dense_4", "encoder/code", "decoder/unfold"]
    epochs = list(range(EPOCHS))

    def expected(tags):
        return {label: (epochs, logged[tag]) for label, tag in tags.items()}

    terms, shares, means = rows[0]
    path = "encoder/dense_4"
    assert curves(terms) == expected(
        {"l1": f"penalty/{path}/l1", "l2": f"penalty/{path}/l2"}
    )
    assert curves(shares) == expected(
        {
            "zeros": f"activation.zero_fraction/{path}",
            "dead units": f"activation.dead_fraction/{path}",
        }
    )
    assert curves(means) == expected({"activation": f"activation.mean/{path}"})
    (band,) = means.collections
    corners = {tuple(corner) for corner in band.get_paths()[0].vertices}
    for epoch in epochs:
        mean = logged[f"activation.mean/{path}"][epoch]
        std = logged[f"activation.std/{path}"][epoch]
        assert {(epoch, mean - std), (epoch, mean + std)} <= corners

    assert curves(rows[1][0]) == {}
    assert [text.get_text() for text in rows[1][0].texts] == ["only watched"]

    path = "decoder/unfold"
    assert curves(rows[2][0]) == expected(
        {"l1": f"penalty/{path}/l1", "l2": f"penalty/{path}/l2"}
    )
    assert curves(rows[2][1]) == expected(
        {
            f"{label}, {spec}": f"{spec}.{name}/{path}"
            for label, name in (
                ("zeros", "zero_fraction"),
                ("dead units", "dead_fraction"),
            )
            for spec in ("activation", "preactivation")
        }
    )


def test_last_run_unless_told_and_chosen_layers(log_dir):
    figure = plot_activations(str(log_dir), layers="*_4")
    assert len(figure.axes) == 3
    steps, _ = curves(figure.axes[0])["l1"]
    assert steps == [0]


def test_several_outputs_of_a_layer(tmp_path):
    inputs = keras.Input((2, 3))
    outputs = layers.LSTM(2, return_state=True, name="lstm")(inputs)
    model = attach_penalty(
        keras.Model(inputs, outputs[0]), "lstm", l2=0.1, output=1
    )
    model.compile("sgd", "mse", **QUICK)
    monitor = PenaltyMonitor(tmp_path, alerts=())
    x, y = np.ones((4, 2, 3), "float32"), np.ones((4, 2), "float32")
    model.fit(x, y, callbacks=[monitor], verbose=0)
    figure = plot_activations(tmp_path)
    terms, shares, means = figure.axes
    assert terms.get_title(loc="left") == "lstm"
    assert set(curves(terms)) == {"l2"}
    assert set(curves(shares)) == {"zeros", "dead units"}
    assert set(curves(means)) == {"activation[1]"}


def widths(axes, label):
    (bars,) = (b for b in axes.containers if b.get_label() == label)
    return [patch.get_width() for patch in bars]


@pytest.mark.parametrize("known", [True, False])
def test_bars_of_a_report(known):
    x, y = data()
    model = penalized()
    report = penalty_report(model, x, y if known else None)
    figure = plot_activations(report)
    terms, shares, means = figure.axes
    by_path = {layer.path: layer for layer in report.layers}
    rows = [
        ("encoder/dense_4", "output"),
        ("encoder/code", "output"),
        ("decoder/unfold", "preactivation"),
        ("decoder/unfold", "output"),
    ]
    assert [tick.get_text() for tick in terms.get_yticklabels()] == [
        "encoder/dense_4",
        "encoder/code",
        "decoder/unfold (preactivation)",
        "decoder/unfold",
    ]
    assert terms.get_xlabel() == ("share of the loss" if known else "penalty")

    def size(name, path, on):
        return sum(
            term.loss_share if known else term.value
            for term in by_path[path].terms
            if (term.name, term.on) == (name, on)
        )

    for name in ("l1", "l2"):
        expected = [size(name, *row) for row in rows]
        np.testing.assert_allclose(widths(terms, name), expected)
    statistics = [by_path[path].statistics[on] for path, on in rows]
    for label, name in (
        ("zeros", "zero_fraction"),
        ("dead units", "dead_fraction"),
    ):
        expected = [one[name] for one in statistics]
        np.testing.assert_allclose(widths(shares, label), expected)
    (errors,) = means.containers
    points, _, (spread,) = errors.lines
    np.testing.assert_allclose(
        np.array(points.get_xdata(), "float64"),
        [one["mean"] for one in statistics],
    )
    np.testing.assert_allclose(
        [np.ptp(segment[:, 0]) for segment in spread.get_segments()],
        [2 * one["std"] for one in statistics],
    )


def test_it_is_a_picture(tmp_path, log_dir):
    from matplotlib.image import imread

    path = tmp_path / "activations.png"
    plot_activations(log_dir).savefig(path, dpi=50)
    pixels = imread(path)
    assert pixels.shape[1] == 500
    # Blue lines on white paper.
    assert (pixels[..., 2] - pixels[..., 0] > 0.5).sum() > 100
    assert (pixels[..., :3] == 1).all(axis=-1).mean() > 0.5


def test_a_notebook_shows_it(log_dir):
    """As IPython asks for it; of the figure's own size and resolution."""
    figure = plot_activations(log_dir)
    with PIL.Image.open(io.BytesIO(figure._repr_png_())) as picture:
        assert picture.size == tuple(
            np.rint(figure.get_size_inches() * figure.dpi)
        )
        assert len(picture.convert("RGB").getcolors(2**20)) > 50


# Errors ----------------------------------------------------------------------


def test_without_matplotlib(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ImportError) as caught:
        plot_activations("logs")
    assert str(caught.value) == (
        'plot_activations needs matplotlib: pip install "keras-actpen[plot]"'
    )


def test_no_log_directory(tmp_path):
    with pytest.raises(ValueError, match="log") as caught:
        plot_activations(tmp_path)
    assert str(caught.value) == (
        "Invalid value received for argument `source`. Expected the log "
        "directory of a training with PenaltyMonitor. Received: "
        f"{str(tmp_path)!r}, in which there is no 'actpen/train'"
    )
    # That of a sweep has its trainings one level below.
    for name in ("first", "second [1]"):
        (tmp_path / name / "actpen" / "train").mkdir(parents=True)
    with pytest.raises(ValueError, match="There are trainings in") as caught:
        plot_activations(tmp_path)
    assert str(caught.value).endswith(
        f". There are trainings in {str(tmp_path / 'first')!r}, "
        f"{str(tmp_path / 'second [1]')!r}"
    )


def test_no_such_layer(log_dir):
    with pytest.raises(ValueError, match="glob") as caught:
        plot_activations(log_dir, layers="dense")
    assert str(caught.value) == (
        "Invalid value received for argument `layers`. Expected a glob that "
        "matches some of ['encoder/dense_4', 'encoder/code', "
        "'decoder/unfold']. Received: layers='dense'"
    )


def test_neither_path_nor_report():
    with pytest.raises(TypeError) as caught:
        plot_activations(3)
    assert str(caught.value) == (
        "Invalid type received for argument `source`. Expected a log "
        "directory, or the report that `penalty_report` returns. Received: "
        "source=3 (of type int)"
    )
