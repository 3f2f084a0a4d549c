"""z-loss on the head of a classifier, whose softmax hides the logits.

Chowdhery et al. 2022, "PaLM": the square of log Z keeps the logits near
0, so that they do not drift or overflow. `on="preactivation"` reaches them
behind the softmax.
"""

import keras
import numpy as np
from keras import layers, ops

from benchmarks.examples import command_line
from keras_actpen import attach_penalty
from keras_actpen.demo import demo
from keras_actpen.penalties import ZLoss

FULL = {"epochs": 20, "samples": 4000}
QUICK = {"epochs": 3, "samples": 512}


def build() -> keras.Model:
    """The plain model, compiled."""
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.Input((28, 28, 1)),
            layers.Flatten(),
            layers.Dense(64, activation="relu", name="hidden"),
            layers.Dense(10, activation="softmax", name="probabilities"),
        ]
    )
    model.compile(
        "adam", "sparse_categorical_crossentropy", metrics=["accuracy"]
    )
    return model


def log_z(model: keras.Model, x: np.ndarray) -> np.ndarray:
    """Logarithm of the sum that the softmax divides by, of every sample."""
    hidden = keras.Model(model.inputs[0], model.get_layer("hidden").output)
    head = model.get_layer("probabilities")
    logits = ops.matmul(hidden(x), head.kernel) + head.bias
    return ops.convert_to_numpy(ops.logsumexp(logits, axis=-1))


def run(epochs: int, samples: int) -> command_line.Rows:
    """Train with and without z-loss."""
    (x, y), _ = demo.load_sample()
    x, y = x[:samples], y[:samples]
    rows = {}
    for title, coefficient in {"plain": 0.0, "z-loss": 0.05}.items():
        model = build()
        if coefficient:
            model = attach_penalty(
                *(model, "probabilities", ZLoss(coefficient)),
                on="preactivation",
            )
        history = model.fit(x, y, epochs=epochs, verbose=0).history
        rows[title] = {
            "mean |log Z|": np.mean(np.abs(log_z(model, x))),
            "accuracy": history["accuracy"][-1],
        }
    return rows


if __name__ == "__main__":
    command_line.main(run, "z-loss on a classifier's head.", FULL, QUICK)
