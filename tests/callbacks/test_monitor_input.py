"""What a monitor makes of what users and other callbacks hand to it."""

import os
import sys
import warnings

import event_logs
import hparams_page
import keras
import numpy as np
import pytest
from keras import layers
from models import FEATURES, QUICK, data, sequential
from tensorboard.backend.event_processing.event_accumulator import (
    EventAccumulator,
)

from keras_actpen import (
    PenaltyMonitor,
    TargetController,
    attach_penalty,
    penalty_report,
    plot_activations,
    watch_activations,
)

KEY = "penalty/dense_4/l2"


def penalized(**arguments):
    model = attach_penalty(sequential(), "dense_4", l2=0.01)
    model.compile(keras.optimizers.SGD(0.05), "mse", **QUICK, **arguments)
    return model


def fit(model, *callbacks, epochs=2, validate=True):
    x, y = data()
    if validate:
        return model.fit(
            x,
            y,
            epochs=epochs,
            verbose=0,
            validation_data=(x, y),
            callbacks=list(callbacks),
        ).history
    return model.fit(
        x, y, epochs=epochs, verbose=0, callbacks=list(callbacks)
    ).history


def train(log_dir, run="actpen/train"):
    return event_logs.read(log_dir)[run]


class Adds(keras.callbacks.Callback):
    """Puts something into the logs of every epoch."""

    def __init__(self, **logs):
        super().__init__()
        self.logs = logs

    def on_epoch_end(self, epoch, logs=None):
        logs.update(self.logs)


class Evil:
    def __array__(self, dtype=None, copy=None):
        raise RuntimeError("no")


NO_NUMBERS = {
    "text": "bar",
    "digits": "3",
    "mapping": {"a": 1},
    "object": object(),
    "evil": Evil(),
    "none": None,
    "complex": 1j,
    "ragged": [[1], [1, 2]],
    "empty": [],
    "function": print,
}


def test_what_is_no_number_takes_nothing_with_it(tmp_path):
    model = penalized()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        fit(
            model,
            Adds(**NO_NUMBERS, good=7, val_note="x"),
            PenaltyMonitor(tmp_path),
        )
    told = [str(one.message) for one in caught]
    assert sorted(one for one in told if "in the logs" in one) == sorted(
        f"`{key}` in the logs is not in TensorBoard: it is not a number but a "
        f"{type(value).__name__}."
        for key, value in {**NO_NUMBERS, "val_note": "x"}.items()
    )
    log = event_logs.read(tmp_path)
    assert log["actpen/train"][KEY].steps == [0, 1]
    assert log["actpen/validation"][KEY].steps == [0, 1]
    assert {t for t in log["actpen/train"] if t.startswith("metric/")} == {
        "metric/loss",
        "metric/good",
        "metric/learning_rate",
    }
    assert log["actpen/train"]["metric/good"].values == [7, 7]


def test_a_vector_metric_has_a_curve_an_element(tmp_path):
    inputs = keras.Input((6,))
    hidden = layers.Dense(8, activation="relu", name="dense_4")(inputs)
    outputs = layers.Dense(3, activation="softmax")(hidden)
    model = attach_penalty(keras.Model(inputs, outputs), "dense_4", l2=0.01)
    model.compile(
        "sgd",
        "categorical_crossentropy",
        metrics=[keras.metrics.F1Score()],
        **QUICK,
    )
    x = np.random.default_rng(0).normal(size=(12, 6)).astype("float32")
    y = np.eye(3, dtype="float32")[np.arange(12) % 3]
    history = model.fit(
        x, y, epochs=2, verbose=0, callbacks=[PenaltyMonitor(tmp_path)]
    ).history
    found = train(tmp_path)
    scores = [keras.ops.convert_to_numpy(one) for one in history["f1_score"]]
    for index in range(3):
        values = found[f"metric/f1_score/{index}"].values
        assert values == [np.float32(score[index]) for score in scores]
    # A vector under a tag of scalars makes both loaders stumble.
    for run in ("train", "hparams"):
        accumulator = EventAccumulator(str(tmp_path / "actpen" / run)).Reload()
        for tag in accumulator.Tags()["tensors"]:
            metadata = accumulator.SummaryMetadata(tag)
            if metadata.plugin_data.plugin_name == "scalars":
                for event in accumulator.Tensors(tag):
                    assert not event.tensor_proto.tensor_shape.dim, tag
    pytest.importorskip("matplotlib")
    assert len(plot_activations(tmp_path).axes) == 3


def test_a_metric_may_be_called_like_one_of_validation(tmp_path):
    metric = keras.metrics.MeanAbsoluteError(name="val_like")
    model = penalized(metrics=[metric])
    history = fit(model, Adds(val_mine=3.0), PenaltyMonitor(tmp_path / "a"))
    assert {"val_like", "val_val_like"} <= {*history}
    log = event_logs.read(tmp_path / "a")
    for run, key in (("train", "val_like"), ("validation", "val_val_like")):
        values = log[f"actpen/{run}"]["metric/val_like"].values
        assert values == list(np.float32(history[key]))
    # What another callback calls so is of the validation.
    assert log["actpen/validation"]["metric/mine"].values == [3, 3]
    fit(model, PenaltyMonitor(tmp_path / "b"), validate=False)
    assert "metric/val_like" in train(tmp_path / "b")


@pytest.mark.parametrize("first", [True, False])
def test_the_learning_rate_is_there_wherever_the_monitor_stands(
    tmp_path, first
):
    rates = [0.5, 0.25]
    schedule = keras.callbacks.LearningRateScheduler(lambda epoch: rates[epoch])
    callbacks = [schedule, PenaltyMonitor(tmp_path)]
    fit(penalized(), *(callbacks[::-1] if first else callbacks))
    assert train(tmp_path)["metric/learning_rate"].values == rates


def test_the_log_directory_stays_when_the_process_moves(tmp_path, monkeypatch):
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path)

    class Move(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            os.chdir(tmp_path / "elsewhere")

    fit(penalized(), Move(), PenaltyMonitor("logs"), epochs=3)
    assert train(tmp_path / "logs")[KEY].steps == [0, 1, 2]
    assert not any((tmp_path / "elsewhere").iterdir())


def test_a_monitor_may_be_given_another_log_directory(tmp_path):
    model, monitor = penalized(), PenaltyMonitor(tmp_path / "a")
    fit(model, monitor, epochs=1, validate=False)
    monitor.log_dir = str(tmp_path / "b")
    fit(model, monitor, epochs=1, validate=False)
    for name in "ab":
        assert [*event_logs.read(tmp_path / name)] == [
            "actpen/hparams",
            "actpen/train",
        ]


def test_a_package_that_is_not_installed_is_no_error(tmp_path, monkeypatch):
    from importlib import metadata

    def missing(name):
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "version", missing)
    monkeypatch.setattr(sys.modules["keras_actpen"], "__version__", "9.8.7")
    fit(penalized(), PenaltyMonitor(tmp_path), epochs=1)
    page = train(tmp_path)["actpen/attached"].values[0].item().decode()
    assert page.startswith("keras_actpen 9.8.7")


def odd():
    """Layers whose names look like the outputs of others."""
    inputs = keras.Input((FEATURES,))
    first, second = TwoOutputs(4, name="a")(inputs)
    x = layers.Dense(4, name="a[1]")(first + second)
    return keras.Model(inputs, layers.Dense(2, name="a[0]")(x))


class TwoOutputs(layers.Layer):
    def __init__(self, units, **kwargs):
        super().__init__(**kwargs)
        self.dense = layers.Dense(units)

    def build(self, shape):
        self.dense.build(shape)

    def call(self, x):
        y = self.dense(x)
        return y, -y


@pytest.mark.skipif(
    keras.backend.backend() == "tensorflow",
    reason="TensorFlow has no scopes of such names",
)
def test_tags_tell_layers_from_outputs(tmp_path):
    model = attach_penalty(odd(), ["a", "a[1]", "a[0]"], l2=0.01, output=0)
    model = attach_penalty(model, "a", l1=0.01, output=1)
    model.compile("sgd", "mse", **QUICK)
    fit(model, PenaltyMonitor(tmp_path), epochs=1)
    found = train(tmp_path)
    assert {t for t in found if t.startswith("activation.mean/")} == {
        f"activation.mean/{path}"
        for path in ("a", "a[1]", "a[1][0]", "a[0][0]")
    }
    # TensorBoard shows groups in this order.
    assert min(tag.partition("/")[0] for tag in event_logs.scalars(found)) == (
        "Overview"
    )
    # The second output of `a` is the first with the other sign.
    first, second = (
        found[f"activation.mean/{path}"].values[0] for path in ("a", "a[1]")
    )
    assert first == pytest.approx(-second, rel=1e-6)
    pytest.importorskip("matplotlib")
    figure = plot_activations(tmp_path)
    titles = [axes.get_title(loc="left") for axes in figure.axes[::3]]
    assert titles == ["a", "a[1]", "a[0]"]


def test_hparams_of_trainings_that_differ(tmp_path):
    def trained(name, attach, **arguments):
        model = attach(sequential(), "dense_4", **arguments)
        metrics = ["mae"] if name == "l2" else []
        model.compile("sgd", "mse", metrics=metrics, **QUICK)
        fit(model, PenaltyMonitor(tmp_path / name), epochs=1)

    trained("l1", attach_penalty, l1=0.01)
    trained("l2", attach_penalty, l2=0.0003)
    trained("none", watch_activations)
    rows = {
        row["name"].partition("/")[0]: row
        for row in hparams_page.rows(tmp_path)
    }
    assert {name: row["penalty terms"] for name, row in rows.items()} == {
        "l1": 1.0,
        "l2": 1.0,
        "none": 0.0,
    }
    assert rows["l1"]["dense_4/l1"] == 0.01
    assert rows["l2"]["dense_4/l2"] == 0.0003
    for name, row in rows.items():
        assert ("val_mae" in row) == (name == "l2")
        assert {"val_loss", "zeros dense_4"} <= {*row}
        assert ("penalty_total" in row) == (name != "none")


def test_validation_statistics_are_those_of_the_validation(tmp_path):
    model = penalized()
    model.optimizer.learning_rate = 0.0
    x, y = data(12)
    held_out = (x[:7] + 0.5, y[:7])
    layer = model.get_layer("dense_4").wrapped_layer
    monitor = PenaltyMonitor(
        tmp_path, statistics_freq=1, validation_statistics=True
    )
    for run in ("actpen", "actpen-2"):  # compiled once
        history = model.fit(
            x,
            y,
            batch_size=4,
            epochs=2,
            verbose=0,
            validation_data=held_out,
            callbacks=[monitor],
        ).history
        log = event_logs.read(tmp_path)
        for phase, inputs in (("train", x), ("validation", held_out[0])):
            h = keras.ops.convert_to_numpy(layer(inputs)).astype("float64")
            found = log[f"{run}/{phase}"]
            for name, value in (
                ("mean", h.mean()),
                ("std", h.std()),
                ("zero_fraction", (h == 0).mean()),
                ("dead_fraction", (h == 0).all(axis=0).mean()),
            ):
                series = found[f"activation.{name}/dense_4"]
                assert series.steps == [0, 1]
                np.testing.assert_allclose(
                    series.values, [value] * 2, rtol=3e-6, err_msg=name
                )
            positions = found["keras_actpen/positions"].values
            assert [one.tolist() for one in positions] == [[len(h)]] * 2
            rates = (h != 0).mean(axis=0).astype("float16")
            units = found["keras_actpen/units/dense_4"].values[-1]
            np.testing.assert_array_equal(units, rates)
    assert {*history} == {"loss", "val_loss", KEY, f"val_{KEY}"}


def test_batch_curves_are_live(tmp_path):
    """On disk while the epoch runs, and not only when it ends."""
    seen = []

    class Look(keras.callbacks.Callback):
        def on_train_batch_begin(self, batch, logs=None):
            if batch == 9:
                seen.extend(train(tmp_path)["penalty.batch/dense_4/l2"].steps)

    from keras_actpen.tensorboard import event_file

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(event_file, "_LIVE_SECONDS", 0.0)
        x, y = data(10)
        monitor = PenaltyMonitor(tmp_path, update_freq="batch", alerts=())
        penalized().fit(
            x, y, batch_size=1, verbose=0, callbacks=[monitor, Look()]
        )
    assert seen == list(range(1, 10))


@pytest.mark.parametrize("floatx", ["float64", "bfloat16"])
def test_other_float_types(tmp_path, floatx):
    if keras.backend.backend() == "jax" and floatx == "float64":
        pytest.skip("JAX has it if all of the process has")
    before = keras.config.floatx()
    x, y = data()
    try:
        keras.config.set_floatx(floatx)
        keras.config.set_dtype_policy(floatx)
        model = penalized()
        history = fit(model, PenaltyMonitor(tmp_path))
        control = TargetController("dense_4/l2", 0.5, update_freq=2)
        fit(model, control, epochs=3)
        report = penalty_report(model, x, y)
    finally:
        keras.config.set_floatx(before)
        keras.config.set_dtype_policy(before)
    tags = train(tmp_path)
    assert tags["metric/loss"].values == pytest.approx(
        [float(one) for one in history["loss"]]
    )
    (layer,) = report.layers
    statistics = layer.statistics["output"]
    assert 0 < statistics["zero_fraction"] < 1
    assert np.isfinite(report.loss)
    assert statistics["min"] == 0.0


def test_dead_units_that_nobody_is_told_of(tmp_path):
    model = attach_penalty(sequential(), "dense_4", l2=0.01, on="preactivation")
    model.compile("sgd", "mse", **QUICK)
    monitor = PenaltyMonitor(tmp_path, on_dead_units=print)
    with pytest.raises(ValueError, match=r"l2=0.0\).*'preactivation'"):
        fit(model, monitor)
    told = []
    monitor = PenaltyMonitor(
        tmp_path, on_dead_units=lambda *args: told.append(1)
    )
    fit(attach_penalty(model, "head", l2=0.0), monitor)
    assert len(told) == 2
