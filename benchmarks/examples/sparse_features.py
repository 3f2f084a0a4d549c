"""Sparse autoencoders on hidden layers, and the same written by hand.

One reads the hidden Dense of a CNN that knows digits, one the middle block
of a KerasHub GPT-2 with random weights that reads Python's own manual. Each
is trained twice from the same weights on the same batches: with
`attach_penalty` and `PenaltyScheduler`, and as a model whose own `call` adds
the penalty to its loss. The last row is how far apart the two are in any
weight, in the loss of any epoch and in all rows above.
"""

from pydoc_data.topics import topics

import keras
import keras_hub
import numpy as np
from keras import layers, ops

from benchmarks.examples import command_line
from keras_actpen import (
    PenaltyScheduler,
    attach_penalty,
    penalties,
    unit_statistics,
)
from keras_actpen.demo import demo

LENGTH = 32
# Powers of two: the coefficients of the warm-up are exact in whatever order
# they are multiplied. A difference in the last bit grows while Adam trains.
L1, WARM_UP = 2**-6, 128
FULL = {"epochs": 20, "samples": 4000, "cnn_epochs": 5}
QUICK = {"epochs": 2, "samples": 256, "cnn_epochs": 1}


def of_digits(samples: int, epochs: int) -> np.ndarray:
    """What `dense_4` of the trained CNN puts out, a row an image."""
    train, _ = demo.load_sample()
    model = demo.build_model()
    x, y = (array[:samples] for array in train)
    model.fit(x, y, batch_size=demo.BATCH_SIZE, epochs=epochs, verbose=0)
    reader = keras.Model(model.inputs, model.get_layer("dense_4").output)
    return scaled(reader.predict(x, verbose=0))


def of_text(samples: int) -> np.ndarray:
    """What the middle block of a GPT-2 puts out, a row a character."""
    keras.utils.set_random_seed(0)
    backbone = keras_hub.models.GPT2Backbone(
        vocabulary_size=128,
        num_layers=3,
        num_heads=2,
        hidden_dim=64,
        intermediate_dim=128,
        max_sequence_length=LENGTH,
    )
    text = "".join(topics.values())[: samples // LENGTH * LENGTH]
    codes = np.array([min(ord(one), 127) for one in text], "int32")
    codes = codes.reshape(-1, LENGTH)
    block = backbone.get_layer("transformer_layer_1")
    reader = keras.Model(backbone.inputs, block.output)
    hidden = reader.predict(
        {"token_ids": codes, "padding_mask": np.ones_like(codes)}, verbose=0
    )
    return scaled(hidden.reshape(-1, hidden.shape[-1]))


def scaled(hidden: np.ndarray) -> np.ndarray:
    """Activations around 0, of one size whatever the layer."""
    return (hidden - hidden.mean(axis=0)) / hidden.std()


def both_layers(width: int) -> tuple[layers.Dense, layers.Dense]:
    """Encoder and decoder, from the same first weights every time."""
    keras.utils.set_random_seed(0)
    code = layers.Dense(8 * width, activation="relu", name="code")
    # A feature's direction has length 1: L1 cannot be evaded by scaling.
    unit_norm = keras.constraints.UnitNorm(axis=1)
    return code, layers.Dense(width, kernel_constraint=unit_norm)


def attached(width: int) -> keras.Model:
    """The autoencoder, its penalty attached."""
    plain = keras.Sequential([keras.Input((width,)), *both_layers(width)])
    penalty = penalties.L1(L1, reduction="position")
    return attach_penalty(plain, "code", penalty)


class ByHand(keras.Model):
    """The same without keras_actpen."""

    def __init__(self, width: int):
        super().__init__()
        self.code, self.decoder = both_layers(width)
        self.steps = self.add_weight(
            shape=(), initializer="zeros", trainable=False, name="steps"
        )

    def call(self, x, training=False):
        """Reconstruct, and add the penalty."""
        code = self.code(x)
        coefficient = L1 * ops.minimum(self.steps / WARM_UP, 1.0)
        self.add_loss(coefficient * ops.mean(ops.sum(ops.abs(code), axis=-1)))
        if training:
            self.steps.assign_add(1.0)
        return self.decoder(code)


def trained(
    model: keras.Model, h: np.ndarray, epochs: int, *callbacks
) -> dict[str, list[float]]:
    """Train an autoencoder; return its history."""
    explained = keras.metrics.R2Score(
        class_aggregation="variance_weighted_average",
        name="explained_variance",
    )
    model.compile(keras.optimizers.Adam(1e-3), "mse", metrics=[explained])
    keras.utils.set_random_seed(0)  # the order of the batches
    return model.fit(
        *(h, h),
        batch_size=128,
        epochs=epochs,
        callbacks=list(callbacks),
        verbose=0,
    ).history


def measured(
    weights: list[np.ndarray],
    history: dict[str, list[float]],
    rates: np.ndarray,
) -> dict[str, float]:
    """The rows of the table.

    Args:
        weights: Of the autoencoder.
        history: Of its training.
        rates: How often each feature fires, of 1.
    """
    norms = np.linalg.norm(weights[2], axis=1)
    fires = np.log10(rates[rates > 0])
    density, _ = np.histogram(fires, [-np.inf, -3, -2, -1, 0])
    rarely, seldom, often, mostly = density / len(rates)
    return {
        "features": len(rates),
        "loss, first epoch": history["loss"][0],
        "loss, last epoch": history["loss"][-1],
        "explained variance": history["explained_variance"][-1],
        "l0": np.sum(rates),
        "dead": np.mean(rates == 0),
        "log10 of the rate < -3": rarely,
        "from -3 to -2": seldom,
        "from -2 to -1": often,
        "from -1 to 0": mostly,
        "decoder rows, shortest": norms.min(),
        "decoder rows, longest": norms.max(),
    }


def pair(h: np.ndarray, epochs: int) -> list[dict[str, float]]:
    """Train an autoencoder in both ways; a column of the table each."""
    model, by_hand = attached(h.shape[-1]), ByHand(h.shape[-1])
    warm_up = keras.optimizers.schedules.PolynomialDecay(0.0, WARM_UP, 1.0)
    histories = [
        trained(model, h, epochs, PenaltyScheduler(warm_up)),
        trained(by_hand, h, epochs),
    ]
    code = ops.convert_to_numpy(by_hand.code(h))
    rates = [
        unit_statistics(model, h, verbose=0)["code"].rate,
        np.mean(code > 0, axis=0),
    ]
    weights = [
        [ops.convert_to_numpy(one) for one in each.trainable_weights]
        for each in (model, by_hand)
    ]
    columns = [*map(measured, weights, histories, rates)]
    compared = zip(
        *(
            [*of.values(), *history["loss"], *arrays]
            for of, history, arrays in zip(
                columns, histories, weights, strict=True
            )
        ),
        strict=True,
    )
    apart = max(np.max(np.abs(one - other)) for one, other in compared)
    return [column | {"largest deviation": apart} for column in columns]


def run(epochs: int, samples: int, cnn_epochs: int) -> command_line.Rows:
    """Train both autoencoders in both ways."""
    rows = {}
    for title, h in (
        ("digits", of_digits(samples, cnn_epochs)),
        ("GPT-2", of_text(samples)),
    ):
        rows[title], rows[f"{title}, by hand"] = pair(h, epochs)
    return rows


if __name__ == "__main__":
    command_line.main(run, "Sparse autoencoders.", FULL, QUICK)
