"""Kurtosis and Range: the accuracy after quantization to integers."""

import warnings
from collections.abc import Iterator

import keras
import numpy as np
from keras import layers

from benchmarks.effects import measures
from benchmarks.effects.claims import Claim, strongest_at_equal_accuracy
from benchmarks.effects.digits import Digits, Split
from benchmarks.effects.experiments import CROSSENTROPY, Experiment
from benchmarks.effects.trials import (
    NONE,
    Arm,
    Effort,
    Row,
    Trainer,
    by_coefficient,
    sweep,
)
from keras_actpen.penalties import L2, Kurtosis, Range

HIDDEN = ("hidden_1", "hidden_2")
BITS = (8, 4, 3)
# Two digits of the test: less would not be noticed.
LEAST_SAVED = -0.001


def build() -> keras.Model:
    """Two hidden layers of 128 rectified units, and ten logits."""
    return keras.Sequential(
        [
            keras.Input((784,)),
            layers.Dense(128, activation="relu", name=HIDDEN[0]),
            layers.Dense(128, activation="relu", name=HIDDEN[1]),
            layers.Dense(10, name="logits"),
        ]
    )


def run(effort: Effort) -> Iterator[Row]:
    """Train with each penalty, then quantize."""
    arms = [
        Arm("L2", [L2(1e-3)], (0.1, 1.0, 10.0)),
        Arm("Kurtosis", [Kurtosis(1e-3)], (1.0, 10.0, 100.0)),
        Arm("Range", [Range(1.0, low=None, high=1.0)], (1.0, 10.0, 100.0)),
    ]
    trainer = Trainer(build, CROSSENTROPY, 15, effort, layers=HIDDEN)
    yield from sweep(
        "quantization", trainer, arms, _measure, effort, by_coefficient
    )


def _measure(trainer: Trainer, split: Split, digits: Digits) -> dict:
    *hidden, logits = trainer.read(split.x)
    accuracy = measures.accuracy(logits, split.y)
    largest = [float(np.max(h)) for h in trainer.read(digits.train.x)[:-1]]
    values = {
        "accuracy": accuracy,
        "kurtosis": float(np.mean([measures.kurtosis(h) for h in hidden])),
        "peak": float(
            np.mean(
                [
                    top / np.sqrt(measures.mean_square(h))
                    for top, h in zip(largest, hidden, strict=True)
                ]
            )
        ),
        "keras_loss": accuracy - _keras_int8(trainer, split),
    }
    for bits in BITS:
        logits = _per_tensor(trainer, split.x, largest, bits)
        lost = accuracy - measures.accuracy(logits, split.y)
        values[f"loss_{bits}"] = lost
    return values


def _keras_int8(trainer: Trainer, split: Split) -> float:
    """Accuracy of a copy that Keras has quantized, weights and all.

    Each column of the weights and each sample's activations get a scale of
    their own, from their largest absolute value.
    """
    copy = trainer.build()
    copy.set_weights(trainer.plain.get_weights())
    with warnings.catch_warnings():
        # Keras 3.15 says so of every layer without weights.
        warnings.filterwarnings("ignore", "Layer .* does not have a `quantize`")
        copy.quantize("int8")
    logits = keras.ops.convert_to_numpy(copy(split.x, training=False))
    return measures.accuracy(logits, split.y)


def _per_tensor(
    trainer: Trainer, x: np.ndarray, largest: list[float], bits: int
) -> np.ndarray:
    """Logits with the activations of each layer quantized by one scale.

    What fixed-point inference does: the scale is that of the largest
    activation on the training digits. The weights stay in float.
    """
    h = x
    for name, top in zip(HIDDEN, largest, strict=True):
        kernel, bias = trainer.plain.get_layer(name).get_weights()
        h = np.maximum(h @ kernel + bias, 0)
        h = measures.quantized(h, top, bits)
    kernel, bias = trainer.plain.get_layer("logits").get_weights()
    return h @ kernel + bias


def _keeps(arm: str, against: str, bits: int) -> Claim:
    return Claim(
        f"{arm} loses less than {against} at {bits} bits, one scale per layer",
        *(f"loss_{bits}", arm, against),
        high=0,
        headline=against == NONE,
    )


def _keeps_keras(arm: str) -> Claim:
    return Claim(
        f"{arm} saves a tenth of a point or more of what Keras's int8 loses",
        *("keras_loss", arm),
        high=LEAST_SAVED,
        headline=True,
    )


QUANTIZATION = Experiment(
    name="quantization",
    text='784-128-128-10 with ReLU, quantized by Keras\'s `quantize("int8")` '
    "(a scale for each sample) and, simulated, with one scale per layer for "
    "the hidden activations at 8, 4 and 3 bits. Points of accuracy lost "
    "against float. Strengths multiply the coefficients 0.001 for L2 and "
    "Kurtosis, and 1 for Range(high=1). Taken at the strongest that costs at "
    "most a point of float accuracy on the validation digits.",
    run=run,
    choose=strongest_at_equal_accuracy,
    columns={
        "accuracy": "accuracy",
        "kurtosis": "kurtosis",
        "peak": "largest activation / rms",
        "keras_loss": "accuracy lost, Keras int8",
        **{f"loss_{bits}": f"accuracy lost, {bits} bits" for bits in BITS},
    },
    axes=("peak", "loss_3"),
    claims=[
        Claim(
            "Keras's int8 loses less than half a point without any penalty",
            *("keras_loss", NONE, None),
            low=-0.005,
            high=0.005,
        ),
        Claim(
            "Kurtosis lowers the kurtosis of the activations",
            *("kurtosis", "Kurtosis"),
            high=0,
            headline=True,
        ),
        Claim(
            "Range lowers the largest activation relative to the rms",
            *("peak", "Range"),
            relative="ratio",
            high=1,
            headline=True,
        ),
        _keeps_keras("Kurtosis"),
        _keeps_keras("Range"),
        _keeps("Kurtosis", "no penalty", 3),
        _keeps("Range", "no penalty", 3),
        _keeps("Range", "L2", 3),
    ],
)
