"""Dead features of a sparse autoencoder: left alone, resampled, with AuxK.

The autoencoder reads the hidden layer of a network that knows digits. Two
remedies for units that never fire, both by `PenaltyMonitor(on_dead_units=)`:

- Resampling gives them directions that are badly reconstructed (Bricken et
  al. 2023, "Towards Monosemanticity: Decomposing Language Models With
  Dictionary Learning").
- AuxK lets the dead units with the largest pre-activations explain the error
  (Gao et al. 2024, "Scaling and evaluating sparse autoencoders").
"""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import layers, ops

from benchmarks.examples import command_line
from keras_actpen import (
    PenaltyMonitor,
    attach_penalty,
    penalties,
    unit_statistics,
)
from keras_actpen.demo import demo

WIDTH, UNITS, L1 = 64, 256, 0.02
FULL = {"epochs": 30, "samples": 4000}
QUICK = {"epochs": 10, "samples": 1024}


def activations(samples: int) -> np.ndarray:
    """What the hidden layer of a trained network says of digits."""
    (x, y), _ = demo.load_sample()
    x, y = x[:samples].reshape(-1, 784), y[:samples]
    hidden = layers.Dense(WIDTH, activation="relu", name="hidden")
    network = keras.Sequential([keras.Input((784,)), hidden, layers.Dense(10)])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    network.compile("adam", loss)
    network.fit(x, y, epochs=5, verbose=0)
    found = keras.Model(network.inputs, hidden.output).predict(x, verbose=0)
    return (found - found.mean(axis=0)) / found.std()


class AuxK(layers.Layer):
    """Adds the error that the best dead units leave, and passes it on.

    Args:
        decoder: The decoder.
        k: How many dead units take part.
        alpha: Coefficient of the loss.
    """

    def __init__(self, decoder: layers.Dense, k: int, alpha: float):
        super().__init__(name="aux_k")
        self.decoder, self.k, self.alpha = decoder, k, alpha
        self.dead = self.add_weight(
            shape=(UNITS,), initializer="zeros", trainable=False, name="dead"
        )

    def call(self, inputs: list[Any]) -> Any:
        x, before, decoded = inputs
        of_dead = ops.where(self.dead > 0, before, -1e9)
        least = ops.top_k(of_dead, self.k)[0][:, -1:]
        chosen = ops.where(of_dead >= ops.maximum(least, -1e8), before, 0.0)
        error = ops.stop_gradient(x - decoded)
        explained = ops.matmul(chosen, self.decoder.kernel)
        left = ops.mean(ops.square(error - explained))
        self.add_loss(self.alpha * ops.max(self.dead) * left)
        return decoded


class Autoencoder:
    """The model, and what its remedies need of it."""

    def __init__(self, x: np.ndarray, aux_alpha: float = 0.0):
        self.x = x
        self.rng = np.random.default_rng(0)
        self.encoder = layers.Dense(UNITS, name="encoder")
        # A feature's direction has length 1: L1 cannot be evaded by scaling.
        self.decoder = layers.Dense(
            WIDTH,
            kernel_constraint=keras.constraints.UnitNorm(axis=1),
            name="decoder",
        )
        self.aux_k = AuxK(self.decoder, k=32, alpha=aux_alpha)
        inputs = keras.Input((WIDTH,))
        before = self.encoder(inputs)
        decoded = self.decoder(layers.ReLU(name="code")(before))
        outputs = self.aux_k([inputs, before, decoded])
        model = keras.Model(inputs, outputs)
        model.compile(keras.optimizers.Adam(0.01), "mse")
        penalty = penalties.L1(L1, reduction="position")
        self.model = attach_penalty(model, "code", penalty)

    def note(self, _: layers.Layer, dead: np.ndarray) -> None:
        """Tell AuxK which units are dead."""
        self.aux_k.dead.assign(dead.astype("float32"))

    def resample(self, _: layers.Layer, dead: np.ndarray) -> None:
        """Give dead units the directions of badly reconstructed samples."""
        decoded = ops.convert_to_numpy(self.model(self.x))
        errors = np.sum(np.square(self.x - decoded), axis=1)
        chosen = self.rng.choice(
            len(self.x), dead.sum(), p=errors / errors.sum()
        )
        directions = (self.x - decoded)[chosen]
        directions /= np.linalg.norm(directions, axis=1, keepdims=True)
        kernel, bias = self.encoder.get_weights()
        norms = np.linalg.norm(kernel, axis=0)
        kernel[:, dead] = 0.2 * norms[~dead].mean() * directions.T
        bias[dead] = 0.0
        self.encoder.set_weights([kernel, bias])
        rows, shift = self.decoder.get_weights()
        rows[dead] = directions
        self.decoder.set_weights([rows, shift])


def run(epochs: int, samples: int) -> command_line.Rows:
    """Train without a remedy and with each of the two."""
    keras.utils.set_random_seed(0)
    x = activations(samples)
    rows = {}
    for title, alpha, hook in (
        ("L1", 0.0, None),
        ("L1, resampled", 0.0, Autoencoder.resample),
        ("L1, AuxK", 1.0, Autoencoder.note),
    ):
        keras.utils.set_random_seed(0)
        rows[title] = _trained(Autoencoder(x, alpha), epochs, hook)
    return rows


def _trained(
    autoencoder: Autoencoder, epochs: int, hook: Callable[..., None] | None
) -> dict[str, float]:
    x, model = autoencoder.x, autoencoder.model
    monitor = PenaltyMonitor(
        None,
        dead_after=len(x),
        alerts="sparse",
        on_dead_units=hook and hook.__get__(autoencoder),
    )
    # The last epochs without it: what was resampled settles.
    model.fit(x, x, epochs=epochs - 2, callbacks=[monitor], verbose=0)
    model.fit(x, x, epochs=2, verbose=0)
    units = unit_statistics(model, x, batch_size=256, verbose=0)["code"]
    decoded = model.predict(x, batch_size=256, verbose=0)
    score = keras.metrics.R2Score(class_aggregation="variance_weighted_average")
    score.update_state(x, decoded)
    return {
        "dead features": float(np.mean(units.rate == 0)),
        "l0": float(np.sum(units.rate)),
        "explained variance": float(score.result()),
    }


if __name__ == "__main__":
    command_line.main(run, "Dead features.", FULL, QUICK)
