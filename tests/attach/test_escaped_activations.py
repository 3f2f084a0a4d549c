"""Penalized layers inside of functions that are traced by themselves."""

import keras
import numpy as np
import pytest
from keras import layers, ops
from models import FEATURES, QUICK, data, functional

from keras_actpen import (
    PenalizedLayer,
    PenaltyMonitor,
    attach_penalty,
    penalties,
    penalty_terms,
)

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
    "vectorized_map": lambda layer, x: ops.vectorized_map(
        lambda row: layer(row[None])[0], x
    ),
    "remat": lambda layer, x: keras.remat(lambda x: layer(x))(x),
    # JAX keeps the trace of a function that it is given twice.
    "remat of the layer": lambda layer, x: keras.remat(layer)(x),
    "tf.function": in_tf_function,
    "jax.checkpoint": in_jax_checkpoint,
}
OF_BACKEND = {
    "tensorflow": [*CALLS][:-1],
    "jax": [how for how in CALLS if how != "tf.function"],
    "torch": ["vectorized_map"],  # it traces none of the others
}[BACKEND]

MESSAGE = (
    "Invalid value received for argument `layers`. Expected a layer whose "
    "activations leave the code that calls it. Received: layer 'target', which "
    "is called inside of a function that lets out only what it returns: that "
    "of `ops.cond`, `ops.map`, `ops.scan`, `ops.while_loop`, "
    "`ops.vectorized_map`, `keras.remat`, `jax.checkpoint` or a `tf.function`, "
    "such as one around `call`. Call the layer outside of that function, or "
    "penalize one that is called outside of it."
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


def penalized(how, run_eagerly=False):
    model = Calling(how)
    model(data()[0])
    model = attach_penalty(model, "target", l2=0.5)
    mode = {"run_eagerly": True} if run_eagerly else QUICK
    model.compile("sgd", "mse", **mode)
    return model


@pytest.mark.parametrize("monitored", [False, True])
@pytest.mark.parametrize(
    ("how", "run_eagerly"),
    [(how, False) for how in OF_BACKEND]
    # TensorFlow runs a branch as it is, see below.
    + [(how, True) for how in OF_BACKEND if how != "cond"],
)
def test_activations_that_cannot_leave_are_told(how, run_eagerly, monitored):
    model = penalized(how, run_eagerly)
    callbacks = [PenaltyMonitor(None)] if monitored else []
    with pytest.raises(ValueError, match="lets out only") as caught:
        model.fit(*data(), verbose=0, callbacks=callbacks)
    assert str(caught.value) == MESSAGE


@pytest.mark.parametrize(
    "how", ["map", "vectorized_map", "tf.function", "jax.checkpoint"]
)
def test_terms_that_cannot_leave_are_told(how):
    if how not in OF_BACKEND:
        pytest.skip(f"{BACKEND} has no such function, or runs it as it is")
    with pytest.raises(ValueError, match="lets out only") as caught:
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


class GoesRound(Calling):
    """Calls its layer by what was made of it when the model was made."""

    def __init__(self, wrap):
        super().__init__(None)
        self.wrapped = wrap(self.target)

    def call(self, x):
        return self.head(self.wrapped(x))


# torch runs what it cannot trace: there only the monitor tells.
@pytest.mark.skipif(BACKEND == "torch", reason="is not traced when attaching")
@pytest.mark.parametrize(
    "wrap", [keras.remat, lambda layer: layer.__call__], ids=["remat", "method"]
)
def test_a_layer_that_the_code_goes_round_is_refused(wrap):
    model = GoesRound(wrap)
    model(data()[0])
    target = model.target
    with pytest.raises(ValueError, match="by another object") as caught:
        attach_penalty(model, "target", l2=0.5)
    assert str(caught.value) == (
        "Invalid value received for argument `layers`. Expected a layer that "
        "the code of the model calls by the attribute that holds it. Received: "
        "layer 'target', which model 'calling' calls by another object, such "
        "as a function or a `keras.remat(layer)` that was made in `__init__`, "
        "or a layer that holds it too. Make it in `call`, of the attribute, or "
        "name the layer by the path of the one that calls it."
    )
    assert model.target is target
    # What is on a weight is in the loss whoever calls the layer.
    attach_penalty(model, "target", l2=0.5, on="kernel")


def test_attaching_leaves_the_state_of_a_model():
    class Counting(Calling):
        def __init__(self):
            super().__init__("remat")
            self.normalized = layers.BatchNormalization(name="normalized")
            self.noise = layers.GaussianNoise(1.0, seed=1)

        def call(self, x, training=False):
            h = self.normalized(self.target(x), training=training)
            return self.head(self.noise(h, training=training))

    model = Counting()
    model(data()[0])
    before = [ops.convert_to_numpy(v) for v in model.variables]
    model = attach_penalty(model, "target", l2=0.0)
    after = [ops.convert_to_numpy(v) for v in model.variables]
    # The coefficient comes with the penalized layer.
    assert len(after) == len(before) + 1
    values = [one.tolist() for one in after]
    assert all(one.tolist() in values for one in before)


class Penalizing(layers.Layer):
    """Calls a penalized layer of its own."""

    def __init__(self):
        super().__init__()
        self.target = PenalizedLayer(layers.Dense(FEATURES), penalties.L2(0.5))

    def call(self, x):
        return self.target(x)


def test_losses_of_a_model_that_was_only_built():
    inputs = keras.Input((FEATURES,))
    model = keras.Model(inputs, layers.Dense(2)(Penalizing()(inputs)))
    assert model.losses == []


@pytest.mark.skipif(BACKEND != "tensorflow", reason="scopes of names")
def test_a_layer_with_the_name_of_a_scope_of_maps():
    inner = keras.Sequential(
        [keras.Input((FEATURES,)), layers.Dense(2, name="target")],
        name="loop_body_of_mine",
    )
    inputs = keras.Input((FEATURES,))
    model = attach_penalty(keras.Model(inputs, inner(inputs)), "target", l2=1.0)
    model.compile("sgd", "mse", **QUICK)
    model.fit(*data(), verbose=0)


@pytest.mark.parametrize("mode", ["full", "activations"])
def test_a_preactivation_in_a_remat_scope(mode):
    with keras.RematScope(mode=mode):
        model = functional()
    if BACKEND == "torch":
        model = attach_penalty(model, "dense_4", l2=0.5, on="preactivation")
        assert penalty_terms(model, data()[0])["dense_4/l2"] > 0
        return
    with pytest.raises(ValueError, match="RematScope") as caught:
        attach_penalty(model, "dense_4", l2=0.5, on="preactivation")
    assert (
        "Invalid value received for argument `on`. Expected on='output' for "
        "layer 'dense_4' (of type Dense), which was made in a "
        "`keras.RematScope`: what its activation receives cannot leave the "
        "code that is run a second time for the gradients. Received: "
        "on='preactivation'"
    ) in str(caught.value)


@pytest.mark.skipif(BACKEND != "tensorflow", reason="tf.function")
def test_losses_outside_of_a_tf_function():
    import tensorflow as tf

    model = attach_penalty(functional(), "dense_4", l2=0.5)
    tf.function(model)(data()[0])
    with pytest.warns(UserWarning, match="not among") as caught:
        assert model.losses == []
    assert str(caught[0].message) == (
        "The penalty of layer 'dense_4' is not among these `losses`: the layer "
        "was called in a `tf.function`, and they are asked for outside of it. "
        "Ask for them where the model is called."
    )
