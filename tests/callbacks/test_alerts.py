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
    PenaltyScheduler,
    attach_penalty,
    backend,
    penalized_layers,
    penalty_gradient_share,
    watch_activations,
)
from keras_actpen.statistics.alerts import Alerts
from keras_actpen.statistics.findings import SAMPLES_TO_BE_DEAD
from keras_actpen.statistics.thresholds import THRESHOLDS

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


def texts(log_dir, run="actpen"):
    page = event_logs.read(log_dir)[f"{run}/train"].get("actpen/findings")
    if page is None:
        return {}
    assert page.plugin == "text"
    assert page.description
    return {
        step: html.unescape(value.ravel()[0].decode())
        for step, value in zip(page.steps, page.values, strict=True)
    }


def table_of(*rows):
    return "\n".join(["| epochs | finding |", "|---|---|", *rows])


def test_one_warning_a_kind_and_fit(tmp_path):
    model = attach_penalty(dying(6), "dense_4", l2=1.0)
    model = compiled(watch_activations(model, "head"))
    found = []
    monitor = PenaltyMonitor(
        tmp_path, on_finding=lambda *one: found.append(one)
    )
    for run in ("actpen", "actpen-2"):  # anew in every training
        messages, history = fit(model, monitor, epochs=2)
        shares = [
            f"the penalty is {100 * penalty / loss:.0f} % of the loss"
            for penalty, loss in zip(
                history["penalty/dense_4/l2"], history["loss"], strict=True
            )
        ]
        dead = "dense_4: 75 % of units are dead"
        assert messages == [dead, f"dense_4: {shares[0]}"]
        # One table: what it was when each row came, and what it is at the end.
        assert texts(tmp_path, run) == {
            step: table_of(
                f"| {epochs} | {dead} |",
                f"| {epochs} | dense_4: {shares[step]} |",
            )
            for step, epochs in enumerate(("0", "0 to 1"))
        }
    assert [finding.kind for finding, _ in found] == [
        "dead",
        "dominating",
    ] * 4
    assert all(of is model for _, of in found)
    assert found[0][0] == Finding(
        "dead", "dense_4", 0.75, 0.5, "75 % of units are dead"
    )


def test_warnings_point_at_the_fit_of_the_user():
    model = compiled(attach_penalty(sequential(), "dense_4", l2=1e3))
    x, y = data()
    with caught_warnings() as caught:
        model.fit(x, y, callbacks=[PenaltyMonitor(None)], verbose=0)
    assert [one.filename for one in caught] == [__file__]


def test_several_layers_in_one_warning():
    model = attach_penalty(nested(), ["head", "encoder/*"], l2=1.0)
    found = []
    monitor = PenaltyMonitor(
        None,
        alerts={"dominating": 0.0},
        on_finding=lambda finding, _: found.append(finding),
    )
    (message,), _ = fit(compiled(model), monitor)
    assert [one.path for one in found] == [
        "encoder/dense_4",
        "encoder/code",
        "decoder/head",
    ]
    worst = max(found, key=lambda one: one.value)
    others = ", ".join(one.path for one in found if one is not worst)
    assert message == (
        f"3 of 3 layers, worst {worst.path}: {worst.message}. The others are "
        f"{others}"
    )


def test_a_second_warning_where_it_has_grown_worse():
    alerts = Alerts(("dead", "dominating"), None)

    def warned(*values):
        findings = [
            Finding("dead", f"layer_{i}", value, 0.5, f"{value:g} are dead")
            for i, value in enumerate(values)
        ]
        with caught_warnings() as caught:
            alerts.announce(findings, None, 4)
        return [str(one.message) for one in caught]

    assert warned(0.5) == ["layer_0: 0.5 are dead"]
    assert warned(0.6) == []
    assert warned(0.5, 0.6) == [
        "2 of 4 layers, worst layer_1: 0.6 are dead. The others are layer_0"
    ]
    # Twice as many dead to a living one as 0.6 are.
    assert warned(0.74, 0.6) == []
    assert warned(0.76) == ["layer_0: 0.76 are dead"]
    assert warned(0.5, 0.5) == []


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
        ("sparse", ["dead"]),
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
        ] * bool(found_in)
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


def test_a_coefficient_that_is_moved_is_not_negligible():
    """A warm-up, or a controller, keeps it small on purpose."""
    model = attach_penalty(sequential(), "dense_4", l2=1.0)
    model.compile("sgd", "mse", **QUICK)
    callbacks = [
        PenaltyScheduler(lambda step: 1e-9),
        PenaltyMonitor(None, alerts=("negligible",)),
    ]
    model.fit(*data(), epochs=3, callbacks=callbacks, verbose=0)
    with pytest.warns(UserWarning, match="raise its coefficient"):
        model.fit(*data(), epochs=3, callbacks=callbacks[1:], verbose=0)


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
    # The sums on a device are compensated: infinity minus infinity.
    of_term = "the penalty l1 is " + ("inf" if backend.is_on_host() else "nan")
    assert [str(one.message) for one in caught] == [f"dense_4: {of_term}"]
    if log_dir:
        found = texts(tmp_path / log_dir)
        assert found == {
            0: table_of(
                "| 0 | dense_4: 6 activations are NaN or infinite |",
                f"| 0 | dense_4: {of_term} |",
            )
        }


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
        f"dense_4: about {100 * share:.0f} % of activations are saturated"
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


class OwnLoss(keras.Model):
    """A loss of the user's own that leaves out `self.losses`."""

    def compute_loss(
        self, x=None, y=None, y_pred=None, sample_weight=None, training=True
    ):
        return keras.ops.mean(keras.ops.square(y_pred - y))


class OwnStep(keras.Model):
    """As in keras.io's VAE and its guide to JAX: no `self.losses`."""

    def train_step(self, *args):
        if keras.backend.backend() == "jax":
            return self.jax_step(*args)
        (data_,) = args
        x, y = data_
        if keras.backend.backend() == "torch":
            self.zero_grad()
            loss = keras.ops.mean(keras.ops.square(self(x) - y))
            loss.backward()
            variables = self.trainable_variables
            gradients = [one.value.grad for one in variables]
            import torch

            with torch.no_grad():
                self.optimizer.apply(gradients, variables)
        else:
            import tensorflow as tf

            with tf.GradientTape() as tape:
                loss = keras.ops.mean(keras.ops.square(self(x) - y))
            variables = self.trainable_variables
            gradients = tape.gradient(loss, variables)
            self.optimizer.apply(gradients, variables)
        return {"loss": loss, "own": loss}

    def jax_step(self, state, data_):
        import jax

        trainable, non_trainable, of_optimizer, metrics = state
        x, y = data_

        def loss_of(trainable):
            y_pred, others = self.stateless_call(trainable, non_trainable, x)
            return keras.ops.mean(keras.ops.square(y_pred - y)), others

        gradient = jax.value_and_grad(loss_of, has_aux=True)
        (loss, others), gradients = gradient(trainable)
        trainable, of_optimizer = self.optimizer.stateless_apply(
            of_optimizer, gradients, trainable
        )
        # With "loss" alone Keras reports its own metric of that name.
        logs = {"loss": loss, "own": loss}
        return logs, (trainable, others, of_optimizer, metrics)


def of_class(kind):
    inputs = keras.Input((4,))
    dense = layers.Dense(8, activation="relu", name="dense_4")
    return kind(inputs, layers.Dense(2, name="head")(dense(inputs)))


UNUSED = (
    "dense_4: your train_step or compute_loss does not add "
    "`sum(self.losses)`; the penalty is not in the loss"
)


class Batches(keras.callbacks.Callback):
    def on_train_batch_begin(self, batch, logs=None):
        self.batch = batch


@pytest.mark.parametrize("kind", [OwnLoss, OwnStep])
@pytest.mark.parametrize("log_dir", [None, "logs"])
def test_a_penalty_that_is_not_in_the_loss(kind, log_dir, tmp_path):
    model = compiled(attach_penalty(of_class(kind), "dense_4", l2=5.0))
    found, batches = [], Batches()
    monitor = PenaltyMonitor(
        log_dir and tmp_path / log_dir,
        statistics_freq=2,
        on_finding=lambda finding, _: found.append(
            (finding.kind, batches.batch)
        ),
    )
    x, y = data(40)
    with caught_warnings() as caught:
        history = model.fit(
            x,
            y,
            batch_size=10,
            epochs=2,
            callbacks=[batches, monitor],
            verbose=0,
        ).history
    assert [str(one.message) for one in caught] == [UNUSED]
    # In the step after the first, and no more.
    assert found == [("unused", 1)]
    assert history["penalty/dense_4/l2"][0] > history["loss"][0]
    if log_dir:
        run = event_logs.read(tmp_path / log_dir)["actpen/train"]
        assert run["actpen/task_loss"].values == pytest.approx(
            history["loss"], rel=1e-6
        )
        assert run["actpen/penalty_share"].values == [0.0, 0.0]
        assert run["penalty.share/dense_4/l2"].values == [0.0, 0.0]
        assert run["penalty/dense_4/l2"].values == pytest.approx(
            history["penalty/dense_4/l2"], rel=1e-6
        )
        assert texts(tmp_path / log_dir) == {
            step: table_of(f"| {epochs} | {UNUSED} |")
            for step, epochs in enumerate(("0", "0 to 1"))
        }


def test_a_custom_loss_that_has_the_penalty():
    class Doubled(keras.Model):
        def compute_loss(self, *args, **kwargs):
            return 2 * super().compute_loss(*args, **kwargs)

    model = compiled(attach_penalty(of_class(Doubled), "dense_4", l2=1e-3))
    assert fit(model, PenaltyMonitor(None), epochs=2)[0] == []


FROZEN = (
    "nothing that the penalty depends on is trainable; it changes no weight"
)


def test_a_penalty_in_front_of_which_nothing_is_trainable(tmp_path):
    model = nested()
    model = attach_penalty(model, ["encoder/*", "head", "unfold"], l2=1e-3)
    model.get_layer("encoder").trainable = False
    kernel = penalized_layers(model)["encoder/dense_4"].get_weights()[0]
    found = []
    monitor = PenaltyMonitor(
        tmp_path,
        alerts=("frozen", "unused"),
        on_finding=lambda finding, _: found.append(finding.path),
    )
    messages, _ = fit(compiled(model), monitor, epochs=2)
    assert messages == [
        f"2 of 4 layers: {FROZEN}. They are encoder/dense_4, encoder/code"
    ]
    assert found == ["encoder/dense_4", "encoder/code"]
    after = penalized_layers(model)["encoder/dense_4"].get_weights()[0]
    np.testing.assert_array_equal(after, kernel)
    # Thawed, it is as good as any.
    model.get_layer("encoder").trainable = True
    assert fit(compiled(model), PenaltyMonitor(None))[0] == []


@pytest.mark.parametrize(
    "paths", [["encoder", "encoder/dense_4"], ["encoder/dense_4", "encoder"]]
)
def test_a_frozen_layer_of_a_nested_model_that_is_penalized_too(paths):
    model = nested()
    for path in paths:
        model = attach_penalty(model, path, l2=1e-3)
    model.get_layer("encoder").get_layer("dense_4").trainable = False
    messages, _ = fit(compiled(model), PenaltyMonitor(None))
    assert messages == [f"encoder/dense_4: {FROZEN}"]
    x, y = data()
    shares = penalty_gradient_share(model, x, y)
    assert shares["encoder/dense_4/l2"] == 0
    assert shares["encoder/l2"] > 0


def test_a_frozen_layer_behind_a_trainable_one():
    model = attach_penalty(sequential(), "head", l2=1e-3)
    model.get_layer("head").trainable = False
    assert fit(compiled(model), PenaltyMonitor(None))[0] == []


class GoesRound(keras.Model):
    """Calls a layer by what was noted before it was penalized."""

    def __init__(self):
        super().__init__(name="goes_round")
        self.dense_4 = layers.Dense(8, activation="relu", name="dense_4")
        self.head = layers.Dense(2, name="head")
        # Nothing sees whom it calls until the model is trained.
        self.encode = self.dense_4.call

    def call(self, inputs):
        if not self.dense_4.built:
            self.dense_4.build(inputs.shape)
        return self.head(self.encode(inputs))


def test_a_layer_that_the_model_goes_round():
    model = GoesRound()
    x, _ = data()
    model(x)
    model = compiled(attach_penalty(model, ["dense_4", "head"], l2=1e-3))
    found = []
    monitor = PenaltyMonitor(
        None, on_finding=lambda *one: found.append(one[0].kind)
    )
    messages, history = fit(model, monitor, epochs=2)
    assert messages == [
        "dense_4: the layer was not called in any step of the model; its "
        "penalty is 0 (does the model's code call another object, or bypass "
        "it?)"
    ]
    assert found == ["not_called"]
    assert history["penalty/dense_4/l2"] == [0.0, 0.0]
    assert history["penalty/head/l2"][0] > 0


def test_callbacks_driven_by_hand():
    model = compiled(attach_penalty(sequential(), "dense_4", l2=1e-3))
    x, y = data()
    monitor = PenaltyMonitor(None, alerts=())
    callbacks = keras.callbacks.CallbackList([monitor], model=model)
    callbacks.on_train_begin()
    callbacks.on_epoch_begin(0)
    for batch in range(2):
        callbacks.on_train_batch_begin(batch)
        model.train_on_batch(x, y)
    logs = {}
    monitor.on_epoch_end(0, logs)
    callbacks.on_train_end()
    assert logs["penalty/dense_4/l2"] > 0


@pytest.mark.parametrize("verbose_terms", [False, True])
def test_progress_bar(verbose_terms, capsys):
    model = attach_penalty(nested(), ["head", "encoder/*"], l2=0.5)
    x, y = data()
    monitor = PenaltyMonitor(None, alerts=(), verbose_terms=verbose_terms)
    history = (
        compiled(model)
        .fit(
            x,
            y,
            callbacks=[monitor],
            validation_data=(x, y),
            verbose=2,
        )
        .history
    )
    line = capsys.readouterr().out
    paths = ["encoder/dense_4", "encoder/code", "decoder/head"]
    terms = [f"penalty/{path}/l2" for path in paths]
    # In model order, and at the end.
    both = terms + [f"val_{key}" for key in terms]
    assert list(history)[-6:] == both
    assert [key for key in both if f" {key}: " in line] == (
        both if verbose_terms else []
    )
    total = sum(history[key][0] for key in terms)
    assert (f" penalty_total: {total:.4f}" in line) == (not verbose_terms)
    assert (" val_penalty_total: " in line) == (not verbose_terms)


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
