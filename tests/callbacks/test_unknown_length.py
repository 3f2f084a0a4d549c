"""Data of unknown length: Keras begins a step there that does not run."""

import event_logs
import keras
import numpy as np
import pytest
from keras import layers
from models import QUICK, data, sequential

from keras_actpen import (
    PenaltyMonitor,
    PenaltyScheduler,
    TargetController,
    attach_penalty,
    penalized_layers,
)
from keras_actpen.instrumentation.instrumented_steps import StepsWithinOverhead

BACKEND = keras.backend.backend()
BATCHES = 5
BATCH_TAG = "penalty.batch/dense_4/l1"
X, Y = data(samples=8 * BATCHES)
# Where Keras's own optimizer counts the step that did not run.
COUNTS_ALL = BACKEND == "tensorflow"
# Keras has no other on torch.
EXECUTIONS = [1] if BACKEND == "torch" else [1, 3]

# Keras, of data whose end it did not know.
pytestmark = pytest.mark.filterwarnings("ignore:Your input ran out of data")


def endless(batches=BATCHES):
    """Batches whose number Keras does not know."""
    if BACKEND == "torch":
        import torch

        class Rows(torch.utils.data.IterableDataset):
            def __iter__(self):
                return zip(X[: 8 * batches], Y, strict=False)

        return torch.utils.data.DataLoader(Rows(), batch_size=8)
    tensorflow = pytest.importorskip("tensorflow")
    rows = tensorflow.data.Dataset.from_tensor_slices((X, Y))
    return rows.take(8 * batches).filter(lambda x, y: True).batch(8)


def penalized(optimizer=None, **arguments):
    keras.utils.set_random_seed(1)
    model = keras.Sequential(
        [
            keras.Input((4,)),
            layers.Dense(8, "relu", name="dense_4"),
            layers.Dense(2, name="head"),
        ]
    )
    model = attach_penalty(model, "dense_4", l1=1.0)
    arguments = {**QUICK, **arguments}
    model.compile(optimizer or keras.optimizers.SGD(0.01), "mse", **arguments)
    return model


def coefficient(model):
    """What the next step sees: the device state, and what is told of it."""
    coefficients = penalized_layers(model)["dense_4"].coefficients
    (value,) = keras.ops.convert_to_numpy(coefficients.variable)
    assert coefficients["l1"] == pytest.approx(value, rel=1e-6)
    return float(value)


class Coefficients(keras.callbacks.Callback):
    """The coefficient where an epoch begins, is validated and ends."""

    def __init__(self):
        super().__init__()
        self.seen = {"begin": [], "validation": [], "end": []}

    def on_epoch_begin(self, epoch, logs=None):
        self.seen["begin"].append(coefficient(self.model))

    def on_test_begin(self, logs=None):
        self.seen["validation"].append(coefficient(self.model))

    def on_epoch_end(self, epoch, logs=None):
        self.seen["end"].append(coefficient(self.model))


@pytest.mark.parametrize("beside", [False, True], ids=["alone", "monitor"])
@pytest.mark.parametrize("steps_per_execution", EXECUTIONS)
def test_scheduler_counts_steps_that_ran(steps_per_execution, beside):
    model = penalized(steps_per_execution=steps_per_execution)
    seen = Coefficients()
    model.fit(
        endless(),
        epochs=4,
        verbose=0,
        shuffle=False,
        validation_data=(X[:8], Y[:8]),
        callbacks=[
            *([PenaltyMonitor(None, alerts=())] if beside else []),
            PenaltyScheduler(lambda t: 0.001 * t),
            seen,
        ],
    )
    counted = BATCHES + (COUNTS_ALL and steps_per_execution == 1)
    starts = np.arange(4) * counted
    last = 4 if steps_per_execution == 1 else 3
    expected = {
        "begin": starts,
        "validation": starts + last,
        "end": starts + last,
    }
    for when, steps in expected.items():
        np.testing.assert_allclose(seen.seen[when], 0.001 * steps, rtol=1e-5)


class OwnOptimizer(keras.Sequential):
    """A train_step of the user's own, with another optimizer."""

    def train_step(self, data):
        x, y = data
        own = self.own_optimizer
        if BACKEND == "torch":
            self.zero_grad()
            loss = self.compute_loss(x, y, self(x, training=True))
            loss.backward()
            gradients = [v.value.grad for v in self.trainable_variables]
        else:
            import tensorflow

            with tensorflow.GradientTape() as tape:
                loss = self.compute_loss(x, y, self(x, training=True))
            gradients = tape.gradient(loss, self.trainable_variables)
        own.apply(gradients, self.trainable_variables)
        return {"loss": loss}


def with_own_optimizer():
    model = OwnOptimizer(
        [
            keras.Input((4,)),
            layers.Dense(8, "relu", name="dense_4"),
            layers.Dense(2, name="head"),
        ]
    )
    model = attach_penalty(model, "dense_4", l1=1.0)
    model.compile(keras.optimizers.SGD(0.01), "mse", **QUICK)
    model.own_optimizer = keras.optimizers.SGD(0.01)
    model.own_optimizer.build(model.trainable_variables)
    return model


stateful = pytest.mark.skipif(
    BACKEND == "jax",
    reason="its train_step has one optimizer",
)


@stateful
def test_scheduler_counts_by_itself():
    model, seen = with_own_optimizer(), Coefficients()
    schedule = PenaltyScheduler(lambda t: 0.001 * t)
    model.fit(
        endless(),
        epochs=3,
        verbose=0,
        shuffle=False,
        callbacks=[schedule, seen],
    )
    assert int(model.optimizer.iterations) == 0
    np.testing.assert_allclose(
        seen.seen["begin"], [0.0, 0.005, 0.01], rtol=1e-5
    )


@stateful
@pytest.mark.parametrize("known", [True, False])
def test_controller_starts_by_its_own_count(known):
    model, seen = with_own_optimizer(), Coefficients()
    controller = TargetController("l1", 0.9, start=7, update_freq=1)
    arguments = {"batch_size": 8} if known else {}
    given = (X, Y) if known else (endless(),)
    model.fit(
        *given,
        epochs=3,
        verbose=0,
        shuffle=False,
        callbacks=[controller, seen],
        **arguments,
    )
    begin, end = seen.seen["begin"], seen.seen["end"]
    assert begin[:2] == [1.0, 1.0]
    assert end[0] == 1.0
    assert end[1] != 1.0


@pytest.mark.parametrize("update_freq", [2, 4, BATCHES, BATCHES + 1, "epoch"])
@pytest.mark.parametrize("beside", [False, True], ids=["alone", "monitor"])
def test_controller_measures_as_with_arrays(update_freq, beside):
    def history(*given, **arguments):
        controller = TargetController(
            "l1", 0.9, rule="geco", update_freq=update_freq
        )
        model, seen = penalized(), Coefficients()
        monitor = [PenaltyMonitor(None, alerts=())] if beside else []
        logs = model.fit(
            *given,
            epochs=4,
            verbose=0,
            shuffle=False,
            callbacks=[*monitor, controller, seen],
            **arguments,
        ).history
        return logs["penalty.coefficient/dense_4/l1"], seen.seen

    expected, seen_expected = history(X, Y, batch_size=8)
    assert expected[-1] != 1.0
    found, seen = history(endless())
    np.testing.assert_allclose(found, expected, rtol=1e-4)
    for when, values in seen_expected.items():
        np.testing.assert_allclose(seen[when], values, rtol=1e-4)


@pytest.mark.parametrize("batches", ["batch", 3])
def test_monitor_counts_batches_that_ran(tmp_path, batches):
    model = penalized()
    monitor = PenaltyMonitor(tmp_path, update_freq=batches, alerts=())
    model.fit(
        endless(), epochs=4, verbose=0, shuffle=False, callbacks=[monitor]
    )
    points = event_logs.read(tmp_path)["actpen/train"][BATCH_TAG].steps
    # As the optimizer counts, which a schedule follows.
    counted = BATCHES + COUNTS_ALL
    ran = [counted * e + b for e in range(4) for b in range(1, BATCHES + 1)]
    if batches == "batch":
        assert points == ran
    else:
        assert set(points) <= set(ran)
        assert len(points) >= 5


def test_steps_within_an_overhead_that_did_not_run():
    """The choice of the next step is what it would have been without."""
    now = 0.0

    def choices(drops):
        nonlocal now
        pace = StepsWithinOverhead(0.1, lambda: now)
        chosen = []
        for step in range(60):
            if drops and step % 5 == 0:
                pace.instruments(step)
                pace.take_back()
                pace.begin_epoch()
            chosen.append(pace.instruments(step))
            if pace.stopwatch is not None:
                pace.start()
                now += 2.0 if chosen[-1] else 1.0
                pace.stop("statistics" if chosen[-1] else None)
        return chosen

    assert choices(drops=True) == choices(drops=False)


def test_overhead_of_steps_that_ran(tmp_path):
    monitor = PenaltyMonitor(tmp_path, max_overhead=0.5, alerts=())
    penalized().fit(
        endless(), epochs=3, verbose=0, shuffle=False, callbacks=[monitor]
    )
    assert monitor._fit._pace._steps == 3 * BATCHES


def test_a_request_that_no_step_took_is_forgotten():
    model = penalized()
    monitor = PenaltyMonitor(None, alerts=())

    class Armed(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            requested.append(model.train_function.requested)

        def on_epoch_end(self, epoch, logs=None):
            monitor._session.request("train", "statistics")

    requested = []
    model.fit(
        X, Y, epochs=2, verbose=0, shuffle=False, callbacks=[monitor, Armed()]
    )
    assert requested == [None, None]


@pytest.mark.parametrize("batches", [8, 12])
def test_epochs_without_a_step(tmp_path, batches):
    """Nothing was recorded, and nothing is wrong with the model."""

    def generator():
        for start in range(batches):
            yield X[start : start + 4], Y[start : start + 4]

    model = attach_penalty(sequential(), "dense_4", l1=0.01)
    model.compile(keras.optimizers.SGD(0.01), "mse", **QUICK)
    logged = []

    class Logs(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            logged.append({key for key in logs if "penalty/" in key})

    model.fit(
        generator(),
        steps_per_epoch=4,
        epochs=3,
        verbose=0,
        shuffle=False,
        callbacks=[
            PenaltyMonitor(
                tmp_path, update_freq="batch", statistics_in_logs=("rms",)
            ),
            Logs(),
        ],
    )
    ran = batches // 4
    key = "penalty/dense_4/l1"
    assert logged == [{key}] * ran + [set()] * (3 - ran)
    points = event_logs.scalars(event_logs.read(tmp_path)["actpen/train"])
    assert len(points[key]) == ran
    assert len(points[BATCH_TAG]) == batches
    assert 0.0 not in points[BATCH_TAG]
