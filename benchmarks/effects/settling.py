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
from benchmarks.effects.digits import Split, load
from benchmarks.effects.experiments import CROSSENTROPY, Experiment
from benchmarks.effects.trials import (
    BATCH_SIZE,
    NONE,
    Arm,
    Effort,
    Row,
    Trainer,
)
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
        text: What is trained, for the report.
        build: Makes the network.
        layer: Name of the layer that is penalized.
        loss: Loss of the network.
        targets: What the network is to put out for a split.
        measure: What is held.
        heading: What the report calls it.
        target: Where it is held.
        steps: Steps from one move to the next.
    """

    name: str
    text: str
    build: Callable[[], keras.Model]
    layer: str
    loss: Any
    targets: Callable[[Split], np.ndarray]
    measure: str
    heading: str
    target: float
    steps: int


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
    copies = [
        type(layer).from_config(layer.get_config())
        for layer in mnist_cnn().layers
    ]
    pixels = [keras.Input((784,)), layers.Reshape((28, 28, 1))]
    return keras.Sequential([*pixels, *copies])


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
        train = _repeated(digits.train, trainer.epochs * task.steps)

        def row(
            arm: str,
            strength: float,
            moves: Sequence[float] = (),
            seed=seed,
            digits=digits,
        ) -> Row:
            values, validation = (
                {
                    "moves": moves_until_settled(moves, task.target),
                    task.measure: _measured(task, trainer, split),
                }
                for split in (digits.test, digits.validation)
            )
            return Row(task.name, arm, strength, seed, values, validation)

        trainer.restart(seed)
        trainer.fit(trainer.plain, train, (), task.steps)
        yield row(NONE, 0.0)
        for kind in PENALTIES:
            # The right coefficient is that at which the rule ends.
            found = _history(task, trainer, seed, train, kind(1e-4), "log_pi")
            name = f"{task.layer}/{kind(1.0).name}"
            ends = found[f"penalty.coefficient/{name}"][-10:]
            right = float(np.median(ends))
            for rule in RULES:
                for start in STARTS[: effort.strengths]:
                    penalty = kind(right * start)
                    found = _history(
                        task, trainer, seed, train, penalty, RULES[rule]
                    )
                    arm = f"{kind.__name__}, {rule}"
                    yield row(arm, start, found[f"{task.measure}/{name}"])


def _history(
    task: Task,
    trainer: Trainer,
    seed: int,
    train: Split,
    penalty: Penalty,
    rule: str,
) -> dict[str, list[float]]:
    """What a training with a controller has logged, an epoch for each move."""
    trainer.restart(seed)
    model = trainer.attach(Arm("", [penalty], STARTS))
    controller = TargetController(
        f"{task.layer}/{penalty.name}",
        task.target,
        measure=task.measure,
        rule=rule,
        update_freq=task.steps,
        bounds=(1e-10, 1e4),
        # More than there are moves: what is reached is reported.
        patience=10**6,
    )
    return trainer.fit(model, train, [controller], task.steps).history


def _repeated(split: Split, batches: int) -> Split:
    """The digits again and again, for so many batches."""
    which = np.arange(batches * BATCH_SIZE) % len(split.x)
    return Split(split.x[which], split.y[which])


def moves_until_settled(moves: Sequence[float], target: float) -> float:
    """The first move from which on the measure stays at the target.

    The mean of the last five measurements counts. One more than there were if
    it does not stay there.
    """
    if len(moves) < SMOOTHED:
        return len(moves) + 1.0
    kernel = np.full(SMOOTHED, 1 / SMOOTHED)
    means = np.convolve(np.asarray(moves), kernel, "valid")
    (away,) = np.nonzero(np.abs(means / target - 1) > WITHIN)
    return float(SMOOTHED + (away[-1] + 1 if away.size else 0))


def _measured(task: Task, trainer: Trainer, split: Split) -> float:
    """What the controller held, on other digits."""
    hidden = trainer.read(split.x)[0]
    zeros = measures.zero_share(hidden)
    return (1 - zeros) * hidden.shape[-1] if task.measure == "l0" else zeros


def _claims(task: Task, kind: type[Penalty], start: float) -> list[Claim]:
    words = "small" if start < 1 else "large"
    where = f"{task.name}, {kind.__name__} ten times too {words}"
    arm = f"{kind.__name__}, LogPI"
    return [
        Claim(
            f"{where}: LogPI settles in at most {MOVES} moves",
            *("moves", arm, None),
            high=MOVES + 1,
            strength=start,
            headline=True,
        ),
        Claim(
            f"{where}: LogPI settles before GECO",
            *("moves", arm, f"{kind.__name__}, GECO"),
            high=0,
            strength=start,
        ),
    ]


def _experiment(task: Task) -> Experiment:
    return Experiment(
        name=task.name,
        text=f"{task.text}, {MOVES} moves, one every {task.steps} steps, from "
        "coefficients ten times too small and too large (the strengths). It "
        f"has settled when the mean of {SMOOTHED} measurements stays within "
        f"{WITHIN:.0%} of the target; {MOVES + 1} moves mean that it has not. "
        f"`{task.measure}` is that of the test digits after the training.",
        run=partial(run, task),
        choose=None,
        columns={"moves": "moves until settled", task.measure: task.heading},
        axes=("moves", task.measure),
        claims=[
            claim
            for kind in PENALTIES
            for start in STARTS
            for claim in _claims(task, kind, start)
        ],
    )


def _autoencoder(units: int, steps: int) -> Experiment:
    target = 20.0
    return _experiment(
        Task(
            name=f"settling-sae-{units}",
            text=f"An autoencoder of {units:,} units on the pixels, "
            f"{target:g} of which are to fire",
            build=partial(autoencoder, units),
            layer="code",
            loss="mse",
            targets=lambda split: split.x,
            measure="l0",
            heading="units that fire",
            target=target,
            steps=steps,
        )
    )


def _cnn(target: float) -> Experiment:
    return _experiment(
        Task(
            name=f"settling-cnn-{target:g}",
            text="The CNN of the Keras examples, of whose 128 hidden units "
            f"{target:.0%} are to be zero",
            build=cnn,
            layer="dense_4",
            loss=CROSSENTROPY,
            targets=lambda split: split.y,
            measure="zero_fraction",
            heading="zeros",
            target=target,
            steps=5,
        )
    )


SETTLING = (
    _autoencoder(256, steps=20),
    _autoencoder(4096, steps=10),
    _cnn(0.8),
    _cnn(0.95),
)
