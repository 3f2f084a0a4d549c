"""TargetController: how many moves each rule takes to settle."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import keras
import numpy as np
from keras import layers

from benchmarks.arms.models import mnist_cnn
from benchmarks.effects import measures
from benchmarks.effects.claims import Claim
from benchmarks.effects.digits import Digits, Split, load
from benchmarks.effects.experiments import CROSSENTROPY, Experiment
from benchmarks.effects.trials import NONE, Arm, Effort, Row, Trainer
from keras_actpen import TargetController
from keras_actpen.penalties import L1, Hoyer, Penalty

MOVES = 60
# Settled: the mean of so many measurements stays this close to the target.
SMOOTHED, WITHIN = 5, 0.05
# How far the coefficient is from the right one at first.
STARTS = (0.1, 10.0)
PENALTIES = (L1, Hoyer)
RULES = {"LogPI": "log_pi", "GECO": "geco"}


@dataclass(frozen=True)
class Task:
    """What is held where.

    Attributes:
        name: Name of the experiment.
        build: Makes the network.
        layer: Name of the layer that is penalized.
        loss: Loss of the network.
        targets: What it is to put out for a split.
        measure: What is held.
        target: Where it is held.
        steps: Steps from one move to the next.
        text: What is trained, for the report.
    """

    name: str
    build: Callable[[], keras.Model]
    layer: str
    loss: Any
    targets: Callable[[Split], np.ndarray]
    measure: str
    target: float
    steps: int
    text: str


def autoencoder(units: int) -> keras.Model:
    """A sparse autoencoder of the pixels, the rows of its decoder normed."""
    return keras.Sequential(
        [
            keras.Input((784,)),
            layers.Dense(units, activation="relu", name="code"),
            layers.Dense(
                784,
                kernel_constraint=keras.constraints.UnitNorm(axis=1),
                name="pixels",
            ),
        ]
    )


def cnn() -> keras.Model:
    """The CNN of the Keras examples, on pixels in a row."""
    image = layers.Reshape((28, 28, 1))
    return keras.Sequential([keras.Input((784,)), image, *mnist_cnn().layers])


def run(task: Task, effort: Effort) -> Iterator[Row]:
    """Train from coefficients that are too small and too large."""
    trainer = Trainer(
        task.build,
        task.loss,
        MOVES,
        effort,
        layers=[task.layer],
        targets=task.targets,
    )
    for seed in effort.seeds:
        digits = load(seed, effort.train, effort.validation, effort.test)

        def trained(
            arm: str,
            strength: float,
            penalty: Penalty | None = None,
            rule: str = "log_pi",
            seed: int = seed,
            digits: Digits = digits,
        ) -> tuple[Row, Sequence[float]]:
            trainer.restart(seed)
            model, callbacks, name = trainer.plain, [], ""
            if penalty is not None:
                model = trainer.attach(Arm(arm, [penalty], STARTS))
                name = f"{task.layer}/{penalty.name}"
                callbacks = [_controller(task, name, rule)]
            split = digits.train
            history = trainer.fit(model, split, callbacks, task.steps).history
            moves = history.get(f"{task.measure}/{name}", [])
            coefficients = history.get(f"penalty.coefficient/{name}", [])
            values, validation = (
                {
                    "moves": moves_until_settled(moves, task.target),
                    "reached": _measured(task, trainer, part),
                }
                for part in (digits.test, digits.validation)
            )
            row = Row(task.name, arm, strength, seed, values, validation)
            return row, coefficients

        yield trained(NONE, 0.0)[0]
        for kind in PENALTIES:
            # The right coefficient is that at which the rule ends.
            _, found = trained(NONE, 0.0, kind(1e-4))
            right = float(np.median(found[-10:]))
            for rule in RULES:
                for start in STARTS[: effort.strengths]:
                    arm = f"{kind.__name__}, {rule}"
                    penalty = kind(right * start)
                    yield trained(arm, start, penalty, RULES[rule])[0]


def _controller(task: Task, term: str, rule: str) -> TargetController:
    return TargetController(
        term,
        task.target,
        measure=task.measure,
        rule=rule,
        update_freq=task.steps,
        bounds=(1e-10, 1e4),
        # More than there are moves: what is reached is reported.
        patience=10**6,
    )


def moves_until_settled(moves: Sequence[float], target: float) -> float:
    """The first move after which the measure stays at the target.

    The mean over the last five moves counts. As many as there were if it does
    not stay there.
    """
    if len(moves) < SMOOTHED:
        return float(len(moves))
    kernel = np.full(SMOOTHED, 1 / SMOOTHED)
    smoothed = np.convolve(np.asarray(moves), kernel, "valid")
    away = np.flatnonzero(np.abs(smoothed / target - 1) > WITHIN)
    return float(away[-1] + 1 + SMOOTHED) if away.size else float(SMOOTHED)


def _measured(task: Task, trainer: Trainer, split: Split) -> float:
    hidden = trainer.read(split.x)[0]
    zeros = measures.zero_share(hidden)
    return (1 - zeros) * hidden.shape[-1] if task.measure == "l0" else zeros


def _claims(task: Task) -> list[Claim]:
    claims = []
    for kind in PENALTIES:
        arm = f"{kind.__name__}, LogPI"
        for start, words in zip(STARTS, ("small", "large"), strict=True):
            where = f"{task.name}, {kind.__name__} ten times too {words}"
            claims += [
                Claim(
                    f"{where}: LogPI settles in less than {MOVES} moves",
                    *("moves", arm, None),
                    high=MOVES,
                    strength=start,
                ),
                Claim(
                    f"{where}: LogPI settles before GECO",
                    *("moves", arm, f"{kind.__name__}, GECO"),
                    high=0,
                    strength=start,
                ),
            ]
    return claims


def _experiment(task: Task) -> Experiment:
    return Experiment(
        name=task.name,
        text=f"{task.text}, {MOVES} moves, one every {task.steps} steps, from "
        "coefficients ten times too small and too large (the strengths). It "
        f"has settled when the mean of {SMOOTHED} measurements stays within "
        f"{WITHIN:.0%} of the target; {MOVES} moves mean that it has not. "
        "What is reached is measured on the test digits.",
        run=partial(run, task),
        choose=None,
        columns={"moves": "moves until settled", "reached": "reached"},
        axes=("moves", "reached"),
        claims=_claims(task),
    )


def _autoencoder(units: int) -> Task:
    return Task(
        f"settling-sae-{units}",
        partial(autoencoder, units),
        "code",
        "mse",
        lambda split: split.x,
        "l0",
        20.0,
        10,
        f"An autoencoder of {units} units on the pixels, 20 of them to fire",
    )


def _cnn(target: float) -> Task:
    return Task(
        f"settling-cnn-{target}",
        cnn,
        "dense_4",
        CROSSENTROPY,
        lambda split: split.y,
        "zero_fraction",
        target,
        5,
        f"The CNN of the Keras examples, {target:.0%} zeros in its Dense(128)",
    )


SETTLING = [
    _experiment(task)
    for task in (
        _autoencoder(256),
        _autoencoder(4096),
        _cnn(0.8),
        _cnn(0.95),
    )
]
