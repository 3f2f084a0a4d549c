"""PenaltyScheduler: exact coefficients, no retrace, right after a restart."""

import copy
import doctest
import math
import re

import keras
import numpy as np
import pytest
from keras import ops
from models import QUICK, data, functional, sequential

from keras_actpen import (
    GECO,
    PenaltyMonitor,
    TargetController,
    attach_penalty,
    penalized_layers,
)
from keras_actpen.callbacks import penalty_scheduler as module
from keras_actpen.callbacks.penalty_scheduler import PenaltyScheduler
from keras_actpen.callbacks.term_refs import move_coefficients, select_terms

schedules = keras.optimizers.schedules
BATCH = 5  # of 10 samples: 2 steps an epoch

# A constant loss depends on no weight.
pytestmark = pytest.mark.filterwarnings(
    "ignore:The penalty on 'ones' changes no weight"
)


class Seen(keras.callbacks.Callback):
    """The loss of every step, as Keras reports it."""

    def __init__(self):
        super().__init__()
        self.steps = []

    def on_train_batch_end(self, batch, logs=None):
        self.steps.append(logs["loss"])


def constant_model(layer=None, **penalties):
    """A model whose loss is the sum of its coefficients (of values 1)."""
    inputs = keras.Input((1,))
    x = (layer or keras.layers.Identity(name="ones"))(inputs)
    outputs = keras.layers.Dense(
        1, kernel_initializer="zeros", use_bias=False, name="head"
    )(x * 0.0)
    model = keras.Model(inputs, outputs)
    model = attach_penalty(model, "ones", **(penalties or {"l1": 0.5}))
    model.compile(keras.optimizers.SGD(0.1), "mse", **QUICK)
    return model


def fit(model, *callbacks, samples=10, epochs=1, **arguments):
    x = np.ones((samples, 1), "float32")
    seen = Seen()
    history = model.fit(
        x,
        0 * x,
        batch_size=BATCH,
        epochs=epochs,
        verbose=0,
        callbacks=[*callbacks, seen],
        **arguments,
    )
    # Keras reports means since the epoch began.
    means = np.array(seen.steps, "float64").reshape(
        -1, math.ceil(samples / BATCH)
    )
    count = np.arange(1, means.shape[1] + 1)
    steps = np.diff(means * count, axis=1, prepend=0.0)
    return steps.flatten(), history.history


def late_start(step):
    return (
        f"PenaltyScheduler starts at step {step} of its schedule, because "
        "the optimizer has already taken that many steps. To start at step 0, "
        "compile the model again with a new optimizer, or shift the "
        "schedule: `PenaltyScheduler(lambda t: schedule(max(0, t - "
        f"{step})))`."
    )


def exactly(message):
    return f"^{re.escape(message)}$"


def test_by_step():
    steps, history = fit(
        constant_model(), PenaltyScheduler(lambda t: t / 4), epochs=3
    )
    np.testing.assert_allclose(
        steps, 0.5 * np.arange(6) / 4, rtol=1e-5, atol=1e-7
    )
    assert history["penalty.coefficient/ones/l1"] == [0.125, 0.375, 0.625]


def test_by_epoch():
    steps, history = fit(
        constant_model(),
        PenaltyScheduler(lambda t: 2.0**t, unit="epoch"),
        epochs=3,
    )
    np.testing.assert_allclose(steps, [0.5, 0.5, 1, 1, 2, 2], rtol=1e-5)
    assert history["penalty.coefficient/ones/l1"] == [0.5, 1.0, 2.0]


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        (
            schedules.PolynomialDecay(0.0, 4, 1.0),
            lambda t: min(t / 4, 1.0),
        ),
        (
            schedules.CosineDecay(1.0, 8),
            lambda t: 0.5 + 0.5 * math.cos(math.pi * min(t / 8, 1)),
        ),
        (
            schedules.PiecewiseConstantDecay([2], [0.0, 1.0]),
            lambda t: float(t > 2),
        ),
    ],
    ids=["linear", "cosine", "delayed"],
)
def test_keras_schedules(schedule, expected):
    steps, _ = fit(constant_model(), PenaltyScheduler(schedule), epochs=4)
    np.testing.assert_allclose(
        steps, [0.5 * expected(t) for t in range(8)], rtol=1e-4, atol=1e-6
    )


def test_thousand_changes_trace_once():
    traces = []

    def traced_l1(h):
        traces.append(h)
        return ops.sum(ops.abs(h))

    model = constant_model(penalty=traced_l1)
    fit(model, samples=2 * BATCH)
    first = len(traces)
    scheduler = PenaltyScheduler(lambda t: (t % 7 + 1) / 1000)
    with pytest.warns(UserWarning, match=exactly(late_start(2))):
        steps, _ = fit(model, scheduler, samples=250 * BATCH, epochs=4)
    eager = keras.backend.backend() == "torch"
    assert len(traces) - first == (1000 if eager else 0)
    expected = [((t + 2) % 7 + 1) / 1000 for t in range(1000)]
    np.testing.assert_allclose(steps, expected, rtol=1e-2)
    assert len(set(expected)) == 7


def test_beside_a_monitor(tmp_path):
    steps, history = fit(
        constant_model(),
        PenaltyScheduler(lambda t: t / 4),
        PenaltyMonitor(tmp_path, alerts=()),
        epochs=2,
    )
    np.testing.assert_allclose(
        steps, 0.5 * np.arange(4) / 4, rtol=1e-5, atol=1e-7
    )
    assert history["penalty/ones/l1"] == pytest.approx([0.0625, 0.3125])


def test_chosen_layers_and_terms():
    model = functional()
    for name in ("first", "dense_4"):
        model = attach_penalty(model, name, l1=0.5, l2=2.0)
    model.compile("sgd", "mse", **QUICK)
    x, y = data()
    model.fit(
        x,
        y,
        verbose=0,
        callbacks=[PenaltyScheduler(lambda t: 3.0, ["dense*"], "*2")],
    )
    layers = penalized_layers(model)
    assert dict(layers["first"].coefficients) == {"l1": 0.5, "l2": 2.0}
    assert dict(layers["dense_4"].coefficients) == {"l1": 0.5, "l2": 6.0}


def test_second_fit_goes_on_by_step():
    model = constant_model()
    scheduler = PenaltyScheduler(lambda t: t)
    fit(model, scheduler, epochs=2)
    steps, _ = fit(model, scheduler)
    np.testing.assert_allclose(steps, [2.0, 2.5], rtol=1e-5)


def test_initial_epoch():
    scheduler = PenaltyScheduler(lambda t: t, unit="epoch")
    steps, _ = fit(constant_model(), scheduler, epochs=4, initial_epoch=2)
    np.testing.assert_allclose(steps, [1.0, 1.0, 1.5, 1.5], rtol=1e-5)


def test_gradient_accumulation_counts_batches():
    model = constant_model()
    model.compile(
        keras.optimizers.SGD(0.1, gradient_accumulation_steps=2), "mse", **QUICK
    )
    fit(model, epochs=2)
    with pytest.warns(UserWarning, match=exactly(late_start(4))):
        steps, _ = fit(model, PenaltyScheduler(lambda t: t), epochs=2)
    np.testing.assert_allclose(steps, [2.0, 2.5, 3.0, 3.5], rtol=1e-5)


@pytest.mark.parametrize("scaled", [False, True])
def test_second_fit_under_gradient_accumulation(scaled):
    """Five batches are one update of three and two thirds of the next."""
    model = constant_model()
    optimizer = keras.optimizers.SGD(0.0, gradient_accumulation_steps=3)
    if scaled:
        optimizer = keras.optimizers.LossScaleOptimizer(optimizer)
    model.compile(optimizer, "mse", **QUICK)
    scheduler = PenaltyScheduler(lambda t: t)
    fit(model, scheduler, samples=25)
    steps, _ = fit(model, scheduler, samples=25)
    np.testing.assert_allclose(steps, np.arange(5, 10) / 2, rtol=1e-5)


def test_load_model_goes_on(tmp_path):
    model = constant_model()
    fit(model, PenaltyScheduler(lambda t: 1 + t), epochs=2)
    assert penalized_layers(model)["ones"].coefficients["l1"] == 2.0
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    # The current coefficient, and the attached one as the base.
    assert penalized_layers(loaded)["ones"].coefficients["l1"] == 2.0
    with pytest.warns(UserWarning, match=exactly(late_start(4))) as caught:
        steps, _ = fit(loaded, PenaltyScheduler(lambda t: 1 + t), epochs=2)
    assert [w.category for w in caught].count(UserWarning) == 1
    np.testing.assert_allclose(steps, [2.5, 3.0, 3.5, 4.0], rtol=1e-5)


@pytest.mark.parametrize(
    ("schedule", "arguments"),
    [
        (lambda t: 3.0, {}),
        (schedules.PolynomialDecay(1.0, 2, 1.0), {}),
        # What the warning says to write.
        (lambda t: schedules.PolynomialDecay(0.0, 2, 1.0)(max(0, t - 2)), {}),
        (lambda t: t - 2, {}),
        (lambda t: 1 / t, {}),
        (lambda t: t, {"initial_epoch": 1, "epochs": 2}),
    ],
    ids=["constant", "flat", "shifted", "negative", "undefined", "resumed"],
)
def test_a_late_start_without_a_warning(schedule, arguments):
    model = constant_model()
    fit(model)
    steps, _ = fit(model, PenaltyScheduler(schedule), **arguments)
    expected = [0.5 * float(schedule(t)) for t in (2, 3)]
    np.testing.assert_allclose(steps, expected, rtol=1e-5)


def test_a_late_start_by_epoch_without_a_warning():
    model = constant_model()
    fit(model)
    fit(model, PenaltyScheduler(lambda t: t, unit="epoch"))


def test_a_late_start_after_a_fit_without_the_scheduler():
    model = constant_model()
    scheduler = PenaltyScheduler(lambda t: t)
    fit(model, scheduler)
    fit(model)
    with pytest.warns(UserWarning, match=exactly(late_start(4))):
        fit(model, scheduler)


def test_the_remedy_of_a_late_start():
    model = constant_model()
    fit(model)
    model.compile(keras.optimizers.SGD(0.1), "mse", **QUICK)
    steps, _ = fit(model, PenaltyScheduler(lambda t: t))
    np.testing.assert_allclose(steps, [0.0, 0.5], atol=1e-7)


class Interrupt(keras.callbacks.Callback):
    def on_epoch_begin(self, epoch, logs=None):
        if epoch == 2:
            raise KeyboardInterrupt


class InterruptBatch(keras.callbacks.Callback):
    def on_train_batch_begin(self, batch, logs=None):
        if batch == 1:
            raise KeyboardInterrupt


def test_backup_and_restore_in_the_first_epoch(tmp_path):
    def callbacks():
        directory = tmp_path / "backup"
        return [
            keras.callbacks.BackupAndRestore(directory, save_freq=1),
            PenaltyScheduler(lambda t: 1 + t),
        ]

    with pytest.raises(KeyboardInterrupt):
        fit(constant_model(), *callbacks(), InterruptBatch())
    steps, _ = fit(constant_model(), *callbacks())
    np.testing.assert_allclose(steps, [1.0, 1.5], rtol=1e-5)


def test_an_interrupted_fit_has_been_seen():
    model = constant_model()
    scheduler = PenaltyScheduler(lambda t: 1 + t)
    with pytest.raises(KeyboardInterrupt):
        fit(model, scheduler, InterruptBatch())
    steps, _ = fit(model, scheduler)
    np.testing.assert_allclose(steps, [1.0, 1.5], rtol=1e-5)


@pytest.mark.parametrize("backup_first", [True, False])
@pytest.mark.parametrize("unit", ["step", "epoch"])
def test_backup_and_restore(tmp_path, backup_first, unit):
    def callbacks():
        pair = [
            keras.callbacks.BackupAndRestore(tmp_path / "backup"),
            PenaltyScheduler(lambda t: 1 + t, unit=unit),
        ]
        return pair if backup_first else pair[::-1]

    with pytest.raises(KeyboardInterrupt):
        fit(constant_model(), *callbacks(), Interrupt(), epochs=3)
    steps, _ = fit(constant_model(), *callbacks(), epochs=3)
    expected = [2.5, 3.0] if unit == "step" else [1.5, 1.5]
    np.testing.assert_allclose(steps, expected, rtol=1e-5)


def test_optimizer_that_never_steps():
    """A train_step of the user's own may update by another optimizer."""
    model = constant_model()
    plain = keras.optimizers.SGD(0.1)

    class Frozen:
        gradient_accumulation_steps = None
        iterations = 0

    scheduler = PenaltyScheduler(lambda t: t)
    scheduler.set_model(model)
    scheduler.on_train_begin()
    model.optimizer = Frozen()
    try:
        seen = []
        for epoch in range(2):
            scheduler.on_epoch_begin(epoch)
            for batch in range(2):
                scheduler.on_train_batch_begin(batch)
                seen.append(penalized_layers(model)["ones"].coefficients["l1"])
                scheduler.on_train_batch_end(batch)
    finally:
        model.optimizer = plain
    assert seen == [0.0, 0.5, 1.0, 1.5]


def test_set_in_the_middle_of_a_fit():
    """In batch hooks through `self.model`, in epoch hooks anyhow."""
    model = constant_model()
    layer = penalized_layers(model)["ones"]

    class Setter(keras.callbacks.Callback):
        def on_train_batch_begin(self, batch, logs=None):
            if batch == 1:
                coefficients = penalized_layers(self.model)["ones"].coefficients
                coefficients["l1"] = 2.0 * coefficients["l1"]

        def on_epoch_end(self, epoch, logs=None):
            layer.coefficients["l1"] += 0.25

    steps, _ = fit(model, Setter(), epochs=2)
    np.testing.assert_allclose(steps, [0.5, 1.0, 1.25, 2.5], rtol=1e-5)


def test_move_coefficients_within_an_epoch():
    model = constant_model()
    (ref,) = select_terms(model, "ones")

    class Mover(keras.callbacks.Callback):
        def on_train_batch_begin(self, batch, logs=None):
            move_coefficients(model, {ref: 1.0 + batch})

    steps, _ = fit(model, Mover())
    np.testing.assert_allclose(steps, [1.0, 2.0], rtol=1e-5)


def test_no_change_costs_nothing(monkeypatch):
    """On JAX every change costs a sync of all variables."""
    model = constant_model()
    coefficients = penalized_layers(model)["ones"].coefficients
    changes = []

    plain = coefficients.variable.assign

    def assign(value):
        if isinstance(value, list):  # not Keras's, of an array
            changes.append(value)
        return plain(value)

    monkeypatch.setattr(coefficients.variable, "assign", assign)
    fit(model, PenaltyScheduler(lambda t: 1.0 + (t >= 3)), epochs=3)
    assert changes == [[1.0]]


def test_attached_with_zero_stays_zero():
    message = (
        "PenaltyScheduler leaves the coefficients of ['ones/l1'] at 0: it "
        "multiplies the coefficients that they were attached with, which are "
        "0. Attach them with the coefficients that they should have where the "
        "schedule is 1."
    )
    with pytest.warns(UserWarning, match=exactly(message)):
        steps, _ = fit(constant_model(l1=0.0), PenaltyScheduler(lambda t: 9.0))
    assert not steps.any()


def test_two_schedulers_for_one_term():
    model = constant_model()
    message = (
        "Invalid value received for argument `callbacks`. Expected one "
        "callback that moves the coefficient of a term; leave one of them "
        "out. Received: PenaltyScheduler and PenaltyScheduler for the term "
        "'ones/l1'"
    )
    pair = [PenaltyScheduler(lambda t: 1.0), PenaltyScheduler(lambda t: 2.0)]
    with pytest.raises(ValueError, match=exactly(message)):
        fit(model, *pair)
    fit(model, pair[0])  # the other one is of a training that is over
    fit(model, pair[1])


@pytest.mark.parametrize("scheduler_first", [True, False])
def test_a_scheduler_and_a_controller_for_one_term(scheduler_first):
    # What a controller takes has to be trainable; here it learns nothing.
    model = constant_model(
        keras.layers.Dense(
            1, use_bias=False, kernel_initializer="ones", name="ones"
        )
    )
    model.compile(keras.optimizers.SGD(0.0), "mse", **QUICK)
    scheduler = PenaltyScheduler(lambda t: (t + 1) / 4)

    def fit_with(controller):
        pair = [scheduler, controller]
        return fit(model, *pair[:: 1 if scheduler_first else -1], epochs=4)

    message = (
        "Invalid value received for argument `callbacks`. Expected one "
        "callback that moves the coefficient of a term; to hand the "
        "coefficient from one to the other, give the controller the step from "
        "which on it is its own: TargetController('ones/l1', ..., "
        "start=1000). Received: PenaltyScheduler and TargetController for the "
        "term 'ones/l1'"
    )
    with pytest.raises(ValueError, match=exactly(message)):
        fit_with(TargetController("l1", 1.0, "mean"))
    # The mean is 1, a tenth below its target: GECO takes e^-0.1 a move.
    controller = TargetController(
        "l1",
        10 / 9,
        "mean",
        start=4,
        update_freq=2,
        rule=GECO(rate=1.0, decay=0.0),
    )
    steps, _ = fit_with(controller)
    ramp = [0.125, 0.25, 0.375, 0.5]
    held = [0.5, 0.5, 0.5 * math.exp(-0.1), 0.5 * math.exp(-0.1)]
    np.testing.assert_allclose(steps, ramp + held, rtol=1e-4)


def test_copies_see_no_training():
    scheduler = PenaltyScheduler(math.sqrt, "ones", "l1")
    model = constant_model()
    fit(model, scheduler)
    twin = copy.deepcopy(scheduler)
    assert twin.terms == ("l1",)
    assert twin.schedule is math.sqrt
    assert twin._refs == []
    steps, _ = fit(constant_model(), twin)
    np.testing.assert_allclose(steps, [0.0, 0.5], atol=1e-7)


def test_steps_do_not_wait_for_logs():
    """Keras calls an on_train_batch_end in a thread, as if there were none."""
    listed = keras.callbacks.CallbackList([PenaltyScheduler(lambda t: t)])
    assert listed._async_train is keras.callbacks.CallbackList()._async_train


@pytest.mark.parametrize("value", [-1.0, float("nan"), float("inf")])
def test_schedule_out_of_range(value):
    with pytest.raises(
        ValueError,
        match=re.escape(
            "Invalid value received for argument `schedule`. Expected a "
            "function of the step that returns one finite number >= 0. "
            f"Received: {value} for step 0"
        ),
    ):
        fit(constant_model(), PenaltyScheduler(lambda t: value))


def test_schedule_that_returns_no_number():
    with pytest.raises(
        ValueError,
        match=r"function of the epoch that returns one finite number >= 0\. "
        r"Received: TypeError: .* for epoch 0",
    ):
        fit(constant_model(), PenaltyScheduler(lambda t: None, unit="epoch"))


def test_wrong_arguments():
    with pytest.raises(
        TypeError,
        match=re.escape(
            "Invalid type received for argument `schedule`. Expected a "
            "keras.optimizers.schedules.LearningRateSchedule or a function "
            "of the step. Received: schedule=0.5 (of type float)"
        ),
    ):
        PenaltyScheduler(0.5)
    with pytest.raises(
        ValueError,
        match=re.escape(
            "Invalid value received for argument `unit`. Expected 'step' or "
            "'epoch'. Received: unit='batch'"
        ),
    ):
        PenaltyScheduler(abs, unit="batch")
    with pytest.raises(
        ValueError,
        match=exactly(
            "Invalid value received for argument `terms`. Expected at least "
            "one name or glob of terms, for example terms='l2'. Received: "
            "terms=()"
        ),
    ):
        PenaltyScheduler(abs, terms=())
    with pytest.raises(
        TypeError,
        match=re.escape(
            "Invalid type received for argument `terms`. Expected names or "
            "globs of terms, for example terms='l2'. Received: terms=(1,)"
        ),
    ):
        PenaltyScheduler(abs, terms=(1,))


@pytest.mark.parametrize(
    ("layers", "terms", "message"),
    [
        (
            ["dense_4", "head"],
            "*",
            "Invalid value received for argument `layers`. Expected "
            "penalized layers, which in model 'sequential_model' are "
            "['dense_4']. Received: layers='head', which matches only layers "
            "without a penalty",
        ),
        (
            "*",
            ("l2", "l3"),
            "Invalid value received for argument `terms`. Expected names or "
            "globs of terms of the layers ['dense_4'], which are ['l2']. "
            "Received: terms='l3', which matches none",
        ),
        ("desne_4", "*", "Did you mean 'dense_4'?"),
        ([], "*", "Expected at least one layer"),
    ],
    ids=["plain", "term", "unknown", "empty"],
)
def test_unmatched(layers, terms, message):
    model = attach_penalty(sequential(), "dense_4", l2=0.5)
    model.compile("sgd", "mse", **QUICK)
    x, y = data()
    with pytest.raises(ValueError, match=re.escape(message)):
        model.fit(
            x, y, verbose=0, callbacks=[PenaltyScheduler(abs, layers, terms)]
        )


def test_model_without_penalties():
    model = sequential()
    model.compile("sgd", "mse", **QUICK)
    x, y = data()
    with pytest.raises(
        ValueError,
        match=re.escape(
            "Invalid value received for argument `callbacks`. Expected a "
            "callback that moves coefficients only for a model with penalized "
            "layers: call `attach_penalty(model, ...)` first and fit the "
            "model that it returns. Received: model 'sequential_model' "
            "without any"
        ),
    ):
        model.fit(x, y, verbose=0, callbacks=[PenaltyScheduler(abs)])


def test_docstring_example():
    results = doctest.testmod(module)
    assert results.attempted
    assert not results.failed
