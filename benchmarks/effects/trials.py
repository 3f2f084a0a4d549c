"""Trainings of one network that differ in their penalty and nothing else."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import keras
import numpy as np

from benchmarks.effects.digits import Digits, Split, load
from keras_actpen import attach_penalty, penalized_layers, suggest_coefficient
from keras_actpen.penalties import Penalty

BATCH_SIZE = 80
# The arm that every other one is compared with.
NONE = "no penalty"


@dataclass(frozen=True)
class Effort:
    """How much is trained.

    Attributes:
        seeds: Each decides the digits, the first weights and their order.
        train: Number of digits to train on.
        validation: Number of digits to choose strengths by.
        test: Number of digits to report on.
        epochs: Factor of the epochs of every training.
        strengths: The most strengths of each arm that are tried.
        compiling: Arguments of `compile`, for example `run_eagerly`.
    """

    seeds: Sequence[int]
    train: int
    validation: int
    test: int
    epochs: float = 1.0
    strengths: int | None = None
    compiling: Mapping[str, Any] = field(default_factory=dict)


EFFORTS = {
    "full": Effort((0, 1, 2), train=2000, validation=1000, test=2000),
    "quick": Effort((0, 1), train=400, validation=200, test=400, epochs=0.1),
}


@dataclass(frozen=True)
class Arm:
    """A penalty and how strong it is tried.

    Attributes:
        name: What tables and claims call it.
        penalties: Attached together, to each penalized layer.
        strengths: What their coefficients are multiplied with, unless the
            experiment reads them in its own way.
    """

    name: str
    penalties: Sequence[Penalty]
    strengths: Sequence[float]


@dataclass(frozen=True)
class Row:
    """What one training led to.

    Attributes:
        experiment: Name of the experiment.
        arm: Name of the arm, `"no penalty"` for the control.
        strength: One of the arm's, 0 for the control.
        seed: Of the training.
        values: Measures on the test digits.
        validation: The same on other digits, to choose a strength by.
    """

    experiment: str
    arm: str
    strength: float
    seed: int
    values: Mapping[str, float]
    validation: Mapping[str, float]


class Trainer:
    """A network that is trained again and again from the start.

    All arms share its weights and its optimizer, as `attach_penalty` has it,
    and each is compiled once: only coefficients, weights and the optimizer's
    slots change from one training to the next.

    Args:
        build: Makes the network, not compiled.
        loss: Its loss.
        epochs: Epochs of a training at full effort.
        effort: How much is trained.
        layers: Names of the layers that are penalized and read.
        targets: What the network is to put out for a split.
        learning_rate: Of Adam.
    """

    def __init__(
        self,
        build: Callable[[], keras.Model],
        loss: Any,
        epochs: int,
        effort: Effort,
        layers: Sequence[str] = ("hidden",),
        targets: Callable[[Split], np.ndarray] = lambda split: split.y,
        learning_rate: float = 1e-3,
    ):
        self.build, self.layers, self.targets = build, layers, targets
        self.epochs = max(1, round(epochs * effort.epochs))
        self.plain = build()
        optimizer = keras.optimizers.Adam(learning_rate)
        self.plain.compile(optimizer, loss, **effort.compiling)
        optimizer.build(self.plain.trainable_variables)
        self._slots = [
            keras.ops.convert_to_numpy(variable)
            for variable in optimizer.variables
        ]
        self._reader = keras.Model(
            self.plain.inputs[0],
            [self.plain.get_layer(name).output for name in layers]
            + self.plain.outputs,
        )

    def attach(self, arm: Arm) -> keras.Model:
        """The network with an arm's penalties, on the same weights."""
        return attach_penalty(self.plain, list(self.layers), arm.penalties)

    def restart(self, seed: int) -> None:
        """Back to the first weights of a seed, and a new optimizer's slots."""
        keras.utils.set_random_seed(seed)
        self.plain.set_weights(self.build().get_weights())
        variables = self.plain.optimizer.variables
        for variable, value in zip(variables, self._slots, strict=True):
            variable.assign(value)

    def fit(
        self,
        model: keras.Model,
        split: Split,
        callbacks: Sequence[keras.callbacks.Callback] = (),
        steps_per_epoch: int | None = None,
    ) -> keras.callbacks.History:
        """Train the network or one that `attach` made of it."""
        return model.fit(
            split.x,
            self.targets(split),
            batch_size=BATCH_SIZE,
            epochs=self.epochs,
            steps_per_epoch=steps_per_epoch,
            callbacks=list(callbacks),
            verbose=0,
        )

    def read(self, x: np.ndarray) -> list[np.ndarray]:
        """Outputs of the penalized layers, and last those of the network."""
        outputs = self._reader(x, training=False)
        return [
            keras.ops.convert_to_numpy(h).astype("float64") for h in outputs
        ]


Train = Callable[[Trainer, keras.Model, Arm, float, Split], None]
Measure = Callable[[Trainer, Split, Digits], dict[str, float]]


def by_coefficient(
    trainer: Trainer,
    model: keras.Model,
    arm: Arm,
    strength: float,
    split: Split,
) -> None:
    """Train with each penalty's own coefficient times the strength."""
    _set(model, {p.name: strength * p.coefficient for p in arm.penalties})
    trainer.fit(model, split)


def by_share(
    trainer: Trainer,
    model: keras.Model,
    arm: Arm,
    strength: float,
    split: Split,
) -> None:
    """Train with coefficients that give each penalty a share of the gradient.

    That of the first step: the penalty's gradient with respect to the
    activations has `strength` times the norm of the task's.
    """
    batch = (split.x[:512], trainer.targets(split)[:512])
    layers = list(trainer.layers)
    coefficients = {
        penalty.name: suggest_coefficient(
            trainer.plain, layers, penalty, *batch, strength, verbose=0
        )
        for penalty in arm.penalties
    }
    _set(model, coefficients)
    trainer.fit(model, split)


def sweep(
    experiment: str,
    trainer: Trainer,
    arms: Sequence[Arm],
    measure: Measure,
    effort: Effort,
    train: Train,
) -> Iterator[Row]:
    """Train without a penalty and with each at each strength, for all seeds.

    Args:
        experiment: Name of the experiment.
        trainer: Its network.
        arms: Its arms.
        measure: What to measure of the trained network on a split.
        effort: How much to train.
        train: How an arm is trained with a strength.
    """
    models = {arm.name: trainer.attach(arm) for arm in arms}
    for seed in effort.seeds:
        digits = load(seed, effort.train, effort.validation, effort.test)

        def row(arm: str, strength: float, seed=seed, digits=digits) -> Row:
            values, validation = (
                measure(trainer, split, digits)
                for split in (digits.test, digits.validation)
            )
            return Row(experiment, arm, strength, seed, values, validation)

        trainer.restart(seed)
        trainer.fit(trainer.plain, digits.train)
        yield row(NONE, 0.0)
        for arm in arms:
            for strength in arm.strengths[: effort.strengths]:
                trainer.restart(seed)
                train(trainer, models[arm.name], arm, strength, digits.train)
                yield row(arm.name, strength)


def _set(model: keras.Model, coefficients: Mapping[str, float]) -> None:
    for layer in penalized_layers(model).values():
        layer.coefficients.update(coefficients)
