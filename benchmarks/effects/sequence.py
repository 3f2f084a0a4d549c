"""AR and TAR on an LSTM that reads digits row by row."""

from collections.abc import Iterator

import keras
from keras import layers

from benchmarks.effects import measures
from benchmarks.effects.claims import Claim, strongest_at_equal_accuracy
from benchmarks.effects.digits import Digits, Split
from benchmarks.effects.experiments import CROSSENTROPY, Experiment
from benchmarks.effects.trials import (
    Arm,
    Effort,
    Row,
    Trainer,
    by_coefficient,
    sweep,
)
from keras_actpen.penalties import (
    ActivationRegularization,
    TemporalActivationRegularization,
)

STRENGTHS = (0.5, 2.0, 8.0)


def build() -> keras.Model:
    """An LSTM of 64 units over 28 rows of 28 pixels."""
    return keras.Sequential(
        [
            keras.Input((784,)),
            layers.Reshape((28, 28)),
            layers.LSTM(64, return_sequences=True, name="hidden"),
            layers.GlobalAveragePooling1D(),
            layers.Dense(10, name="logits"),
        ]
    )


def run(effort: Effort) -> Iterator[Row]:
    """Train around the paper's coefficients, 2 and 1."""
    ar = ActivationRegularization(2.0)
    tar = TemporalActivationRegularization(1.0)
    arms = [
        Arm("AR", [ar], STRENGTHS),
        Arm("TAR", [tar], STRENGTHS),
        Arm("AR and TAR", [ar, tar], (1.0,)),
    ]
    trainer = Trainer(build, CROSSENTROPY, 15, effort)
    yield from sweep(
        "sequence", trainer, arms, _measure, effort, by_coefficient
    )


def _measure(trainer: Trainer, split: Split, digits: Digits) -> dict:
    hidden, logits = trainer.read(split.x)
    square = measures.mean_square(hidden)
    difference = measures.squared_difference(hidden)
    return {
        "accuracy": measures.accuracy(logits, split.y),
        "square": square,
        "difference": difference,
        "ratio": difference / square,
    }


SEQUENCE = Experiment(
    name="sequence",
    text="An LSTM of 64 units over the 28 rows of a digit, its outputs "
    "averaged. AR is the mean of h^2, that is L2 up to its scale, and so the "
    "control of TAR. The ratio of squared steps to h^2 does not fall when all "
    "activations shrink. Strengths multiply the paper's coefficients, 2 for "
    "AR and 1 for TAR. Taken at the strongest that costs at most a point "
    "of accuracy on the validation digits.",
    run=run,
    choose=strongest_at_equal_accuracy,
    columns={
        "accuracy": "accuracy",
        "square": "mean h^2",
        "difference": "mean squared step",
        "ratio": "mean squared step / mean h^2",
    },
    axes=("square", "ratio"),
    claims=[
        Claim(
            "AR lowers h^2",
            "square",
            "AR",
            relative="ratio",
            high=1,
            headline=True,
        ),
        Claim(
            "TAR lowers the squared steps",
            *("difference", "TAR"),
            relative="ratio",
            high=1,
        ),
        Claim(
            "AR, the control, lowers the squared steps too",
            *("difference", "AR"),
            relative="ratio",
            high=1,
        ),
        Claim(
            "TAR lowers the ratio of squared steps to h^2",
            *("ratio", "TAR"),
            relative="ratio",
            high=1,
            headline=True,
        ),
        Claim(
            "TAR lowers that ratio more than AR",
            *("ratio", "TAR", "AR"),
            relative="ratio",
            high=1,
        ),
        Claim(
            "AR and TAR together raise the accuracy",
            *("accuracy", "AR and TAR"),
            low=0,
            headline=True,
        ),
    ],
)
