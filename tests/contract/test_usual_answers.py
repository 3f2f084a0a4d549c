"""One call against the three usual answers, which rebuild the model."""

import keras
import numpy as np
import pytest
from keras import layers, ops
from models import FEATURES, QUICK, assert_same_arrays, data

from keras_actpen import attach_penalty, penalties, penalty_terms

EPOCHS = 2
BATCH = 4  # of 10 samples: the last batch is ragged


@keras.saving.register_keras_serializable(package="tests")
class Quartic(keras.regularizers.Regularizer):
    def __call__(self, x):
        return 0.2 * ops.sum(ops.power(x, 4)) + 0.1 * ops.max(x)

    def get_config(self):
        return {}


def fitted(model, x, y, **compile_arguments):
    """History of the loss and final weights."""
    optimizer = keras.optimizers.SGD(0.05, momentum=0.5)
    model.compile(optimizer, **{"loss": "mse", **QUICK, **compile_arguments})
    history = model.fit(
        x, y, batch_size=BATCH, epochs=EPOCHS, shuffle=False, verbose=0
    )
    return history.history["loss"], model.get_weights()


def assert_same_training(found, expected):
    np.testing.assert_allclose(found[0], expected[0], rtol=1e-6)
    assert_same_arrays(found[1], expected[1], rtol=1e-6, atol=1e-7)


def dense(**arguments):
    return [
        keras.Input((FEATURES,)),
        layers.Dense(8, activation="relu", name="dense_4", **arguments),
        layers.Dense(2),
    ]


def convolution(**arguments):
    return [
        keras.Input((FEATURES,)),
        layers.Reshape((2, 2, 1)),
        layers.Conv2D(3, 2, activation="tanh", name="dense_4", **arguments),
        layers.Flatten(),
        layers.Dense(2),
    ]


def recurrence(**arguments):
    return [
        keras.Input((FEATURES,)),
        layers.Reshape((FEATURES, 1)),
        layers.LSTM(3, return_sequences=True, name="dense_4", **arguments),
        layers.Flatten(),
        layers.Dense(2),
    ]


ARCHITECTURES = [dense, convolution, recurrence]
PENALTIES = {
    "l1": (dict(l1=0.05), lambda: keras.regularizers.L1(0.05)),
    "l2": (dict(l2=0.05), lambda: keras.regularizers.L2(0.05)),
    "l1_and_l2": (
        dict(l1=0.03, l2=0.05),
        lambda: keras.regularizers.L1L2(0.03, 0.05),
    ),
    "l1_l2": (
        dict(penalty=penalties.L1L2(0.03, 0.05)),
        lambda: keras.regularizers.L1L2(0.03, 0.05),
    ),
    "regularizer": (
        dict(penalty=keras.regularizers.L1L2(0.03, 0.05)),
        lambda: keras.regularizers.L1L2(0.03, 0.05),
    ),
    "users_regularizer": (dict(penalty=Quartic()), Quartic),
}


def pair(architecture, rebuild_arguments, **arguments):
    """The rebuilt model, and a plain one with the same initial weights."""
    rebuilt = keras.Sequential(architecture(**arguments, **rebuild_arguments))
    plain = keras.Sequential(architecture(**arguments))
    plain.set_weights(rebuilt.get_weights())
    return rebuilt, plain


@pytest.mark.parametrize(
    ("architecture", "kind"),
    [
        *((dense, kind) for kind in PENALTIES),
        *((convolution, kind) for kind in ("l1", "l2", "users_regularizer")),
        *((recurrence, kind) for kind in ("l1", "l2", "l1_l2")),
    ],
)
def test_activity_regularizer(architecture, kind):
    ours, theirs = PENALTIES[kind]
    x, y = data()
    rebuilt, plain = pair(architecture, {"activity_regularizer": theirs()})
    attached = attach_penalty(plain, "dense_4", **ours)
    # The agreement is not that of two models without a penalty.
    assert sum(penalty_terms(attached, x).values()) > 1e-3
    assert_same_training(fitted(attached, x, y), fitted(rebuilt, x, y))


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_beside_weight_regularizers(architecture):
    x, y = data()
    rebuilt, plain = pair(
        architecture,
        {"activity_regularizer": keras.regularizers.L2(0.05)},
        kernel_regularizer=keras.regularizers.L2(0.1),
        bias_regularizer=keras.regularizers.L1(0.02),
    )
    found = fitted(attach_penalty(plain, "dense_4", l2=0.05), x, y)
    assert_same_training(found, fitted(rebuilt, x, y))


def test_beside_an_activity_regularizer_of_the_layer():
    x, y = data()
    once, plain = pair(
        dense,
        {"activity_regularizer": keras.regularizers.L2(0.05)},
    )
    twice = keras.Sequential(
        dense(activity_regularizer=keras.regularizers.L2(0.02))
    )
    twice.set_weights(plain.get_weights())
    found = fitted(attach_penalty(twice, "dense_4", l2=0.03), x, y)
    assert_same_training(found, fitted(once, x, y))


@pytest.mark.parametrize("on", ["output", "preactivation"])
def test_second_output_with_a_loss_of_its_own(on):
    x, y = data()
    inputs = keras.Input((FEATURES,))
    before = layers.Dense(8, name="dense_4")(inputs)
    after = layers.ReLU()(before)
    hidden = after if on == "output" else before
    outputs = layers.Dense(2)(after)
    rebuilt = keras.Model(inputs, [outputs, hidden])
    plain = keras.Sequential(dense())
    plain.set_weights(rebuilt.get_weights())

    def energy(_, activations):
        return 0.05 * ops.sum(ops.square(activations), axis=-1)

    found = fitted(attach_penalty(plain, "dense_4", l2=0.05, on=on), x, y)
    unused = np.zeros((len(x), 8), "float32")
    expected = fitted(rebuilt, x, [y, unused], loss=["mse", energy])
    assert_same_training(found, expected)


class AddEnergy(layers.Layer):
    """The pass-through layer of the usual answer."""

    def call(self, inputs):
        self.add_loss(0.02 * ops.sum(ops.square(inputs)))
        return inputs


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_pass_through_layer(architecture):
    x, y = data()
    built = architecture()
    spec = [getattr(layer, "name", "") for layer in built].index("dense_4")
    built.insert(spec + 1, AddEnergy())
    rebuilt = keras.Sequential(built)
    plain = keras.Sequential(architecture())
    plain.set_weights(rebuilt.get_weights())
    attached = attach_penalty(
        plain, "dense_4", penalties.L2(0.02, reduction="sum")
    )
    assert_same_training(fitted(attached, x, y), fitted(rebuilt, x, y))


def test_validation_loss():
    x, y = data()
    rebuilt, plain = pair(
        dense, {"activity_regularizer": keras.regularizers.L2(0.05)}
    )
    attached = attach_penalty(plain, "dense_4", l2=0.05)
    for model in (attached, rebuilt):
        model.compile("sgd", "mse", **QUICK)
    found, expected = (
        model.evaluate(x, y, batch_size=BATCH, verbose=0)
        for model in (attached, rebuilt)
    )
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    plain.compile("sgd", "mse", **QUICK)
    assert found > 1.001 * plain.evaluate(x, y, batch_size=BATCH, verbose=0)
