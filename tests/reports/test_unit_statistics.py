"""What each unit does, against NumPy."""

import keras
import numpy as np
import pytest
from keras import ops

from keras_actpen import (
    PenaltyMonitor,
    attach_penalty,
    unit_statistics,
    watch_activations,
)

BACKEND = keras.backend.backend()


def since(fires):
    """Positions since each unit last fired."""
    return [
        len(one) if not one.any() else len(one) - 1 - np.flatnonzero(one)[-1]
        for one in fires.T
    ]


def relu(*shape, masked=False):
    inputs = keras.Input(shape)
    x = keras.layers.Masking()(inputs) if masked else inputs
    x = keras.layers.Activation("relu", name="hidden")(x)
    outputs = keras.layers.Dense(1, kernel_initializer="zeros")(x)
    model = keras.Model(inputs, outputs)
    model.compile("sgd", "mse", jit_compile=BACKEND == "jax")
    return model


def normal(*shape):
    x = np.random.default_rng(0).normal(size=shape).astype("float32")
    x[..., 1] = -1.0
    return x


def test_units_of_all_batches_equal_numpy():
    model = watch_activations(relu(4), "hidden")
    x = normal(50, 4)
    (found,) = unit_statistics(model, x, batch_size=8).values()
    h = np.maximum(x, 0).astype("float64")
    assert found.positions == 50
    np.testing.assert_array_equal(found.rate, (h != 0).mean(axis=0))
    np.testing.assert_array_equal(found.since_fired, since(h != 0))
    np.testing.assert_allclose(found.mean, h.mean(axis=0), rtol=1e-12)
    np.testing.assert_array_equal(found.max, h.max(axis=0))
    np.testing.assert_allclose(
        found.rms, np.sqrt(np.square(h).mean(axis=0)), rtol=1e-12
    )


def test_masked_positions_and_what_is_no_number():
    x = normal(6, 5, 3)
    x[:, 3:] = 0.0  # masked
    x[0, 0, 0] = np.inf
    x[:, :, 2] = np.where(x[:, :, 2] != 0, np.inf, 0.0)
    model = watch_activations(relu(5, 3, masked=True), "hidden")
    found = unit_statistics(model, x, batch_size=4)["hidden"]
    h = np.maximum(x[:, :3].reshape(-1, 3), 0).astype("float64")
    assert found.positions == 18
    np.testing.assert_allclose(
        found.rate, (np.isfinite(h) & (h != 0)).mean(axis=0)
    )
    first = h[np.isfinite(h[:, 0]), 0]
    np.testing.assert_allclose(found.mean, [first.mean(), 0, np.nan])
    np.testing.assert_allclose(found.max, [first.max(), 0, np.nan])
    assert found.since_fired[1] == found.since_fired[2] == 18


def test_places_are_named():
    inputs = keras.Input((3,))
    hidden = keras.layers.Dense(4, activation="relu", name="hidden")(inputs)
    model = attach_penalty(
        keras.Model(inputs, hidden), "hidden", l2=0.1, on="preactivation"
    )
    model = attach_penalty(model, "hidden", l1=0.1)
    before = [v.numpy() for v in model.variables]
    found = unit_statistics(model, normal(7, 3))
    assert list(found) == ["hidden (preactivation)", "hidden"]
    assert (found["hidden"].rate < 1).any()
    assert (found["hidden (preactivation)"].rate == 1).all()
    for value, variable in zip(before, model.variables, strict=True):
        np.testing.assert_array_equal(value, ops.convert_to_numpy(variable))


def test_a_model_without_penalized_layers():
    model = relu(3)
    with pytest.raises(ValueError, match="model") as caught:
        unit_statistics(model, normal(2, 3))
    assert str(caught.value) == (
        "Invalid value received for argument `model`. Expected a model with "
        "penalized or watched layers: call `attach_penalty(model, ...)` or "
        "`watch_activations(model, ...)` first and use the model that it "
        f"returns. Received: {model.name!r}"
    )


def test_the_last_epoch_of_a_monitor(tmp_path):
    model = watch_activations(relu(4), "hidden")
    model.optimizer.learning_rate = 0.0
    monitor = PenaltyMonitor(
        tmp_path, statistics_freq=1, statistics=("unit_rms",), alerts=()
    )
    assert monitor.unit_statistics == {}
    x = normal(20, 4)
    x[10:, 0] = -1.0
    model.fit(
        x,
        x[:, :1],
        batch_size=5,
        epochs=2,
        shuffle=False,
        verbose=0,
        callbacks=[monitor],
    )
    found = monitor.unit_statistics["hidden"]
    reference = unit_statistics(model, x)["hidden"]
    np.testing.assert_allclose(found.rate, reference.rate, rtol=1e-6)
    np.testing.assert_allclose(found.rms, reference.rms, rtol=1e-5)
    # A step in which a unit fires counts as a whole.
    assert found.positions == 40
    assert found.since_fired[:2].tolist() == [10, 40]
    assert found.mean is None
    assert found.max is None
