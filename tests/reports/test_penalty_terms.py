"""penalty_terms: what is asked for is there, whatever the model calls."""

import keras
import numpy as np

from keras_actpen import attach_penalty, penalty_terms


class Sometimes(keras.Model):
    """Calls one of its layers in training alone."""

    def __init__(self):
        super().__init__()
        self.always = keras.layers.Dense(
            2, kernel_initializer="ones", name="always"
        )
        self.sometimes = keras.layers.Dense(
            2, kernel_initializer="ones", name="sometimes"
        )

    def call(self, x, training=False):
        x = self.always(x)
        return self.sometimes(x) if training else x


def test_terms_of_a_layer_that_was_not_called_are_0():
    model = Sometimes()
    x = np.ones((1, 3), "float32")
    model(x, training=True)
    model = attach_penalty(model, ["always", "sometimes"], l1=0.5)
    both = {"always/l1": 3.0, "sometimes/l1": 6.0}
    assert penalty_terms(model, x, training=True) == both
    assert penalty_terms(model, x) == both | {"sometimes/l1": 0.0}
