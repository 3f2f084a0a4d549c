"""KLSparsity: a sparse autoencoder at its rate, and what that costs."""

from collections.abc import Iterator

import keras
import numpy as np
from keras import layers

from benchmarks.effects.claims import Claim, closest
from benchmarks.effects.digits import Digits, Split
from benchmarks.effects.experiments import Experiment
from benchmarks.effects.trials import (
    Arm,
    Effort,
    Row,
    Trainer,
    by_coefficient,
    sweep,
)
from keras_actpen.penalties import L1, L2, KLSparsity

RATE = 0.05


def build() -> keras.Model:
    """784-100-784 with sigmoids, as in the lecture notes."""
    return keras.Sequential(
        [
            keras.Input((784,)),
            layers.Dense(100, activation="sigmoid", name="hidden"),
            layers.Dense(784, activation="sigmoid", name="pixels"),
        ]
    )


def run(effort: Effort) -> Iterator[Row]:
    """Train with penalties from too weak to strong enough."""
    arms = [
        Arm("L2", [L2(1e-2)], (0.1, 1.0, 10.0)),
        Arm("L1", [L1(1e-2)], (0.1, 1.0, 10.0)),
        Arm("KL", [KLSparsity(0.1, rate=RATE)], (0.1, 1.0, 10.0)),
    ]
    trainer = Trainer(
        build,
        "binary_crossentropy",
        20,
        effort,
        targets=lambda split: split.x,
    )
    yield from sweep(
        "autoencoder", trainer, arms, _measure, effort, by_coefficient
    )


def _measure(trainer: Trainer, split: Split, digits: Digits) -> dict:
    hidden, pixels = trainer.read(split.x)
    rates = np.mean(hidden, axis=0)
    return {
        "rate": float(np.mean(rates)),
        "distance": float(np.sqrt(np.mean(np.square(rates - RATE)))),
        "error": float(np.mean(np.square(pixels - split.x))),
    }


AUTOENCODER = Experiment(
    name="autoencoder",
    text="784-100-784 with sigmoids on the pixels, a rate of 0.05 asked for. "
    "Strengths multiply the coefficients 0.01 for L2 and L1, and 0.1 for KL. "
    "Taken at the strength whose mean activation is closest to it on the "
    "validation digits.",
    run=run,
    choose=closest("rate", RATE),
    columns={
        "rate": "mean activation",
        "distance": "rms distance of a unit's mean from 0.05",
        "error": "squared error of a pixel",
    },
    axes=("rate", "error"),
    guides=(RATE,),
    claims=[
        Claim(
            "KLSparsity(rate=0.05) brings the mean activation to 0.04..0.06",
            *("rate", "KL", None),
            low=0.04,
            high=0.06,
            headline=True,
        ),
        Claim(
            "KLSparsity brings each unit closer to the rate than L2",
            *("distance", "KL", "L2"),
            high=0,
        ),
        Claim(
            "KLSparsity costs reconstruction",
            *("error", "KL"),
            relative="ratio",
            low=1,
            headline=True,
        ),
        Claim(
            "KLSparsity reconstructs better than L2 at its closest",
            *("error", "KL", "L2"),
            relative="ratio",
            high=1,
        ),
    ],
)
