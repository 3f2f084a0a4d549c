"""Tiny models and data that several test files share."""

import keras
import numpy as np
from keras import layers

FEATURES = 4

# XLA on TensorFlow compiles for seconds; without a jit JAX runs op by op.
QUICK = {"jit_compile": keras.backend.backend() == "jax"}


def data(samples=10, features=FEATURES, targets=2, seed=1):
    """Inputs and targets of a regression."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(samples, features)).astype("float32")
    y = rng.normal(size=(samples, targets)).astype("float32")
    return x, y


def sequential():
    return keras.Sequential(
        [
            keras.Input((FEATURES,)),
            layers.Dense(8, activation="relu", name="dense_4"),
            layers.Dropout(0.25, name="drop"),
            layers.Dense(2, name="head"),
        ],
        name="sequential_model",
    )


def functional():
    inputs = keras.Input((FEATURES,), name="features")
    x = layers.Dense(6, activation="tanh", name="first")(inputs)
    x = layers.BatchNormalization(name="norm")(x)
    x = layers.Dense(8, activation="relu", name="dense_4")(x)
    skip = layers.Dense(8, name="skip")(inputs)
    x = layers.Add(name="add")([x, skip])
    outputs = layers.Dense(2, name="head")(x)
    return keras.Model(inputs, outputs, name="functional_model")


def nested():
    """A Functional encoder and a Sequential decoder, targets in both."""
    inputs = keras.Input((FEATURES,))
    x = layers.Dense(6, activation="relu", name="dense_4")(inputs)
    encoder = keras.Model(
        inputs, layers.Dense(3, name="code")(x), name="encoder"
    )
    decoder = keras.Sequential(
        [
            keras.Input((3,)),
            layers.Dense(6, activation="relu", name="unfold"),
            layers.Dense(2, name="head"),
        ],
        name="decoder",
    )
    inputs = keras.Input((FEATURES,), name="features")
    return keras.Model(inputs, decoder(encoder(inputs)), name="nested_model")


def shared():
    """One layer that is called twice."""
    layer = layers.Dense(FEATURES, activation="tanh", name="dense_4")
    inputs = keras.Input((FEATURES,))
    x = layer(inputs)
    outputs = layers.Dense(2, name="head")(layer(x * 2.0))
    return keras.Model(inputs, outputs, name="shared_model")


def by_keys():
    """Inputs and outputs in dictionaries."""
    left = keras.Input((FEATURES,), name="left")
    right = keras.Input((FEATURES,), name="right")
    x = layers.Concatenate(name="both")([left, right])
    x = layers.Dense(6, activation="relu", name="dense_4")(x)
    outputs = {
        "mean": layers.Dense(2, name="mean")(x),
        "spread": layers.Dense(2, name="spread")(x),
    }
    return keras.Model(
        {"left": left, "right": right}, outputs, name="model_by_keys"
    )


@keras.saving.register_keras_serializable(package="tests")
class DoubledLoss(keras.Model):
    """A Functional model of the user's own class, with a loss of its own."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.factor = 2.0
        self.notes = {"author": "a user"}

    def compute_loss(self, x=None, y=None, y_pred=None, *args, **kwargs):
        loss = super().compute_loss(x, y, y_pred, *args, **kwargs)
        return self.factor * loss

    def train_step(self, *args, **kwargs):
        self.steps_seen = getattr(self, "steps_seen", 0) + 1
        return super().train_step(*args, **kwargs)


def of_users_class():
    plain = functional()
    return DoubledLoss(plain.input, plain.outputs, name="users_model")


@keras.saving.register_keras_serializable(package="tests")
class Subclassed(keras.Model):
    """A model whose graph is its own code."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.dense_4 = layers.Dense(8, activation="relu", name="dense_4")
        self.blocks = [
            layers.Dense(6, activation="tanh", name="first_block"),
            layers.Dense(6, activation="tanh", name="second_block"),
        ]
        self.head = layers.Dense(2, name="head")

    def call(self, inputs):
        x = self.dense_4(inputs)
        for block in self.blocks:
            x = block(x)
        return self.head(x)


def subclassed():
    model = Subclassed(name="subclassed_model")
    model(np.zeros((1, FEATURES), "float32"))
    return model


# Models whose layers are cloned around, by the name of their kind.
GRAPH_MODELS = {
    "sequential": sequential,
    "functional": functional,
    "nested": nested,
    "shared": shared,
    "by_keys": by_keys,
    "users_class": of_users_class,
}
MODELS = {**GRAPH_MODELS, "subclassed": subclassed}


def data_for(model, samples=10):
    """Inputs and targets in the structure that one of these models takes."""
    x, y = data(samples)
    if model.name == "model_by_keys":
        return {"left": x, "right": x[:, ::-1].copy()}, {
            "mean": y,
            "spread": y + 1.0,
        }
    return x, y


def input_of(model):
    """Input in the structure that the model is called with."""
    if isinstance(model, keras.Sequential):
        return model.inputs[0]
    return model.input


def up_to(model, name):
    """The part of a model that ends with the output of a layer."""
    return keras.Model(input_of(model), model.get_layer(name).output)


def outputs_of(model, x):
    """Flat list of the outputs as NumPy arrays."""
    outputs = model(x, training=False)
    return [
        keras.ops.convert_to_numpy(value)
        for value in keras.tree.flatten(outputs)
    ]


def assert_same_arrays(found, expected, **tolerances):
    """Compare lists of arrays: exactly, or within the tolerances."""
    found, expected = list(found), list(expected)
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        if tolerances:
            np.testing.assert_allclose(one, other, **tolerances)
        else:
            np.testing.assert_array_equal(one, other)
