"""Session: where a recorded model keeps its state, and for how long."""

import gc
import weakref

import keras
import numpy as np
import pytest
from keras import layers

from keras_actpen import (
    PenaltyMonitor,
    attach_penalty,
    penalty_terms,
    watch_activations,
)

X = np.random.default_rng(0).normal(size=(8, 4)).astype("float32")
Y = np.ones((8, 1), "float32")


def dense():
    model = keras.Sequential(
        [
            keras.Input((4,)),
            layers.Dense(3, activation="relu", name="hidden"),
            layers.Dense(1),
        ]
    )
    model.compile(keras.optimizers.SGD(0.0), "mse")
    return model


def nested(kind):
    inner = keras.Sequential([keras.Input((4,)), layers.Dense(3)], name="inner")
    if kind == "functional":
        inner = keras.Model(inner.inputs[0], inner.outputs[0], name="inner")
    inputs = keras.Input((4,))
    model = keras.Model(inputs, layers.Dense(1)(inner(inputs)))
    model.compile(keras.optimizers.SGD(0.0), "mse")
    return model


def fit(model, *callbacks):
    return model.fit(X, Y, verbose=0, callbacks=list(callbacks)).history


@pytest.mark.parametrize("kind", ["sequential", "functional"])
def test_terms_of_a_nested_model_that_is_the_first_penalized_layer(kind):
    model = attach_penalty(nested(kind), "inner", l2=0.1)
    history = fit(model, PenaltyMonitor(None, alerts=()))
    np.testing.assert_allclose(
        history["penalty/inner/l2"],
        [penalty_terms(model, X)["inner/l2"]],
        rtol=1e-6,
    )
    assert history["penalty/inner/l2"][0] > 0


def test_fits_that_alternate_between_models_of_the_same_layers_trace_once():
    traces = []

    def loss(y, predicted):
        traces.append(1)
        return keras.ops.mean((y - predicted) ** 2)

    plain = dense()
    plain.compile(keras.optimizers.SGD(0.0), loss)
    models = [
        attach_penalty(plain, "hidden", l1=1.0),
        attach_penalty(plain, "hidden", l2=1.0),
    ]
    for model in models:
        fit(model, PenaltyMonitor(None, alerts=()))
    if keras.backend.backend() == "torch":  # runs it at every step
        return
    traces.clear()
    for model in 2 * models:
        fit(model, PenaltyMonitor(None, alerts=()))
    assert traces == []


def test_layers_of_the_model_passed_in_keep_no_recorded_model(tmp_path):
    plain = dense()
    before = set(vars(plain.get_layer("hidden")))
    model = watch_activations(plain, "hidden")
    fit(model, PenaltyMonitor(tmp_path, alerts=()))
    assert set(vars(plain.get_layer("hidden"))) == before
    gone = weakref.ref(model)
    del model
    keras.utils.clear_session(free_memory=False)
    gc.collect()
    assert gone() is None


def test_state_is_in_the_variables_of_the_recorded_model_alone(tmp_path):
    plain = dense()
    model = attach_penalty(plain, "hidden", l2=0.1)
    found = {}

    def look(batch, logs):
        found["plain"] = len(plain.variables)
        found["weights"] = len(model.weights)
        found["count"] = model.count_params()

    fit(
        model,
        PenaltyMonitor(tmp_path, alerts=()),
        keras.callbacks.LambdaCallback(on_train_batch_begin=look),
    )
    assert found == {
        "plain": len(plain.weights),
        "weights": len(plain.weights),
        "count": plain.count_params(),
    }
