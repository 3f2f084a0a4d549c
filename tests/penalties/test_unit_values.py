"""Weights and thresholds per unit: constants, and what is trained."""

import json
import re

import keras
import numpy as np
import pytest
from gradients import central_differences, value_and_gradient
from keras import ops
from models import QUICK, data
from penalty_cases import smooth_steps

from keras_actpen import attach_penalty, penalized_layers, penalties

UNITS = 5


def exactly(message):
    return "^" + re.escape(message) + "$"


@keras.saving.register_keras_serializable(package="tests")
def one_to_five():
    return ops.arange(1.0, 6.0)


@keras.saving.register_keras_serializable(package="tests")
class JumpReLU(keras.layers.Layer):
    """Its thresholds have no gradient here but that of a penalty."""

    def build(self, shape):
        self.threshold = self.add_weight(shape=shape[-1:], initializer="ones")

    def call(self, x):
        return ops.where(x > self.threshold, x, 0.0)


def random(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (
            lambda read: penalties.L1(1.0, unit_weights=read),
            lambda h: np.sum(np.arange(1, 6) * np.abs(h)) / len(h),
        ),
        (
            lambda read: penalties.L0(1.0, threshold=read),
            lambda h: np.sum(h > np.arange(1, 6)) / h[..., 0].size,
        ),
    ],
)
@pytest.mark.parametrize(
    "values",
    [
        [1.0, 2.0, 3.0, 4.0, 5.0],
        (1, 2, 3, 4, 5),
        range(1, 6),
        np.arange(1.0, 6.0),
        ops.arange(1.0, 6.0),
        one_to_five,
    ],
)
def test_every_form_and_its_description(make, expected, values):
    h = 3 * random(4, 3, UNITS)
    penalty = make(values)
    np.testing.assert_allclose(float(penalty(h)), expected(h), 1e-6)
    description = json.loads(json.dumps(penalties.serialize(penalty)))
    copy = penalties.deserialize(description)
    assert copy.get_config() == penalty.get_config()
    assert float(copy(h)) == float(penalty(h))
    if values is one_to_five:
        assert "tests>one_to_five" in str(description)
    half = make(values)(ops.cast(h, "float16"))
    assert keras.backend.standardize_dtype(half.dtype) == "float32"


def test_lambdas_obey_safe_mode():
    penalty = penalties.L1(1.0, unit_weights=lambda: 17)
    with pytest.warns(UserWarning, match="includes a `lambda`"):
        description = penalties.serialize(penalty)
    with pytest.raises(ValueError, match="lambda"):
        penalties.deserialize(description)
    copy = penalties.deserialize(description, safe_mode=False)
    assert copy.unit_weights() == 17


def test_a_long_array_is_shown_abridged():
    text = repr(penalties.L1(0.5, unit_weights=np.ones(5000), name="wide"))
    assert text == (
        "L1(coefficient=0.5, unit_weights=array([1., 1., 1., ..., 1., 1., "
        "1.], shape=(5000,)), reduction='batch', name='wide')"
    )


@pytest.mark.parametrize("bandwidth", [0.1, 0.7, 2.0])
@pytest.mark.parametrize("reduction", ["position", "sum"])
def test_gradient_of_thresholds_is_that_of_the_smoothed_step(
    bandwidth, reduction
):
    h = random(4, 50, UNITS)
    thresholds = np.linspace(0.0, 1.0, UNITS, dtype="float32")

    def penalty_of(thresholds):
        penalty = penalties.L0(
            2.0,
            threshold=lambda: thresholds,
            bandwidth=bandwidth,
            reduction=reduction,
        )
        return penalty(ops.convert_to_tensor(h))

    def smoothed(thresholds):
        positions = 1 if reduction == "position" else 200
        return 2.0 * positions * smooth_steps(h, thresholds, bandwidth)

    value, gradient = value_and_gradient(penalty_of, thresholds)
    counted = 2.0 * np.sum(h > thresholds)
    np.testing.assert_allclose(
        value, counted / (200 if reduction == "position" else 1), 1e-6
    )
    expected = central_differences(smoothed, thresholds)
    assert (expected < 0).all()
    # An h within the step of the differences of an edge counts in part.
    np.testing.assert_allclose(gradient, expected, rtol=1e-4)


def test_trained_thresholds_leave_the_activations_alone():
    h = random(4, UNITS)
    penalty = penalties.L0(threshold=one_to_five, bandwidth=10.0)
    # The sum of h, because torch has no gradients of what h is no part of.
    _, gradient = value_and_gradient(lambda h: penalty(h) + ops.sum(h), h)
    assert (gradient == 1).all()


def test_infinite_activations_count():
    h = np.array([[np.inf, -np.inf, 1.0]], "float32")
    value, gradient = value_and_gradient(penalties.L0(1.0), h)
    assert value == 2
    assert (gradient == 0).all()


def autoencoder(activation):
    keras.utils.set_random_seed(3)
    return keras.Sequential(
        [
            keras.Input((4,)),
            keras.layers.Dense(UNITS, name="encode"),
            activation,
            keras.layers.Dense(4, use_bias=False, name="decode"),
        ]
    )


def after_one_step(model):
    """Weights after a step down the gradient of the penalty alone."""
    x, _ = data(6)
    # A loss without a gradient, so that the penalty's is all there is.
    model.compile(
        keras.optimizers.SGD(1.0), lambda y, p: 0.0 * ops.sum(p), **QUICK
    )
    model.fit(x, x, batch_size=6, verbose=0)


def test_a_step_of_fit_moves_thresholds():
    jump = JumpReLU()
    plain = autoencoder(jump)
    count = penalties.L0(0.1, threshold=lambda: jump.threshold, bandwidth=1.5)
    model = attach_penalty(plain, "encode", count)
    h = np.asarray(ops.convert_to_numpy(plain.layers[0](data(6)[0])))
    before = ops.convert_to_numpy(jump.threshold)
    kernel = ops.convert_to_numpy(plain.layers[0].kernel)
    after_one_step(model)
    slope = central_differences(lambda t: smooth_steps(h, t, 1.5), before)
    assert slope.any()
    after = ops.convert_to_numpy(jump.threshold)
    np.testing.assert_allclose(after, before - 0.1 * slope, rtol=1e-5)
    assert np.array_equal(kernel, ops.convert_to_numpy(plain.layers[0].kernel))


def test_a_step_of_fit_moves_a_decoder():
    plain = autoencoder(keras.layers.ReLU())
    decoder = plain.get_layer("decode")
    weighted = penalties.L1(
        0.1, unit_weights=lambda: ops.norm(decoder.kernel, axis=1)
    )
    model = attach_penalty(plain, "encode", weighted)
    h = np.asarray(ops.convert_to_numpy(plain.layers[0](data(6)[0])))
    before = ops.convert_to_numpy(decoder.kernel)
    after_one_step(model)

    def value(kernel):
        norms = np.linalg.norm(kernel, axis=1)
        return 0.1 * np.sum(norms * np.abs(h)) / 6

    expected = before - central_differences(value, before)
    after = ops.convert_to_numpy(decoder.kernel)
    np.testing.assert_allclose(after, expected, rtol=1e-4, atol=1e-6)


def test_a_saved_model_keeps_its_weights(tmp_path):
    x, _ = data(6)
    plain = autoencoder(keras.layers.ReLU())
    terms = [
        penalties.L1(0.1, unit_weights=[1, 2, 3, 4, 5], name="constant"),
        penalties.L1(0.2, unit_weights=one_to_five, name="function"),
    ]
    model = attach_penalty(plain, "encode", terms)
    model.save(tmp_path / "model.keras")
    copy = keras.saving.load_model(tmp_path / "model.keras")
    layer = penalized_layers(copy)["encode"]
    for name, penalty in (("constant", terms[0]), ("function", terms[1])):
        assert layer.terms[name].penalty.get_config() == penalty.get_config()
    losses = [
        float(ops.convert_to_numpy(sum(one.losses)))
        for one in (model, copy)
        if one(x, training=True) is not None
    ]
    assert losses[0] > 0
    np.testing.assert_allclose(losses[1], losses[0], rtol=1e-6)


WANTED = (
    "one finite number >= 0 per unit, for example unit_weights=[1.0, 0.5], or "
    "a function without arguments that returns them"
)
WRONG_SIZE = (
    "Invalid value received for argument `{0}`. Expected 5 numbers, one for "
    "each unit of the layer. Received: values of shape (3,). Write "
    "{0}=np.ones(5) and fill in your own values."
)


@pytest.mark.parametrize(
    ("values", "error", "received"),
    [
        ([1.0, -0.5], ValueError, "[1.0, -0.5]"),
        ([1.0, float("nan")], ValueError, "[1.0, nan]"),
        ([1.0, 1e39], ValueError, "[1.0, 1e+39]"),
        ([[1.0]], ValueError, "[[1.0]]"),
        (2.0, ValueError, "2.0"),
        ("ones", TypeError, "'ones' (of type str)"),
        ({}, TypeError, "{} (of type dict)"),
    ],
)
def test_bad_weights(values, error, received):
    what = "value" if error is ValueError else "type"
    message = (
        f"Invalid {what} received for argument `unit_weights`. Expected "
        f"{WANTED}. Received: unit_weights={received}"
    )
    with pytest.raises(error, match=exactly(message)):
        penalties.L1(unit_weights=values)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (
            {"bandwidth": 0},
            ValueError,
            "Invalid value received for argument `bandwidth`. Expected a "
            "finite number > 0, for example bandwidth=0.001. Received: "
            "bandwidth=0",
        ),
        (
            {"threshold": float("inf")},
            ValueError,
            "Invalid value received for argument `threshold`. Expected a "
            "finite number, for example threshold=0.1. Received: "
            "threshold=inf",
        ),
    ],
)
def test_bad_arguments_of_l0(arguments, error, message):
    with pytest.raises(error, match=exactly(message)):
        penalties.L0(**arguments)


@pytest.mark.parametrize(
    ("penalty", "argument"),
    [
        (penalties.L1(unit_weights=[1, 2, 3]), "unit_weights"),
        (penalties.L0(threshold=[1, 2, 3]), "threshold"),
    ],
)
def test_another_number_of_units(penalty, argument):
    message = exactly(WRONG_SIZE.format(argument))
    with pytest.raises(ValueError, match=message):
        penalty.check_target(keras.KerasTensor((None, 7, 5)), None, "output")
    with pytest.raises(ValueError, match=message):
        penalty(random(4, UNITS))
    penalty.check_target(keras.KerasTensor((None, 3)), None, "output")
    penalty.check_target(keras.KerasTensor((None, None)), None, "output")


def test_a_function_that_returns_another_number_of_units():
    penalty = penalties.L1(unit_weights=lambda: ops.ones((3,)))
    message = exactly(WRONG_SIZE.format("unit_weights"))
    with pytest.raises(ValueError, match=message):
        penalty(random(4, UNITS))
