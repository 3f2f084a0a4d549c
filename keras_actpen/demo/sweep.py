"""One penalty at several coefficients, from the same initial state."""

import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from keras_actpen.attach.attach import penalized_layers
from keras_actpen.callbacks.penalty_monitor import PenaltyMonitor


@dataclass(frozen=True)
class Measured:
    """What a trained model does on a test set.

    Attributes:
        accuracy: Its accuracy.
        task_loss: Its loss without the penalty terms.
        penalty: Coefficient times value of all penalty terms.
        zero_fraction: Share of exact zeros in the layer's activations.
        mean_square: Mean square of the layer's activations.
    """

    accuracy: float
    task_loss: float
    penalty: float
    zero_fraction: float
    mean_square: float


def log_spaced(middle: float, count: int = 5) -> list[float]:
    """Coefficients around `middle`, each ten times the one before."""
    return [
        # Through text: 0.001 * 10 is 0.01, not 0.010000000000000002.
        float(f"{middle * 10.0 ** (index - count // 2):.6g}")
        for index in range(count)
    ]


def run_sweep(
    model: keras.Model,
    layer: str,
    term: str,
    coefficients: Iterable[float],
    *,
    log_dir: str | os.PathLike[str],
    seed: int,
    fit: Callable[[float, list[keras.callbacks.Callback]], object],
    measure: Callable[[], Measured],
) -> dict[float, Measured]:
    """Train a model once with each coefficient, always from the same state.

    Weights, optimizer and random numbers are put back before each training.
    Nothing is recompiled, since coefficients are device state.

    Args:
        model: A compiled model with a penalty. It is left as the last
            coefficient has trained it.
        layer: Path of the penalized layer.
        term: Name of the term.
        coefficients: The coefficients.
        log_dir: Every coefficient logs into a directory of its own in it,
            `<term>=<coefficient>`: TensorBoard on `log_dir` shows all of them.
        seed: Seed of each training.
        fit: Trains the model with this coefficient and these callbacks.
        measure: Says what the trained model does.

    Returns:
        What each coefficient led to.
    """
    start = _SameStart(model, seed)
    measured = {}
    for coefficient in coefficients:
        start.coefficient = (layer, term, coefficient)
        run = os.path.join(log_dir, f"{term}={coefficient:g}")
        # Both ends of a sweep are meant to be too small and too large.
        fit(coefficient, [start, PenaltyMonitor(run, alerts=())])
        measured[coefficient] = measure()
    return measured


class _SameStart(keras.callbacks.Callback):
    """Puts a model back to the state it had, but for one coefficient.

    Not before `fit`: the first one draws random numbers on JAX and torch
    before training begins, which later ones do not.
    """

    def __init__(self, model: keras.Model, seed: int):
        super().__init__()
        self.seed = seed
        self.coefficient = ("", "", 0.0)
        model.optimizer.build(model.trainable_variables)
        # Weights, the seeds of dropout, moments and iterations.
        self._variables = [*model.variables, *model.optimizer.variables]
        # Copies: on JAX and torch convert_to_numpy may return live memory.
        self._values = [
            np.array(keras.ops.convert_to_numpy(variable))
            for variable in self._variables
        ]

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        keras.utils.set_random_seed(self.seed)
        for variable, value in zip(self._variables, self._values, strict=True):
            variable.assign(value)
        layer, term, coefficient = self.coefficient
        penalized_layers(self.model)[layer].coefficients[term] = coefficient
