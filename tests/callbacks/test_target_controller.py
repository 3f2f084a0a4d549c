"""TargetController: rules against their formulas, targets on real data."""

import copy
import doctest
import gc
import math
import os
import pathlib
import re
import subprocess
import sys
import weakref

import keras
import numpy as np
import pytest
from keras import layers
from models import QUICK, data, sequential
from sklearn.datasets import load_digits

from keras_actpen import (
    GECO,
    PI,
    LogPI,
    PenaltyMonitor,
    PenaltyScheduler,
    TargetController,
    attach_penalty,
    detach_penalty,
    penalized_layers,
)
from keras_actpen.callbacks import control_rules
from keras_actpen.callbacks.control_rules import Limits, Miss
from keras_actpen.callbacks.measures import miss
from keras_actpen.callbacks.reach import Reach
from keras_actpen.callbacks.term_refs import find_term

LIMITS = Limits(low=0.01, high=100.0, unit=1.0)


def linear(error):
    """What the published rules see of an error."""
    return Miss(error, math.nan)


def logarithmic(error):
    """What `LogPI` sees."""
    return Miss(math.nan, error)


def test_geco_is_the_papers_update():
    rule = GECO(rate=0.5, decay=0.9)
    coefficient, memory = rule.move(2.0, linear(0.4), (), LIMITS)
    assert coefficient == pytest.approx(2.0 * math.exp(0.5 * 0.4))
    assert memory == pytest.approx((0.4,))
    coefficient, memory = rule.move(coefficient, linear(-0.6), memory, LIMITS)
    average = 0.9 * 0.4 + 0.1 * -0.6
    assert memory == pytest.approx((average,))
    assert coefficient == pytest.approx(2.0 * math.exp(0.5 * (0.4 + average)))


def test_pi_is_the_papers_update():
    rule = PI(gain=0.5, integral_gain=0.25)
    limits = Limits(low=0.01, high=100.0, unit=2.0)

    def sigmoid(error):
        return 1 / (1 + math.exp(-error))

    # The first output: the current coefficient and one step of the integral.
    coefficient, memory = rule.move(2.0, linear(0.4), (), limits)
    assert coefficient == pytest.approx(2.0 + 2.0 * 0.25 * 0.4)
    integral = (2.0 - 0.01) / 2.0 - 0.5 * sigmoid(0.4) + 0.25 * 0.4
    assert memory == pytest.approx((integral,))
    coefficient, memory = rule.move(coefficient, linear(-0.6), memory, limits)
    integral += 0.25 * -0.6
    assert coefficient == pytest.approx(
        0.01 + 2.0 * (0.5 * sigmoid(-0.6) + integral)
    )


def test_log_pi_is_its_formula():
    rule = LogPI(gain=0.5, damping=2.0, limit=0.3)
    assert rule.first(3.0) == pytest.approx(0.001)
    coefficient, memory = rule.move(2.0, logarithmic(0.4), (), LIMITS)
    assert coefficient == pytest.approx(2.0 * math.exp(0.5 * 0.4))
    # On its way to the target: the change of the error is taken back.
    coefficient, memory = rule.move(1.0, logarithmic(0.3), memory, LIMITS)
    assert coefficient == pytest.approx(math.exp(0.5 * (0.3 - 2 * 0.1)))
    coefficient, memory = rule.move(1.0, logarithmic(0.1), memory, LIMITS)
    assert coefficient == pytest.approx(math.exp(0.5 * (0.1 - 2 * 0.2)))
    # The sign turns: half the gain. The last error was a small one: a trend.
    trend = 0.02 * 0.1
    coefficient, memory = rule.move(1.0, logarithmic(-0.02), memory, LIMITS)
    expected = 0.25 * (-0.02 - 2 * 0.12) + trend
    assert coefficient == pytest.approx(math.exp(expected))
    # It does not turn: a fifth more.
    trend -= 0.02 * 0.02
    coefficient, memory = rule.move(1.0, logarithmic(-0.02), memory, LIMITS)
    assert coefficient == pytest.approx(math.exp(0.3 * -0.02 + trend))
    for error in (5.0, -5.0):
        moved, _ = rule.move(1.0, logarithmic(error), (), LIMITS)
        assert moved == pytest.approx(math.exp(math.copysign(0.3, error)))
    for _ in range(20):
        _, memory = rule.move(1.0, logarithmic(-memory[0]), memory, LIMITS)
    assert memory[1] == pytest.approx(0.125)
    for _ in range(100):
        _, memory = rule.move(1.0, logarithmic(0.19), memory, LIMITS)
    assert memory[2] == pytest.approx(0.1)


def misses(measured, target, measure="mean", effect="raises"):
    return miss(measured, target, measure, effect)


def test_how_far_a_measure_is_off():
    assert misses(0.6, 0.8, "zero_fraction") == pytest.approx(
        (0.2, math.log(2))
    )
    assert misses(40.0, 20.0, "l0", "lowers") == pytest.approx(
        (1.0, math.log(2))
    )
    assert misses(5.0, 20.0, "l0", "lowers") == pytest.approx(
        (-0.75, -math.log(4))
    )
    # A mean below 0 that should be farther from it, or on the other side.
    assert misses(-1.0, -2.0) == pytest.approx((-0.5, -math.log(2)))
    assert misses(1.0, -2.0).log == pytest.approx(math.log(1e-6))
    assert misses(0.0, 2.0) == pytest.approx((1.0, math.log(1e6)))
    assert misses(1.0, 1.0, "zero_fraction") == (0.0, 0.0)


@pytest.mark.parametrize(
    "rule", [LogPI(), GECO(), PI()], ids=["log_pi", "geco", "pi"]
)
def test_rules_stay_within_bounds_and_come_back(rule):
    coefficient, memory = 1.0, ()
    for _ in range(1000):
        coefficient, memory = rule.move(
            coefficient, Miss(1.0, 1.0), memory, LIMITS
        )
    assert coefficient == LIMITS.high
    # No wind-up: the first errors of the other sign are followed.
    for _ in range(3):
        coefficient, memory = rule.move(
            coefficient, Miss(-1.0, -1.0), memory, LIMITS
        )
    assert coefficient < LIMITS.high
    for _ in range(1000):
        coefficient, memory = rule.move(
            coefficient, Miss(-1.0, -1.0), memory, LIMITS
        )
    assert coefficient == pytest.approx(LIMITS.low)
    for _ in range(3):
        coefficient, memory = rule.move(
            coefficient, Miss(1.0, 1.0), memory, LIMITS
        )
    assert coefficient > LIMITS.low


@pytest.mark.parametrize(
    "rule", [LogPI(), GECO(), PI()], ids=["log_pi", "geco", "pi"]
)
@pytest.mark.parametrize("start", [0.1, 10.0])
def test_rules_settle_on_a_simple_plant(rule, start):
    """A share of zeros of c / (1 + c) is 0.75 at c = 3."""
    coefficient, memory = start, ()
    for _ in range(3000):
        zeros = coefficient / (1 + coefficient)
        off = miss(zeros, 0.75, "zero_fraction", "raises")
        coefficient, memory = rule.move(coefficient, off, memory, LIMITS)
    assert coefficient == pytest.approx(3.0, rel=1e-3)


def frozen(penalty=None, activation="relu", **penalties):
    """A model that does not change, so that measures are known."""
    model = keras.Sequential(
        [
            keras.Input((4,)),
            layers.Dense(8, activation, name="hidden"),
            layers.Dense(2, name="head"),
        ],
        name="frozen",
    )
    model = attach_penalty(model, "hidden", penalty, **penalties)
    model.compile(keras.optimizers.SGD(0.0), "mse", **QUICK)
    return model


def exactly(message):
    return f"^{re.escape(message)}$"


def hidden_of(model, x):
    kernel, bias = model.get_layer("hidden").get_weights()
    return np.maximum(x @ kernel + bias, 0.0)


X, Y = data(samples=10)
BATCH = 4  # 3 steps an epoch, the last one ragged


def fit(model, *callbacks, epochs=1, **arguments):
    return model.fit(
        X,
        Y,
        batch_size=BATCH,
        epochs=epochs,
        shuffle=False,
        verbose=0,
        callbacks=list(callbacks),
        **arguments,
    ).history


MEASURES = {
    "zero_fraction": lambda h: np.mean(h == 0),
    "l0": lambda h: np.mean(np.sum(h != 0, axis=-1)),
    "mean": np.mean,
    "rms": lambda h: np.sqrt(np.mean(h**2)),
}


@pytest.mark.parametrize("beside", [False, True], ids=["alone", "monitor"])
@pytest.mark.parametrize("measure", MEASURES)
@pytest.mark.parametrize("update_freq", [2, "epoch"])
def test_measures_and_moves(measure, update_freq, beside, tmp_path):
    model = frozen(l1=0.5)
    rule = GECO(rate=0.3, decay=0.0)
    controller = TargetController(
        "l1", 0.6, measure, update_freq=update_freq, rule=rule
    )
    monitor = (
        [PenaltyMonitor(tmp_path, statistics_freq=0, alerts=())]
        if beside
        else []
    )
    history = fit(model, *monitor, controller, epochs=2)
    h = hidden_of(model, X)
    batches = [h[0:4], h[4:8], h[8:10]]
    if update_freq == "epoch":
        measured = [batches[0]] * 2
        last = [0, 1]
    else:
        moves = range(update_freq - 1, 6, update_freq)
        measured = [batches[t % 3] for t in moves]
        last = [sum(t < 3 for t in moves) - 1, len(measured) - 1]
    values = [MEASURES[measure](batch) for batch in measured]
    assert history[f"{measure}/hidden/l1"] == pytest.approx(
        [values[i] for i in last], rel=1e-5
    )
    expected = [0.5]
    for value in values:
        error = 0.6 - value if measure == "zero_fraction" else value / 0.6 - 1
        error = min(max(error, -1), 1)
        expected.append(expected[-1] * math.exp(0.3 * error))
    assert history["penalty.coefficient/hidden/l1"] == pytest.approx(
        [expected[i + 1] for i in last], rel=1e-5
    )
    # What the steps ran with: the terms, exact over all steps of an epoch.
    ran, moved = [], 0
    for t in range(6):
        ran.append(expected[moved])
        period = (
            t % 3 == 0
            if update_freq == "epoch"
            else ((t + 1) % update_freq == 0)
        )
        moved += period
    sums = [ran[t] * np.sum(batches[t % 3]) for t in range(6)]
    assert history["penalty/hidden/l1"] == pytest.approx(
        [sum(sums[:3]) / 10, sum(sums[3:]) / 10], rel=1e-5
    )


@pytest.mark.parametrize("beside", [False, True], ids=["alone", "monitor"])
def test_dead_units_of_all_steps(beside, tmp_path):
    """A unit that fires in a step that is not measured is not dead."""
    model = frozen(l1=0.5)
    kernel, _ = model.get_layer("hidden").get_weights()
    # The first three units are dead, the fourth fires in the first step alone.
    kernel[:] = 0.0
    kernel[0, 3:] = 1.0
    bias = np.array([-1.0, -1.0, -1.0, -2.5, 1.0, 1.0, 1.0, 1.0])
    model.get_layer("hidden").set_weights([kernel, bias])
    x = np.zeros_like(X)
    x[0, 0] = 3.0
    controller = TargetController(
        "l1", 0.5, "dead_fraction", rule="geco", update_freq=3
    )
    monitor = [PenaltyMonitor(tmp_path, alerts=())] if beside else []
    history = model.fit(
        x,
        Y,
        batch_size=BATCH,
        shuffle=False,
        verbose=0,
        callbacks=[*monitor, controller],
    ).history
    assert history["dead_fraction/hidden/l1"] == [0.375]
    # Fewer are dead than asked for.
    assert history["penalty.coefficient/hidden/l1"][0] > 0.5


def test_more_units_than_there_are():
    model = frozen(l1=0.5)
    units = model.get_layer("hidden").units
    with pytest.raises(ValueError, match="target") as caught:
        fit(model, TargetController("l1", units + 0.5, "l0"))
    assert str(caught.value) == (
        "Invalid value received for argument `target`. Expected a number of "
        f"units that fire, at most the {units} units of the layer 'hidden'. "
        f"Received: target={units + 0.5}"
    )
    fit(model, TargetController("l1", units, "l0"))


@pytest.mark.parametrize("beside", [False, True], ids=["alone", "monitor"])
def test_value_is_the_mean_since_the_last_move(beside):
    model = frozen(l1=0.5)
    controller = TargetController("l1", 0.1, "value", update_freq=2)
    monitor = [PenaltyMonitor(None, alerts=())] if beside else []
    history = fit(model, controller, *monitor, epochs=2)
    h = hidden_of(model, X)
    # Moves after the steps 1, 3 and 5; the last sees those at 4 and 5.
    assert history["value/hidden/l1"] == pytest.approx(
        [np.sum(h[:8]) / 8, np.sum(h[4:10]) / 6], rel=1e-5
    )


def test_effect():
    kinds = {"raises": 1, "lowers": -1}
    for effect, sign in kinds.items():
        model = frozen(l1=0.5)
        arguments = {"effect": effect, "rule": "geco"}
        fit(model, TargetController("l1", 1e3, "mean", **arguments))
        coefficient = penalized_layers(model)["hidden"].coefficients["l1"]
        assert coefficient == 0.5  # 3 steps: no move yet
        fit(
            model,
            TargetController("l1", 1e3, "mean", update_freq=3, **arguments),
        )
        coefficient = penalized_layers(model)["hidden"].coefficients["l1"]
        assert (coefficient > 0.5) == (sign > 0)


def test_validation_keeps_its_own_terms():
    model = frozen(l1=0.5)
    controller = TargetController("l1", 0.6, update_freq=3, rule="geco")
    history = fit(model, controller, epochs=2, validation_data=(3 * X, Y))
    # The last step of an epoch is measured: it moves after the validation.
    moved = history["penalty.coefficient/hidden/l1"][0]
    assert abs(moved - 0.5) > 0.01
    for prefix, x in {"": X, "val_": 3 * X}.items():
        assert history[f"{prefix}penalty/hidden/l1"] == pytest.approx(
            [c * np.sum(hidden_of(model, x)) / 10 for c in (0.5, moved)],
            rel=1e-5,
        )


def test_leaves_nothing_behind():
    model = frozen(l1=0.5)
    plain = model.train_function
    variables, attributes = len(model.variables), set(vars(model))
    fit(model, TargetController("l1", 0.6))
    assert len(model.variables) == variables
    assert "penalty_controllers" not in set(vars(model)) - attributes
    assert type(model.train_function).__name__ != "StepFunction"
    assert plain is None


def test_moves_trace_nothing():
    traces = []

    def traced_l1(h):
        traces.append(h)
        return keras.ops.sum(keras.ops.abs(h))

    model = frozen(traced_l1)
    controller = TargetController("traced_l1", 0.6, update_freq=2)
    fit(model, controller, epochs=2)
    first = len(traces)
    history = fit(model, controller, epochs=4)
    assert len(set(history["penalty.coefficient/hidden/traced_l1"])) == 4
    steps = 12 if keras.backend.backend() == "torch" else 0
    assert len(traces) - first == steps


def test_goes_on_after_load_model(tmp_path):
    model = frozen(l1=0.5)
    rule = GECO(rate=0.3, decay=0.0)
    fit(model, TargetController("l1", 0.6, update_freq=3, rule=rule))
    moved = penalized_layers(model)["hidden"].coefficients["l1"]
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    history = fit(loaded, TargetController("l1", 0.6, update_freq=3, rule=rule))
    assert history["penalty.coefficient/hidden/l1"] == pytest.approx(
        [moved * (moved / 0.5)], rel=1e-5
    )


@pytest.mark.parametrize("backup_first", [True, False])
def test_goes_on_after_backup_and_restore(tmp_path, backup_first):
    """The second process is killed in its third epoch, and starts again."""
    script = pathlib.Path(__file__).parents[1] / "support" / "controlled.py"

    def run(directory, *arguments):
        process = subprocess.run(
            [sys.executable, script, tmp_path / directory, *arguments],
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        )
        assert process.returncode in (0, 9), process.stderr
        return [float(word) for word in process.stdout.split()]

    order = "backup_first" if backup_first else "controller_first"
    whole = run("whole", order, "6")
    killed = run("killed", order, "6", "kill_in_epoch_2")
    resumed = run("killed", order, "6")
    assert len(whole) == 6
    assert len(set(whole)) == 6
    # Weight files keep every digit of the weights and of the controller; the
    # sums of a batch do not (JAX runs them in other threads).
    assert killed + resumed == pytest.approx(whole, rel=1e-6)


def test_weight_files_of_a_training_with_a_controller(tmp_path):
    """A plain model loads what is written while a controller runs."""
    file = tmp_path / "model.weights.h5"
    checkpoint = keras.callbacks.ModelCheckpoint(file, save_weights_only=True)
    model = frozen(l1=0.5)
    fit(model, TargetController("l1", 0.6, update_freq=1), checkpoint)
    plain = detach_penalty(frozen(l1=0.5))
    plain.load_weights(file)
    for one, other in zip(
        plain.get_weights(), model.get_weights(), strict=True
    ):
        np.testing.assert_array_equal(one, other)
    # And the other way round, while a controller is about to start.
    plain.save_weights(file)
    model.load_weights(file)
    controller = TargetController("l1", 0.6)
    controller.set_model(model)
    model.load_weights(file)


def test_two_controllers_for_one_term():
    message = (
        "Invalid value received for argument `callbacks`. Expected one "
        "callback that moves the coefficient of a term; leave one of them "
        "out. Received: TargetController and TargetController for the term "
        "'hidden/l1'"
    )
    pair = [TargetController("l1", 0.6), TargetController("l1", 0.6, start=9)]
    with pytest.raises(ValueError, match=exactly(message)):
        fit(frozen(l1=0.5), *pair)


def test_an_interrupted_training_keeps_no_model():
    class Stops(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            raise KeyboardInterrupt

    model = frozen(l1=0.5)
    callbacks = [
        TargetController("l1", 0.6, start=9),
        PenaltyScheduler(lambda step: 1.0),
    ]
    with pytest.raises(KeyboardInterrupt):
        fit(model, *callbacks, Stops())
    gone = weakref.ref(model)
    del model, callbacks
    keras.utils.clear_session(free_memory=False)
    gc.collect()
    assert gone() is None


def test_copies_see_no_training():
    controller = TargetController("l1", 0.6, patience=3)
    fit(frozen(l1=0.5), controller)
    twin = copy.deepcopy(controller)
    assert (twin.term, twin.target, twin.patience) == ("l1", 0.6, 3)
    assert twin._session is None
    fit(frozen(l1=0.5), twin)


def test_unreachable_target():
    """Nothing moves: the coefficient runs into its bound, and is held."""
    model = frozen(l1=0.5)
    controller = TargetController(
        "l1",
        0.99,
        update_freq=1,
        bounds=(0.1, 2.0),
        patience=4,
        rule="geco",
    )
    with pytest.warns(
        UserWarning,
        match=re.escape(
            "TargetController gives up the target 0.99 of the term "
            "'hidden/l1': after 4 moves without progress `zero_fraction` is "
        )
        + r"0\.\d+"
        + re.escape(
            " with the coefficient at its upper bound 2. The coefficient is "
            "held until the measure is on the other side of the target. "
            "Choose another target, another penalty (L1 on the output of a "
            "ReLU makes zeros) or other `bounds`."
        ),
    ) as caught:
        fit(model, controller, epochs=20)
    of_users = [one for one in caught if one.category is UserWarning]
    assert [one.filename for one in of_users] == [__file__]
    assert penalized_layers(model)["hidden"].coefficients["l1"] == 2.0


def test_measure_that_stands_still():
    """No activation of a tanh is ever exactly 0."""
    model = frozen(l1=0.5, activation="tanh")
    controller = TargetController("l1", 0.8, update_freq=1, patience=3)
    with pytest.warns(
        UserWarning,
        match=re.escape(
            "after 3 moves without progress `zero_fraction` is 0 with a "
            "coefficient of "
        ),
    ):
        history = fit(model, controller, epochs=4)
    # Three moves of exp(0.6) from 1/3000, and no more.
    assert history["penalty.coefficient/hidden/l1"][1:] == pytest.approx(
        [0.5 / 3000 * math.exp(3 * 0.6)] * 3
    )


@pytest.mark.parametrize("off", [0.1, 10.0])
@pytest.mark.parametrize("drift", [0.0, 0.005])
@pytest.mark.parametrize("lag", [0, 3, 8])
@pytest.mark.parametrize("slope", [0.3, 0.6, 1.0])
def test_log_pi_settles_on_plants_that_answer_late(slope, lag, drift, off):
    """Within 5 % after 60 moves at most, the mean of five.

    After 70 if the plant takes eight moves to answer: the rule starts with
    1/30000 of the right coefficient then, because networks may not survive
    more, and has to slow down in time.

    The logarithm of the measure follows that of the coefficient, `slope` to
    one, with a lag in moves, and drifts away from it as a network does that
    escapes the penalty.
    """
    rule, limits = LogPI(), Limits(1e-6, 1e6, 1.0)
    coefficient, memory = rule.first(off), ()
    answer = math.exp(-1 / lag) if lag else 0.0
    measured, errors = math.log(6), []
    for move in range(120):
        settled = drift * move - slope * math.log(coefficient)
        measured = answer * measured + (1 - answer) * settled
        errors.append(measured)
        coefficient, memory = rule.move(
            coefficient, logarithmic(measured), memory, limits
        )
    late = errors[66:] if lag == 8 else errors[56:]
    means = np.convolve(late, np.ones(5) / 5, "valid")
    assert np.max(np.abs(means)) <= math.log(1.05)


def test_a_target_that_comes_into_reach_is_followed():
    limits, missing = Limits(0.1, 2.0, 1.0), linear(0.5)
    model = frozen(l1=2.0)
    ref = find_term(model, "l1")
    reach = Reach(ref, "zero_fraction", 0.5, patience=2)
    readings = [(0.0, missing)] * 4 + [(0.9, linear(-0.4))]
    readings += [(0.0, missing)] * 4
    with pytest.warns(UserWarning, match="gives up") as caught:
        lost = [reach.is_lost(*one, limits) for one in readings]
    # The first of all has made progress, and so has the one beyond.
    first, again = [False, False, True, True], [False, True, True, True]
    assert lost == [*first, False, *again]
    assert len(caught) == 1


@pytest.mark.parametrize(
    ("activation", "measure", "target", "message"),
    [
        (
            "sigmoid",
            "zero_fraction",
            0.8,
            "Invalid value received for argument `measure`. Expected one that "
            "the layer 'hidden' can reach: no output of 'sigmoid' is ever "
            "exactly 0. Choose measure='mean' or a layer with zeros, such as "
            "one with a ReLU. Received: measure='zero_fraction', target=0.8",
        ),
        (
            "relu",
            "l0",
            9.0,
            "Invalid value received for argument `target`. Expected a number "
            "of units that fire, at most the 8 units of the layer 'hidden'. "
            "Received: target=9.0",
        ),
    ],
)
def test_target_known_to_be_out_of_reach(activation, measure, target, message):
    model = frozen(l1=0.5, activation=activation)
    with pytest.raises(ValueError, match=exactly(message)):
        fit(model, TargetController("l1", target, measure))
    fit(model)  # it has left the model as it was


def test_nothing_trainable_in_front():
    model = frozen(l1=0.5)
    model.get_layer("hidden").trainable = False
    message = (
        "Invalid value received for argument `term`. Expected a term that "
        "changes a weight. Received: term='hidden/l1': nothing that the "
        "penalty depends on is trainable; it changes no weight"
    )
    with pytest.raises(ValueError, match=exactly(message)):
        fit(model, TargetController("l1", 0.8))


def test_target_below_what_is_there_warns():
    """With the penalty all but off there is nothing left to do."""
    model = frozen(l1=0.5)
    controller = TargetController(
        "l1", 0.01, update_freq=1, bounds=(0.1, 2.0), patience=4
    )
    with pytest.warns(UserWarning, match="at its lower bound 0.1") as caught:
        fit(model, controller, epochs=10)
    assert sum(one.category is UserWarning for one in caught) == 1
    assert penalized_layers(model)["hidden"].coefficients["l1"] == 0.1


@pytest.mark.parametrize(
    "rule", ["log_pi", "geco", PI(gain=0.5, integral_gain=5.0)]
)
def test_digits_reach_80_percent_zeros(rule):
    digits = load_digits()
    x, y = digits.data[:400] / 16, digits.target[:400]
    model = keras.Sequential(
        [
            keras.Input((64,)),
            layers.Dense(32, activation="relu", name="hidden"),
            layers.Dense(10),
        ]
    )
    model = attach_penalty(model, "hidden", l1=0.003)
    model.compile(
        keras.optimizers.Adam(0.01),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
        **QUICK,
    )
    history = model.fit(
        x,
        y,
        batch_size=80,
        epochs=40,
        verbose=0,
        callbacks=[
            TargetController("hidden/l1", 0.8, update_freq=3, rule=rule)
        ],
    ).history
    before = history["zero_fraction/hidden/l1"][0]
    after = np.mean(history["zero_fraction/hidden/l1"][-10:])
    assert before < 0.65
    assert after == pytest.approx(0.8, abs=0.06)
    assert history["accuracy"][-1] > 0.9


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (
            {"term": 3},
            TypeError,
            "Invalid type received for argument `term`. Expected 'path/term' "
            "or the name of a term, for example 'dense_4/l1'. Received: "
            "term=3 (of type int)",
        ),
        (
            {"target": 1.5},
            ValueError,
            "Invalid value received for argument `target`. Expected a share "
            "of zeros from 0 to 1. Received: target=1.5",
        ),
        (
            {"measure": "rms", "target": 0.0},
            ValueError,
            "Invalid value received for argument `target`. Expected a finite "
            "number > 0. Received: target=0.0",
        ),
        (
            {"measure": "mean", "target": 0},
            ValueError,
            "Invalid value received for argument `target`. Expected a finite "
            "number other than 0. Received: target=0",
        ),
        (
            {"measure": "zeros"},
            ValueError,
            "Invalid value received for argument `measure`. Expected one of "
            "('zero_fraction', 'dead_fraction', 'l0', 'mean', 'rms', "
            "'value'). Received: measure='zeros'",
        ),
        (
            {"rule": "pid"},
            ValueError,
            "Invalid value received for argument `rule`. Expected one of "
            "['log_pi', 'geco', 'pi'], or one of them with other gains, for "
            "example keras_actpen.GECO(rate=0.5). Received: rule='pid'",
        ),
        (
            {"update_freq": "batch"},
            TypeError,
            "Invalid type received for argument `update_freq`. Expected "
            "'epoch' or an integer >= 1. Received: update_freq='batch' (of "
            "type str)",
        ),
        (
            {"start": -1},
            ValueError,
            "Invalid value received for argument `start`. Expected an integer "
            ">= 0. Received: start=-1",
        ),
        (
            {"patience": 0},
            ValueError,
            "Invalid value received for argument `patience`. Expected an "
            "integer >= 1. Received: patience=0",
        ),
        (
            {"bounds": 3.0},
            TypeError,
            "Invalid type received for argument `bounds`. Expected two finite "
            "numbers, 0 < low < high. Received: bounds=3.0",
        ),
        (
            {"bounds": (0.0, 1.0)},
            ValueError,
            "Invalid value received for argument `bounds[0]`. Expected two "
            "finite numbers, 0 < low < high. Received: bounds[0]=0.0",
        ),
        (
            {"bounds": (2.0, 1.0)},
            ValueError,
            "Invalid value received for argument `bounds[1]`. Expected two "
            "finite numbers, 0 < low < high. Received: bounds[1]=1.0",
        ),
        (
            {"effect": "up"},
            ValueError,
            "Invalid value received for argument `effect`. Expected one of "
            "('raises', 'lowers'). Received: effect='up'",
        ),
    ],
)
def test_wrong_arguments(arguments, error, message):
    with pytest.raises(error, match=re.escape(message) + "$"):
        TargetController(**{"term": "l1", "target": 0.8, **arguments})


@pytest.mark.parametrize(
    ("rule", "arguments", "message"),
    [
        (LogPI, {"gain": 0.0}, "`gain`. Expected a finite number > 0."),
        (LogPI, {"damping": -1}, "`damping`. Expected a finite number >= 0."),
        (LogPI, {"limit": 0}, "`limit`. Expected a finite number > 0."),
        (GECO, {"rate": 0.0}, "`rate`. Expected a finite number > 0."),
        (GECO, {"decay": 1.0}, "`decay`. Expected a number from 0 to below 1."),
        (PI, {"gain": -1.0}, "`gain`. Expected a finite number >= 0."),
        (
            PI,
            {"integral_gain": 0.0},
            "`integral_gain`. Expected a finite number > 0.",
        ),
    ],
)
def test_wrong_gains(rule, arguments, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        rule(**arguments)


def test_terms_that_do_not_suit():
    model = attach_penalty(sequential(), ["dense_4", "head"], l1=0.5)
    model = attach_penalty(model, "head", l2=0.0)
    model.compile("sgd", "mse", **QUICK)
    prefix = (
        "Invalid value received for argument `term`. Expected one of the "
        "terms of model 'sequential_model': ['dense_4/l1', 'head/l1', "
        "'head/l2']. Received: "
    )
    for term, message in {
        "l1": prefix + "term='l1', which 2 layers have",
        "l3": prefix + "term='l3', which is none of them",
        "l2": "Expected a term that was attached with a coefficient > 0, from "
        "which the control starts. Received: term='head/l2', attached with 0",
    }.items():
        with pytest.raises(ValueError, match=re.escape(message)):
            fit(model, TargetController(term, 0.8))


def test_docstring_examples():
    assert doctest.testmod(control_rules) == (0, 6)
