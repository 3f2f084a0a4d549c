"""One pass of data through a model: loss, terms and statistics."""

import math
import numbers
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import keras
from keras import ops, tree

from keras_actpen import backend
from keras_actpen.attach.activation_spec import ActivationSpec
from keras_actpen.attach.penalized_layer import PenalizedLayer
from keras_actpen.attach.recording import log_key, recording
from keras_actpen.instrumentation.run_state import RunState
from keras_actpen.instrumentation.step_recorders import StatisticsRecorder
from keras_actpen.reports.probes import loss_arguments
from keras_actpen.statistics.snapshot import StatisticsSnapshot


@dataclass(frozen=True)
class Measurement:
    """What one pass of data through a model has shown.

    Attributes:
        samples: Number of samples.
        loss: Mean of the loss, NaN if there is none.
        means: Coefficient times value of every term, by `penalty/...`.
        snapshots: Activation statistics by path and place.
    """

    samples: int
    loss: float
    means: Mapping[str, float]
    snapshots: Mapping[tuple[str, ActivationSpec], StatisticsSnapshot]


def measure(
    model: keras.Model,
    layers: Mapping[str, PenalizedLayer],
    x: Any,
    y: Any,
    batch_size: int,
    training: bool,
) -> Measurement:
    """Pass data through a model, without any side effect.

    The loss is known if the model is compiled and `y` is not `None`.

    Args:
        model: A built model.
        layers: Its penalized and watched layers by path.
        x: Inputs: an array, or lists and dictionaries of arrays.
        y: Targets, or `None`.
        batch_size: Samples in a batch.
        training: Whether layers such as Dropout behave as in training.

    Raises:
        TypeError: If `batch_size` is no integer or `x` no array.
        ValueError: If it is below 1 or `x` has no samples.
    """
    state = RunState(layers)
    kept = [v for one in state.device_states() for v in one.variables]
    samples, loss = 0, 0.0
    for size, (batch_x, batch_y) in batches((x, y), batch_size):
        recorder = StatisticsRecorder(
            state, "test", ops.convert_to_tensor(size, "float32")
        )
        # Nothing that the layers and the loss assign is kept.
        with (
            backend.random_state_kept(),
            keras.StatelessScope(collect_losses=True) as scope,
            recording(recorder),
        ):
            batch_loss = _loss(model, batch_x, batch_y, training)
            recorder.finish()
        for variable in kept:
            value = scope.get_current_value(variable)
            if value is not None:  # None where the layer was not called
                variable.assign(value)
        samples += size
        loss += size * batch_loss
    means = {}
    if state.totals:
        totals, _ = state.totals["test"].read()
        means = {log_key(*term): totals[term] / samples for term in totals}
    return Measurement(
        samples=samples,
        loss=loss / samples,
        means=means,
        snapshots=state.snapshots(),
    )


def batches(
    data: tuple[Any, Any], batch_size: int
) -> Iterator[tuple[int, tuple[Any, Any]]]:
    """Slices of inputs and targets, each with its number of samples.

    Args:
        data: Inputs and targets, nested as the model takes them.
        batch_size: Samples in a batch; the last one may have fewer.

    Raises:
        TypeError: If `batch_size` is no integer or the inputs no arrays.
        ValueError: If it is below 1 or there are no samples.
    """
    if isinstance(batch_size, bool) or not isinstance(
        batch_size, numbers.Integral
    ):
        raise TypeError(
            "Invalid type received for argument `batch_size`. Expected an "
            f"integer >= 1. Received: batch_size={batch_size!r} (of type "
            f"{type(batch_size).__name__})"
        )
    if batch_size < 1:
        raise ValueError(
            "Invalid value received for argument `batch_size`. Expected an "
            f"integer >= 1. Received: batch_size={batch_size!r}"
        )
    arrays = tree.flatten(data[0])
    if not arrays or not all(getattr(one, "shape", ()) for one in arrays):
        raise TypeError(
            "Invalid type received for argument `x`. Expected an array of "
            "shape (samples, ...), or lists and dictionaries of such arrays. "
            f"Received: x of type {type(data[0]).__name__}"
        )
    samples = arrays[0].shape[0]
    if not samples:
        raise ValueError(
            "Invalid value received for argument `x`. Expected at least one "
            "sample. Received: x without any"
        )
    for start in range(0, samples, batch_size):
        stop = min(start + batch_size, samples)
        yield stop - start, _rows(data, slice(start, stop))


def first_batch(data: tuple[Any, Any], batch_size: int) -> tuple[Any, Any]:
    """The first of `batches`, without its number of samples."""
    return next(batches(data, batch_size))[1]


def _rows(data: Any, rows: slice) -> Any:
    return tree.map_structure(
        lambda array: None if array is None else array[rows], data
    )


def _loss(model: keras.Model, x: Any, y: Any, training: bool) -> float:
    """Loss of one batch, NaN if the model has none or there is no target."""
    y_pred = model(x, training=training)
    if y is None or not model.compiled:
        _ = model.losses  # weights are there for the asking only
        return math.nan
    arguments = loss_arguments(model, x, y, training)
    loss = model.compute_loss(y_pred=y_pred, **arguments)
    return float(ops.convert_to_numpy(loss))
