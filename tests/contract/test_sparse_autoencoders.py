"""A sparse autoencoder, and the same written by hand on the same batches."""

import keras
import numpy as np
import pytest
from keras import layers, ops
from models import QUICK, assert_same_arrays

from keras_actpen import (
    PenaltyMonitor,
    PenaltyScheduler,
    attach_penalty,
    penalties,
    unit_statistics,
)

WIDTH, FEATURES, L1, WARM_UP = 6, 16, 0.3, 8


class Tied(layers.Layer):
    """A decoder with the kernel of the encoder."""

    def __init__(self, encoder):
        super().__init__()
        self.encoder = encoder

    def build(self, shape):
        self.bias = self.add_weight(shape=(WIDTH,), initializer="zeros")

    def call(self, code):
        return ops.matmul(code, ops.transpose(self.encoder.kernel)) + self.bias


def code_and_decoder(kind):
    keras.utils.set_random_seed(3)
    code = layers.Dense(FEATURES, activation="relu", name="code")
    if kind == "tied":
        return code, Tied(code)
    constraint = keras.constraints.UnitNorm(axis=1)
    if kind == "weighted":
        constraint = None
    return code, layers.Dense(WIDTH, kernel_constraint=constraint)


def norms(decoder):
    """Of the directions of the features."""
    return ops.norm(decoder.kernel, axis=1)


class ByHand(keras.Model):
    """Adds the penalty to its loss, and counts the steps of the warm-up."""

    def __init__(self, kind):
        super().__init__()
        self.code, self.decoder = code_and_decoder(kind)
        self.weighted = kind == "weighted"
        self.steps = self.add_weight(
            shape=(), initializer="zeros", trainable=False
        )

    def call(self, x, training=False):
        code = self.code(x)
        decoded = self.decoder(code)
        size = ops.abs(code)
        if self.weighted:
            size *= norms(self.decoder)
        coefficient = L1 * ops.minimum(self.steps / WARM_UP, 1.0)
        self.add_loss(coefficient * ops.mean(ops.sum(size, axis=-1)))
        if training:
            self.steps.assign_add(1.0)
        return decoded


def trained(model, x, *callbacks):
    """Losses of the epochs and final weights; the last batch is ragged."""
    model.compile(keras.optimizers.Adam(0.01), "mse", **QUICK)
    keras.utils.set_random_seed(5)
    history = model.fit(
        x, x, batch_size=8, epochs=6, verbose=0, callbacks=list(callbacks)
    ).history
    weights = [ops.convert_to_numpy(one) for one in model.trainable_weights]
    return history["loss"], weights


@pytest.mark.parametrize("kind", ["untied", "tied", "weighted"])
def test_equals_the_one_written_by_hand(kind):
    x = np.random.default_rng(0).normal(size=(20, WIDTH)).astype("float32")
    code, decoder = code_and_decoder(kind)
    plain = keras.Sequential([keras.Input((WIDTH,)), code, decoder])
    penalty = penalties.L1(
        L1,
        unit_weights=(lambda: norms(decoder)) if kind == "weighted" else None,
        reduction="position",
    )
    model = attach_penalty(plain, "code", penalty)
    warm_up = keras.optimizers.schedules.PolynomialDecay(0.0, WARM_UP, 1.0)
    monitor = PenaltyMonitor(None, alerts="sparse")
    losses, weights = trained(model, x, PenaltyScheduler(warm_up), monitor)
    by_hand = ByHand(kind)
    expected_losses, expected_weights = trained(by_hand, x)
    np.testing.assert_allclose(losses, expected_losses, rtol=1e-6)
    assert_same_arrays(weights, expected_weights, rtol=1e-5, atol=1e-5)
    if kind == "untied":
        np.testing.assert_allclose(
            ops.convert_to_numpy(norms(decoder)), 1.0, rtol=1e-5
        )
    code = ops.convert_to_numpy(by_hand.code(x))
    found = unit_statistics(model, x, verbose=0)["code"]
    np.testing.assert_allclose(found.rate, np.mean(code > 0, axis=0))
    np.testing.assert_array_equal(
        found.since_fired == len(x), (code == 0).all(axis=0)
    )
