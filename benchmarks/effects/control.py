"""TargetController: 80 % and 95 % zeros by moving a coefficient."""

from collections.abc import Iterator

import keras

from benchmarks.effects import measures
from benchmarks.effects.claims import Claim
from benchmarks.effects.digits import Digits, Split
from benchmarks.effects.experiments import (
    CROSSENTROPY,
    Experiment,
    classifier,
)
from benchmarks.effects.trials import Arm, Effort, Row, Trainer, sweep
from keras_actpen import TargetController, penalized_layers
from keras_actpen.penalties import L1, L2

TARGETS = (0.8, 0.95)
WITHIN = 0.02
BOUNDS = (1e-6, 10.0)
# More moves than any training has: what is reached is reported, not raised.
PATIENCE = 10**6


def run(effort: Effort) -> Iterator[Row]:
    """Train with the controller; the strengths are its targets."""
    arms = [Arm("L2", [L2(1e-4)], TARGETS), Arm("L1", [L1(1e-4)], TARGETS)]
    trainer = Trainer(classifier, CROSSENTROPY, 40, effort)
    yield from sweep("control", trainer, arms, _measure, effort, _train)


def _train(
    trainer: Trainer,
    model: keras.Model,
    arm: Arm,
    target: float,
    split: Split,
) -> None:
    (penalty,) = arm.penalties
    term = penalized_layers(model)["hidden"]
    term.coefficients[penalty.name] = penalty.coefficient
    controller = TargetController(
        f"hidden/{penalty.name}",
        target,
        measure="zero_fraction",
        update_freq=5,
        bounds=BOUNDS,
        patience=PATIENCE,
    )
    trainer.fit(model, split, [controller])


def _measure(trainer: Trainer, split: Split, digits: Digits) -> dict:
    hidden, logits = trainer.read(split.x)
    return {
        "accuracy": measures.accuracy(logits, split.y),
        "zero_share": measures.zero_share(hidden),
        "norm": measures.mean_norm(hidden),
    }


def _reaches(arm: str, target: float) -> Claim:
    return Claim(
        f"TargetController over {arm} ends within {WITHIN:g} of {target:g} "
        "zeros",
        *("zero_share", arm, None),
        low=target - WITHIN,
        high=target + WITHIN,
        strength=target,
        headline=arm == "L1",
    )


def _costs_little(target: float) -> Claim:
    return Claim(
        f"{100 * target:g} % zeros by L1 cost at most two points of accuracy",
        *("accuracy", "L1"),
        low=-0.02,
        strength=target,
    )


CONTROL = Experiment(
    name="control",
    text="784-128-10 with ReLU, the coefficient moved every 5 steps; the "
    "strengths are the targets, the zeros are counted on the test digits.",
    run=run,
    choose=None,
    columns={
        "accuracy": "accuracy",
        "zero_share": "share of zeros",
        "norm": "activation norm",
    },
    axes=("zero_share", "accuracy"),
    guides=TARGETS,
    claims=[
        *(_reaches("L1", target) for target in TARGETS),
        *(_reaches("L2", target) for target in TARGETS),
        *(_costs_little(target) for target in TARGETS),
        Claim(
            "95 % zeros by L1 keep more accuracy than 95 % by L2",
            *("accuracy", "L1", "L2"),
            low=0,
            strength=0.95,
            headline=True,
        ),
    ],
)
