"""A sparse autoencoder, and its encoder used on its own afterwards.

Ng, CS294A lecture notes: every unit of the code shall be on for 5 % of the
samples. The weights are shared, so the encoder that was built first is the
trained one, without any penalty in it.
"""

import keras
import numpy as np
from keras import layers

from benchmarks.examples import command_line
from keras_actpen import attach_penalty, penalized_layers
from keras_actpen.demo import demo
from keras_actpen.penalties import KLSparsity

RATE = 0.05
FULL = {"epochs": 20, "samples": 4000}
QUICK = {"epochs": 3, "samples": 512}


def build() -> tuple[keras.Model, keras.Model]:
    """An encoder, and the compiled autoencoder that it is a part of."""
    keras.utils.set_random_seed(0)
    image = keras.Input((784,))
    code = layers.Dense(64, activation="sigmoid", name="code")(image)
    encoder = keras.Model(image, code, name="encoder")
    decoded = layers.Dense(784, name="decoded")(encoder(image))
    autoencoder = keras.Model(image, decoded)
    autoencoder.compile(keras.optimizers.Adam(0.01), "mse")
    return encoder, autoencoder


def run(epochs: int, samples: int) -> command_line.Rows:
    """Train with and without the penalty, then use the encoders."""
    (x, _), _ = demo.load_sample()
    x = x[:samples].reshape(-1, 784)
    rows = {}
    for title, coefficient in {"plain": 0.0, "KL sparsity": 0.1}.items():
        encoder, model = build()
        if coefficient:
            penalty = KLSparsity(coefficient, rate=RATE)
            model = attach_penalty(model, "encoder/code", penalty)
        history = model.fit(x, x, batch_size=32, epochs=epochs, verbose=0)
        # Nothing was copied: this is the encoder from before the training.
        code = encoder.predict(x, verbose=0)
        rows[title] = {
            "mean activation of the code": np.mean(code),
            "reconstruction error": np.mean(
                (model.predict(x, verbose=0) - x) ** 2
            ),
            "loss": history.history["loss"][-1],
            "penalties in the encoder": len(penalized_layers(encoder)),
        }
    return rows


if __name__ == "__main__":
    command_line.main(run, "A sparse autoencoder.", FULL, QUICK)
