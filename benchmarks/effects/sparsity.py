"""L1 and Hoyer: zeros against the norm of the activations."""

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
from keras_actpen.penalties import L1, L2, Hoyer

SHARES = (0.1, 0.3, 1.0)


def run(effort: Effort) -> Iterator[Row]:
    """Train with each penalty at the same shares of the gradient."""
    arms = [
        Arm("L2", [L2()], SHARES),
        Arm("L1", [L1()], SHARES),
        Arm("Hoyer", [Hoyer()], SHARES),
    ]
    trainer = Trainer(classifier, CROSSENTROPY, 15, effort)
    yield from sweep("sparsity", trainer, arms, _measure, effort, by_share)


def _measure(trainer: Trainer, split: Split, digits: Digits) -> dict:
    hidden, logits = trainer.read(split.x)
    return {
        "accuracy": measures.accuracy(logits, split.y),
        "zero_share": measures.zero_share(hidden),
        "norm": measures.mean_norm(hidden),
    }


SPARSITY = Experiment(
    name="sparsity",
    text="784-128-10 with ReLU; the penalty on the hidden layer has 0.1, 0.3 "
    "or 1 times the task's gradient at the first step. Taken at the strongest "
    "that costs at most a point of accuracy on the validation digits.",
    run=run,
    choose=strongest_at_equal_accuracy,
    columns={
        "accuracy": "accuracy",
        "zero_share": "share of zeros",
        "norm": "activation norm",
    },
    axes=("norm", "zero_share"),
    claims=[
        Claim("L1 makes zeros", "zero_share", "L1", low=0),
        Claim("L2, the control, makes zeros too", "zero_share", "L2", low=0),
        Claim(
            "L1 makes more zeros than L2",
            "zero_share",
            "L1",
            "L2",
            low=0,
            headline=True,
        ),
        Claim(
            "Hoyer makes zeros",
            "zero_share",
            "Hoyer",
            low=0,
            headline=True,
        ),
        Claim(
            "L1 at least halves the activation norm",
            *("norm", "L1"),
            relative="ratio",
            high=0.5,
        ),
        Claim(
            "Hoyer keeps at least 0.9 of the activation norm",
            *("norm", "Hoyer"),
            relative="ratio",
            low=0.9,
            headline=True,
        ),
    ],
)
