"""TargetController: how many moves each rule takes to settle."""

from collections.abc import Iterator, Sequence

import keras
import numpy as np
from keras import layers

from benchmarks.effects import measures
from benchmarks.effects.claims import Claim
from benchmarks.effects.digits import Split, load
from benchmarks.effects.experiments import Experiment
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

NAME = "settling-sae-256"
UNITS, TARGET = 256, 20.0
MOVES, STEPS = 60, 20
# Settled: the mean of so many measurements stays this close to the target.
SMOOTHED, WITHIN = 5, 0.05
# How far the coefficient is from the right one at first.
STARTS = (0.1, 10.0)
PENALTIES = (L1, Hoyer)
RULES = {"LogPI": "log_pi", "GECO": "geco"}


def build() -> keras.Model:
    """A sparse autoencoder of the pixels, the rows of its decoder normed."""
    return keras.Sequential(
        [
            keras.Input((784,)),
            layers.Dense(UNITS, activation="relu", name="code"),
            layers.Dense(
                784,
                kernel_constraint=keras.constraints.UnitNorm(axis=1),
                name="pixels",
            ),
        ]
    )


def run(effort: Effort) -> Iterator[Row]:
    """Train from coefficients that are too small and too large."""
    trainer = Trainer(
        build,
        "mse",
        MOVES,
        effort,
        layers=["code"],
        targets=lambda split: split.x,
    )
    for seed in effort.seeds:
        digits = load(seed, effort.train, effort.validation, effort.test)
        train = _repeated(digits.train, trainer.epochs * STEPS)

        def row(
            arm: str,
            strength: float,
            moves: Sequence[float] = (),
            seed=seed,
            digits=digits,
        ) -> Row:
            values, validation = (
                {
                    "moves": moves_until_settled(moves, TARGET),
                    "l0": _l0(trainer, split),
                }
                for split in (digits.test, digits.validation)
            )
            return Row(NAME, arm, strength, seed, values, validation)

        trainer.restart(seed)
        trainer.fit(trainer.plain, train, (), STEPS)
        yield row(NONE, 0.0)
        for kind in PENALTIES:
            # The right coefficient is that at which the rule ends.
            found = _history(trainer, seed, train, kind(1e-4), "log_pi")
            name = f"code/{kind(1.0).name}"
            ends = found[f"penalty.coefficient/{name}"][-10:]
            right = float(np.median(ends))
            for rule in RULES:
                for start in STARTS[: effort.strengths]:
                    penalty = kind(right * start)
                    found = _history(trainer, seed, train, penalty, RULES[rule])
                    arm = f"{kind.__name__}, {rule}"
                    yield row(arm, start, found[f"l0/{name}"])


def _history(
    trainer: Trainer, seed: int, train: Split, penalty: Penalty, rule: str
) -> dict[str, list[float]]:
    """What a training with a controller has logged, an epoch for each move."""
    trainer.restart(seed)
    model = trainer.attach(Arm("", [penalty], STARTS))
    controller = TargetController(
        f"code/{penalty.name}",
        TARGET,
        measure="l0",
        rule=rule,
        update_freq=STEPS,
        bounds=(1e-10, 1e4),
        # More than there are moves: what is reached is reported.
        patience=10**6,
    )
    return trainer.fit(model, train, [controller], STEPS).history


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


def _l0(trainer: Trainer, split: Split) -> float:
    """Mean number of units that fire for a digit."""
    return (1 - measures.zero_share(trainer.read(split.x)[0])) * UNITS


def _claims(kind: type[Penalty], start: float) -> list[Claim]:
    words = "small" if start < 1 else "large"
    where = f"{NAME}, {kind.__name__} ten times too {words}"
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


SETTLING = Experiment(
    name=NAME,
    text=f"An autoencoder of {UNITS} units on the pixels, {TARGET:g} of which "
    f"are to fire, {MOVES} moves, one every {STEPS} steps, from coefficients "
    "ten times too small and too large (the strengths). It has settled when "
    f"the mean of {SMOOTHED} measurements stays within {WITHIN:.0%} of the "
    f"target; {MOVES + 1} moves mean that it has not. `l0` is that of the test "
    "digits after the training.",
    run=run,
    choose=None,
    columns={"moves": "moves until settled", "l0": "units that fire"},
    axes=("moves", "l0"),
    claims=[
        claim
        for kind in PENALTIES
        for start in STARTS
        for claim in _claims(kind, start)
    ],
)
