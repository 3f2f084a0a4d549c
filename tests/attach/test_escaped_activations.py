"""Penalized layers inside of functions that are traced by themselves."""

import keras
import numpy as np
import pytest
from keras import layers, ops
from models import FEATURES, QUICK, data

from keras_actpen import PenaltyMonitor, attach_penalty, penalty_terms

BACKEND = keras.backend.backend()


def in_tf_function(layer, x):
    import tensorflow as tf

    return tf.function(layer)(x)


def in_jax_checkpoint(layer, x):
    import jax

    return jax.checkpoint(lambda x: layer(x))(x)


def one_by_one(layer, x):
    rows = ops.map(lambda row: layer(row[None])[0], x)
    return ops.reshape(rows, ops.shape(x))


CALLS = {
    "cond": lambda layer, x: ops.cond(
        ops.sum(ops.abs(x)) > -1.0, lambda: layer(x), lambda: x
    ),
    "map": one_by_one,
    "tf.function": in_tf_function,
    "jax.checkpoint": in_jax_checkpoint,
}
OF_BACKEND = [
    "cond",
    "map",
    *{"tensorflow": ["tf.function"], "jax": ["jax.checkpoint"]}.get(
        BACKEND, []
    ),
]

MESSAGE = (
    "Invalid value received for argument `layers`. Expected a layer whose "
    "activations leave the code that calls it. Received: layer 'target', which "
    "is called inside of a function that is traced by itself: that of "
    "`ops.cond`, `ops.map`, `ops.scan`, `ops.while_loop`, "
    "`ops.vectorized_map`, `jax.checkpoint` or a `tf.function`, such as one "
    "around `call`. Call the layer outside of that function, or penalize a "
    "layer that is."
)


class Calling(keras.Model):
    """Calls its layer in one of these ways."""

    def __init__(self, how):
        super().__init__(name="calling")
        self.how = how
        self.target = layers.Dense(FEATURES, name="target")
        self.head = layers.Dense(2, name="head")

    def call(self, x):
        return self.head(CALLS[self.how](self.target, x))


def penalized(how):
    model = Calling(how)
    model(data()[0])
    model = attach_penalty(model, "target", l2=0.5)
    model.compile("sgd", "mse", **QUICK)
    return model


@pytest.mark.skipif(BACKEND == "torch", reason="torch traces none of them")
@pytest.mark.parametrize("monitored", [False, True])
@pytest.mark.parametrize("how", OF_BACKEND)
def test_activations_that_cannot_leave_are_told(how, monitored):
    model = penalized(how)
    callbacks = [PenaltyMonitor(None)] if monitored else []
    with pytest.raises(ValueError, match="traced by itself") as caught:
        model.fit(*data(), verbose=0, callbacks=callbacks)
    assert str(caught.value) == MESSAGE


@pytest.mark.skipif(BACKEND == "torch", reason="torch traces none of them")
@pytest.mark.parametrize("how", OF_BACKEND[2:])
def test_terms_that_cannot_leave_are_told(how):
    with pytest.raises(ValueError, match="traced by itself") as caught:
        penalty_terms(penalized(how), data()[0])
    assert MESSAGE in str(caught.value)  # Keras adds the arguments of `call`


@pytest.mark.skipif(BACKEND == "jax", reason="JAX traces it eagerly too")
def test_branch_that_runs_eagerly():
    model, (x, _) = penalized("cond"), data()
    kernel, bias = model.target.get_weights()
    expected = 0.5 * np.sum((x.astype("float64") @ kernel + bias) ** 2) / len(x)
    assert penalty_terms(model, x) == {"target/l2": pytest.approx(expected)}
    model(x)
    found = float(ops.convert_to_numpy(sum(model.losses)))
    assert found == pytest.approx(expected, rel=1e-5)
