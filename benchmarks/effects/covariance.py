"""DeCov and VICReg: units that vary independently of each other."""

from collections.abc import Iterator

from benchmarks.effects import measures
from benchmarks.effects.claims import Claim, strongest_at_equal_accuracy
from benchmarks.effects.digits import Digits, Split
from benchmarks.effects.experiments import (
    CROSSENTROPY,
    Experiment,
    classifier,
)
from benchmarks.effects.trials import Arm, Effort, Row, Trainer, by_share, sweep
from keras_actpen.penalties import L2, Covariance, DeCov, VarianceFloor

SHARES = (0.1, 0.3, 1.0)


def run(effort: Effort) -> Iterator[Row]:
    """Train with each penalty at the same shares of the gradient."""
    arms = [
        Arm("L2", [L2()], SHARES),
        Arm("DeCov", [DeCov()], SHARES),
        Arm("VICReg", [VarianceFloor(), Covariance()], SHARES),
    ]
    trainer = Trainer(classifier, CROSSENTROPY, 15, effort)
    yield from sweep("covariance", trainer, arms, _measure, effort, by_share)


def _measure(trainer: Trainer, split: Split, digits: Digits) -> dict:
    hidden, logits = trainer.read(split.x)
    return {
        "accuracy": measures.accuracy(logits, split.y),
        "covariance": measures.off_diagonal_covariance(hidden),
        "correlation": measures.off_diagonal_correlation(hidden),
        "participation": measures.participation_ratio(hidden),
    }


COVARIANCE = Experiment(
    name="covariance",
    text="784-128-10 with ReLU; each penalty on the hidden layer has 0.1, 0.3 "
    "or 1 times the task's gradient at the first step; VICReg is "
    "VarianceFloor and Covariance. Taken at the strongest that costs at most "
    "a point of accuracy on the validation digits. Covariances and "
    "correlations are root mean squares over pairs of different units.",
    run=run,
    choose=strongest_at_equal_accuracy,
    columns={
        "accuracy": "accuracy",
        "covariance": "covariance of units",
        "correlation": "correlation of units",
        "participation": "participation ratio",
    },
    axes=("covariance", "participation"),
    claims=[
        Claim(
            "DeCov at least halves the covariance of units",
            *("covariance", "DeCov"),
            relative="ratio",
            high=0.5,
            headline=True,
        ),
        Claim(
            "DeCov lowers it below that of L2",
            *("covariance", "DeCov", "L2"),
            relative="ratio",
            high=1,
        ),
        Claim(
            "DeCov lowers the correlation of units below that of L2",
            *("correlation", "DeCov", "L2"),
            high=0,
            headline=True,
        ),
        Claim(
            "DeCov raises the participation ratio",
            *("participation", "DeCov"),
            low=0,
        ),
        Claim(
            "DeCov raises the accuracy",
            "accuracy",
            "DeCov",
            low=0,
            headline=True,
        ),
        Claim(
            "VICReg lowers the correlation of units below that of L2",
            *("correlation", "VICReg", "L2"),
            high=0,
        ),
        Claim(
            "VICReg raises the participation ratio",
            *("participation", "VICReg"),
            low=0,
            headline=True,
        ),
        Claim(
            "L2, the control, raises the participation ratio too",
            *("participation", "L2"),
            low=0,
        ),
    ],
)
