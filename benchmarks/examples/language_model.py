"""AR and TAR on a small LSTM language model that reads Python's own manual.

Merity, McCann and Socher 2017, "Revisiting Activation Regularization for
Language RNNs": the outputs of the last LSTM are held small (AR) and slow
(TAR). An L1 penalty makes the Dense inside the head sparse, which a glob
names. The text is that of `pydoc_data`, a part of Python.
"""

from pydoc_data.topics import topics

import keras
import numpy as np
from keras import layers, ops

from benchmarks.examples import command_line
from keras_actpen import attach_penalty, penalty_terms
from keras_actpen.penalties import (
    L1,
    ActivationRegularization,
    TemporalActivationRegularization,
)

LENGTH = 32
FULL = {"epochs": 5, "samples": 4000}
QUICK = {"epochs": 3, "samples": 192}


class Head(layers.Layer):
    """From the outputs of the LSTM to logits, by way of a hidden Dense."""

    def __init__(self, alphabet: int, **kwargs):
        super().__init__(**kwargs)
        self.hidden = layers.Dense(64, activation="relu")
        self.logits = layers.Dense(alphabet)

    def build(self, shape: tuple[int | None, ...]) -> None:
        """Make the weights."""
        self.hidden.build(shape)
        self.logits.build((*shape[:-1], self.hidden.units))

    def call(self, x):
        """Logits of the next character."""
        return self.logits(self.hidden(x))


def build(alphabet: int) -> keras.Model:
    """The plain model, compiled."""
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.Input((LENGTH,), dtype="int32"),
            layers.Embedding(alphabet, 24),
            layers.LSTM(48, return_sequences=True, name="last_lstm"),
            Head(alphabet, name="head"),
        ]
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(0.01), loss)
    return model


def text(samples: int) -> tuple[np.ndarray, np.ndarray, int]:
    """Characters, the next characters, and how many there are."""
    characters = "".join(topics.values())[: samples * LENGTH + 1]
    alphabet, ids = np.unique(list(characters), return_inverse=True)
    x, y = ids[:-1].reshape(-1, LENGTH), ids[1:].reshape(-1, LENGTH)
    return x.astype("int32"), y.astype("int32"), len(alphabet)


def run(epochs: int, samples: int) -> command_line.Rows:
    """Train with and without the penalties."""
    x, y, alphabet = text(samples)
    rows = {}
    for title, penalties in {
        "plain": {},
        "penalized": {
            "last_lstm": [
                ActivationRegularization(2.0, name="ar"),
                TemporalActivationRegularization(1.0, name="tar"),
            ],
            "*/hidden": L1(0.1, reduction="mean"),
        },
    }.items():
        model = build(alphabet)
        if penalties:
            model = attach_penalty(model, penalties)
        model.fit(x, y, batch_size=32, epochs=epochs, verbose=0)
        hidden = keras.Model(model.inputs, model.get_layer("last_lstm").output)
        h = hidden.predict(x, verbose=0)
        loss = keras.losses.sparse_categorical_crossentropy(
            y, model.predict(x, verbose=0), from_logits=True
        )
        size = L1(1.0, reduction="mean", name="size")
        measuring = attach_penalty(model, "*/hidden", size)
        means = penalty_terms(measuring, x, verbose=0)
        rows[title] = {
            "mean square of the activations": np.mean(h**2),
            "mean squared change": np.mean(np.diff(h, axis=1) ** 2),
            "mean activation in the head": means["head/hidden/size"],
            "perplexity": float(ops.exp(ops.mean(loss))),
        }
    return rows


if __name__ == "__main__":
    command_line.main(run, "AR and TAR on a language model.", FULL, QUICK)
