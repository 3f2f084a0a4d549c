"""ConfidencePenalty and ZLoss: what they do to a classifier's logits."""

from collections.abc import Iterator, Sequence

from benchmarks.effects import measures
from benchmarks.effects.claims import (
    Claim,
    closest,
    strongest_at_equal_accuracy,
)
from benchmarks.effects.digits import Digits, Split
from benchmarks.effects.experiments import (
    CROSSENTROPY,
    Experiment,
    classifier,
)
from benchmarks.effects.trials import (
    Arm,
    Effort,
    Row,
    Trainer,
    by_coefficient,
    sweep,
)
from keras_actpen.penalties import L2, ConfidencePenalty, ZLoss

STRENGTHS = (0.1, 1.0, 10.0)


def run_confidence(effort: Effort) -> Iterator[Row]:
    """Train with the paper's coefficient of 0.1 and more."""
    arm = Arm(
        "ConfidencePenalty", [ConfidencePenalty(0.1)], (1.0, 1.5, 2.0, 3.0)
    )
    yield from _run("confidence", arm, effort)


def run_z_loss(effort: Effort) -> Iterator[Row]:
    """Train with more than the usual coefficient: the task is small."""
    arm = Arm("ZLoss", [ZLoss(1e-2)], STRENGTHS)
    yield from _run("z_loss", arm, effort)


def _run(name: str, arm: Arm, effort: Effort) -> Iterator[Row]:
    arms: Sequence[Arm] = [Arm("L2", [L2(1e-3)], STRENGTHS), arm]
    trainer = Trainer(
        classifier,
        CROSSENTROPY,
        20,
        effort,
        layers=["logits"],
        # Three times that of the others, for an overconfident network.
        learning_rate=3e-3,
    )
    yield from sweep(name, trainer, arms, _measure, effort, by_coefficient)


def _measure(trainer: Trainer, split: Split, digits: Digits) -> dict:
    logits = trainer.read(split.x)[-1]
    return {
        "accuracy": measures.accuracy(logits, split.y),
        "entropy": measures.entropy(logits),
        "calibration": measures.calibration_error(logits, split.y),
        "log_z": measures.log_z(logits),
    }


_COLUMNS = {
    "accuracy": "accuracy",
    "entropy": "entropy",
    "calibration": "calibration error (ECE)",
    "log_z": "mean abs log Z",
}

CONFIDENCE = Experiment(
    name="confidence",
    text="784-128-10, trained until it is overconfident. Strengths multiply "
    "the coefficients 0.001 for L2 and 0.1 for ConfidencePenalty. Taken at the "
    "strength with the least calibration error (15 bins) on the validation "
    "digits.",
    run=run_confidence,
    choose=closest("calibration"),
    columns=_COLUMNS,
    axes=("entropy", "calibration"),
    claims=[
        Claim(
            "ConfidencePenalty raises the entropy",
            *("entropy", "ConfidencePenalty"),
            low=0,
            headline=True,
        ),
        Claim(
            "ConfidencePenalty lowers the calibration error",
            *("calibration", "ConfidencePenalty"),
            high=0,
            headline=True,
        ),
        Claim(
            "L2 on the logits, the control, lowers it too",
            *("calibration", "L2"),
            high=0,
        ),
        Claim(
            "ConfidencePenalty lowers it below that of L2",
            *("calibration", "ConfidencePenalty", "L2"),
            high=0,
        ),
    ],
)

Z_LOSS = Experiment(
    name="z_loss",
    text="784-128-10. Strengths multiply the coefficients 0.001 for L2 and "
    "0.01 for ZLoss. Taken at the strongest that costs at most a point of "
    "accuracy on the validation digits.",
    run=run_z_loss,
    choose=strongest_at_equal_accuracy,
    columns=_COLUMNS,
    axes=("entropy", "log_z"),
    claims=[
        Claim(
            "ZLoss takes mean abs log Z to a third or less",
            *("log_z", "ZLoss"),
            relative="ratio",
            high=1 / 3,
            headline=True,
        ),
        Claim(
            "ZLoss costs at most two points of accuracy",
            *("accuracy", "ZLoss"),
            low=-0.02,
            headline=True,
        ),
        Claim(
            "ZLoss takes it below that of L2 on the logits",
            *("log_z", "ZLoss", "L2"),
            relative="ratio",
            high=1,
        ),
    ],
)
