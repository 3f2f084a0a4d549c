"""Findings while a model trains."""

import contextlib
import copy
import html
import math
import warnings

import event_logs
import keras
import numpy as np
import pytest
from keras import layers
from models import QUICK, data, nested, sequential

from keras_actpen import (
    Finding,
    PenaltyMonitor,
    attach_penalty,
    backend,
    penalized_layers,
    watch_activations,
)
from keras_actpen.statistics.findings import SAMPLES_TO_BE_DEAD, THRESHOLDS

SAMPLES = SAMPLES_TO_BE_DEAD


def dying(dead, units=8):
    """A model of which some hidden units are dead and stay dead."""
    model = sequential()
    dense = model.get_layer("dense_4")
    kernel, bias = dense.get_weights()
    bias[:] = 10.0
    bias[:dead] = -1000.0
    dense.set_weights([kernel, bias])
    return model


def compiled(model, **arguments):
    model.compile(keras.optimizers.SGD(1e-6), "mse", **QUICK, **arguments)
    return model


@contextlib.contextmanager
def caught_warnings():
    """The warnings of a training; others than ours are errors."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.filterwarnings("always", category=UserWarning)
        yield caught


def fit(model, monitor, epochs=1, samples=SAMPLES, **arguments):
    """Messages of the warnings of a training, and its history."""
    x, y = data(samples)
    with caught_warnings() as caught:
        history = model.fit(
            x,
            y,
            batch_size=samples,
            epochs=epochs,
            callbacks=[monitor],
            verbose=0,
            **arguments,
        ).history
    return [str(one.message) for one in caught], history


def texts(log_dir):
    page = event_logs.read(log_dir)["actpen/train"].get("actpen/findings")
    if page is None:
        return {}
    assert page.plugin == "text"
    assert page.description
    return {
        step: html.unescape(value.ravel()[0].decode())
        for step, value in zip(page.steps, page.values, strict=True)
    }


def test_one_warning_a_layer_and_epoch(tmp_path):
    model = attach_penalty(dying(6), "dense_4", l2=1.0)
    model = compiled(watch_activations(model, "head"))
    found = []
    monitor = PenaltyMonitor(
        tmp_path, on_finding=lambda *one: found.append(one)
    )
    messages, history = fit(model, monitor, epochs=2)
    expected = [
        "dense_4: 75 % of units are dead; the penalty is "
        f"{100 * penalty / loss:.0f} % of the loss"
        for penalty, loss in zip(
            history["penalty/dense_4/l2"], history["loss"], strict=True
        )
    ]
    assert messages == expected
    # One table: what it was when each row came, and what it is at the end.
    assert texts(tmp_path) == {
        step: "\n".join(
            [
                "| epochs | finding |",
                "|---|---|",
                f"| {epochs} | dense_4: 75 % of units are dead |",
                f"| {epochs} | dense_4: {expected[step].split('; ')[1]} |",
            ]
        )
        for step, epochs in enumerate(("0", "0 to 1"))
    }
    assert [finding.kind for finding, _ in found] == [
        "dead",
        "dominating",
    ] * 2
    assert all(of is model for _, of in found)
    assert found[0][0] == Finding(
        "dead", "dense_4", 0.75, 0.5, "75 % of units are dead"
    )


def test_layers_in_model_order():
    model = attach_penalty(nested(), ["head", "encoder/*"], l2=1.0)
    monitor = PenaltyMonitor(None, alerts={"dominating": 0.0})
    messages, _ = fit(compiled(model), monitor)
    assert [message.partition(":")[0] for message in messages] == [
        "encoder/dense_4",
        "encoder/code",
        "decoder/head",
    ]


def test_a_healthy_training_is_not_warned_of(tmp_path):
    model = compiled(attach_penalty(sequential(), "dense_4", l2=0.01))
    messages, _ = fit(model, PenaltyMonitor(tmp_path), epochs=3)
    assert messages == []
    assert texts(tmp_path) == {}


@pytest.mark.parametrize(
    ("alerts", "kinds"),
    [
        ((), []),
        (("dead",), ["dead"]),
        ({"dead": 0.8}, ["dominating"]),
        ({"dead": None}, ["dominating"]),
        ({"dominating": 1.0}, ["dead"]),
    ],
)
def test_kinds_and_thresholds(tmp_path, alerts, kinds):
    model = compiled(attach_penalty(dying(6), "dense_4", l2=10.0))
    found = []
    monitor = PenaltyMonitor(
        tmp_path,
        alerts=alerts,
        on_finding=lambda finding, _: found.append(finding.kind),
    )
    messages, _ = fit(model, monitor)
    assert found == kinds
    assert len(messages) == min(len(kinds), 1)


class Epochs(keras.callbacks.Callback):
    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch


@pytest.mark.parametrize(
    ("dead", "found_in"), [(6, [3, 4, 5, 6, 7, 8]), (3, [])]
)
def test_dead_units_of_short_epochs(tmp_path, dead, found_in):
    model = compiled(attach_penalty(dying(dead), "dense_4", l2=1e-9))
    epochs, found = Epochs(), []
    monitor = PenaltyMonitor(
        tmp_path,
        alerts=("dead",),
        on_finding=lambda finding, _: found.append(epochs.epoch),
    )
    x, y = data(32)
    for _ in range(2):  # counted anew in every training
        with caught_warnings() as caught:
            model.fit(x, y, epochs=9, callbacks=[epochs, monitor], verbose=0)
        assert [str(one.message) for one in caught] == [
            "dense_4: 75 % of units are dead"
        ] * len(found_in)
        assert found == found_in
        found.clear()


def test_units_that_fire_in_one_epoch_are_not_dead(tmp_path):
    model = dying(6)
    dense = model.get_layer("dense_4")

    class Wake(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            kernel, _ = dense.get_weights()
            bias = np.full(8, 10.0 if epoch == 1 else -1000.0)
            dense.set_weights([kernel, bias])

    model = compiled(attach_penalty(model, "dense_4", l2=1e-9))
    monitor = PenaltyMonitor(tmp_path, alerts=("dead",))
    x, y = data(32)
    with caught_warnings() as caught:
        model.fit(x, y, epochs=7, callbacks=[Wake(), monitor], verbose=0)
    assert not caught


def test_terms_are_judged_without_a_log_directory():
    model = attach_penalty(dying(6), "dense_4", l2=10.0)
    messages, history = fit(compiled(model), PenaltyMonitor(None))
    (penalty,), (loss,) = history["penalty/dense_4/l2"], history["loss"]
    assert messages == [
        f"dense_4: the penalty is {100 * penalty / loss:.0f} % of the loss"
    ]


def test_negligible_from_the_second_epoch_on():
    model = compiled(attach_penalty(sequential(), "dense_4", l2=1e-7))
    found = []
    monitor = PenaltyMonitor(
        None,
        on_finding=lambda finding, model: found.append(
            (finding.kind, finding.value)
        ),
    )
    for _ in range(2):  # counted anew in every training
        messages, history = fit(model, monitor, epochs=2)
        share = history["penalty/dense_4/l2"][1] / history["loss"][1]
        assert messages == [
            f"dense_4: the penalty is {100 * share:.2g} % of the loss (raise "
            "its coefficient, `suggest_coefficient` finds one)"
        ]
        assert found.pop() == ("negligible", pytest.approx(share, rel=1e-6))
        assert not found


def test_a_penalty_that_is_off_is_not_negligible():
    model = compiled(attach_penalty(sequential(), "dense_4", l2=0.0))
    assert fit(model, PenaltyMonitor(None), epochs=2)[0] == []


def test_a_layer_without_terms_is_not_negligible(tmp_path):
    model = compiled(watch_activations(sequential(), "dense_4"))
    assert fit(model, PenaltyMonitor(tmp_path), epochs=2)[0] == []


@pytest.mark.parametrize("log_dir", [None, "logs"])
def test_infinite_activations(log_dir, tmp_path):
    inputs = keras.Input((4,))
    x = layers.Dense(3, name="dense_4", kernel_initializer="ones")(inputs)
    outputs = layers.Rescaling(0.0)(x)
    model = attach_penalty(keras.Model(inputs, outputs), "dense_4", l1=0.1)
    model = compiled(model)
    monitor = PenaltyMonitor(log_dir and tmp_path / log_dir)
    x = np.full((2, 4), 3e38, "float32")
    with caught_warnings() as caught:
        model.fit(x, x[:, :3], callbacks=[monitor], verbose=0)
    of_values = "6 activations are NaN or infinite; " if log_dir else ""
    assert [str(one.message) for one in caught] == [
        # The sums on a device are compensated: infinity minus infinity.
        f"dense_4: {of_values}the penalty l1 is "
        + ("inf" if backend.is_on_host() else "nan")
    ]


def test_saturated_units(tmp_path):
    inputs = keras.Input((4,))
    dense = layers.Dense(
        3, activation="tanh", name="dense_4", kernel_initializer="ones"
    )
    model = keras.Model(inputs, dense(inputs * 100.0))
    model = compiled(watch_activations(model, "dense_4"))
    x, _ = data(SAMPLES)
    h = np.tanh(100.0 * x.astype("float64").sum(axis=1))
    share = np.mean(np.abs(h) > 0.9)
    assert share > 0.5
    with caught_warnings() as caught:
        model.fit(
            x,
            x[:, :3],
            batch_size=SAMPLES,
            callbacks=[PenaltyMonitor(tmp_path)],
            verbose=0,
        )
    assert [str(one.message) for one in caught] == [
        f"dense_4: {100 * share:.0f} % of activations are saturated"
    ]


def test_exploding_activations(tmp_path):
    model = compiled(watch_activations(sequential(), "dense_4"))
    x, y = data(SAMPLES)
    monitor = PenaltyMonitor(tmp_path, alerts={"dead": None})
    inner = keras.Model(model.inputs, model.get_layer("dense_4").output)
    x = x * 1e5
    h = np.asarray(inner.predict(x, verbose=0), "float64")
    rms = math.sqrt(np.mean(h**2))
    with caught_warnings() as caught:
        model.fit(x, y, batch_size=SAMPLES, callbacks=[monitor], verbose=0)
    assert [str(one.message) for one in caught] == [
        f"dense_4: the activations have a root mean square of {rms:.3g}"
    ]


def test_on_finding_may_stop_the_training():
    model = compiled(attach_penalty(sequential(), "dense_4", l2=1e3))

    def stop(finding, model):
        assert finding.path == "dense_4"
        model.stop_training = True

    monitor = PenaltyMonitor(None, on_finding=stop)
    messages, history = fit(model, monitor, epochs=5)
    assert len(messages) == len(history["loss"]) == 1


def test_on_finding_may_lower_the_coefficient():
    model = compiled(attach_penalty(sequential(), "dense_4", l2=1e3))

    def lower(finding, model):
        layer = penalized_layers(model)[finding.path]
        layer.coefficients["l2"] = 1e-3

    messages, history = fit(
        model, PenaltyMonitor(None, on_finding=lower), epochs=2
    )
    assert len(messages) == 1
    first, second = history["penalty/dense_4/l2"]
    # The model changes little at this learning rate.
    assert second == pytest.approx(1e-6 * first, rel=0.5)


def test_the_epoch_is_written_if_the_warning_is_an_error(tmp_path):
    model = compiled(attach_penalty(sequential(), "dense_4", l2=1e3))
    x, y = data()
    with warnings.catch_warnings():
        warnings.filterwarnings("error", category=UserWarning)
        with pytest.raises(UserWarning, match="the penalty is"):
            model.fit(x, y, callbacks=[PenaltyMonitor(tmp_path)], verbose=0)
    run = event_logs.read(tmp_path)["actpen/train"]
    assert run["penalty/dense_4/l2"].steps == [0]
    assert run["actpen/findings"].steps == [0]
    assert "the penalty is" in texts(tmp_path)[0]


def test_copies_keep_their_alerts():
    found = []
    monitor = PenaltyMonitor(
        None,
        alerts={"dominating": 0.25},
        on_finding=lambda finding, model: found.append(finding.threshold),
    )
    model = compiled(attach_penalty(sequential(), "dense_4", l2=1e3))
    fit(model, copy.deepcopy(monitor))
    assert found == [0.25]


def test_wrong_arguments():
    with pytest.raises(ValueError, match="kinds") as caught:
        PenaltyMonitor(alerts=("death",))
    assert str(caught.value) == (
        "Invalid value received for argument `alerts`. Expected kinds among "
        f"{list(THRESHOLDS)}. Received: 'death'"
    )
    with pytest.raises(TypeError) as caught:
        PenaltyMonitor(on_finding="print")
    assert str(caught.value) == (
        "Invalid type received for argument `on_finding`. Expected a "
        "function f(finding, model), or None. Received: on_finding='print' "
        "(of type str)"
    )
