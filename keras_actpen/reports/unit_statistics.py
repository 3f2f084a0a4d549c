"""unit_statistics: what each unit does, on data."""

from collections.abc import Callable, Mapping
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_actpen import backend
from keras_actpen.attach.capture import Watched
from keras_actpen.attach.penalized_layer import PenalizedLayer
from keras_actpen.attach.recording import recording
from keras_actpen.backend.tensors import Tensor
from keras_actpen.penalties.reductions import expand_mask
from keras_actpen.reports.data import Data, Verbose
from keras_actpen.reports.observed_layers import observed_layers
from keras_actpen.statistics.unit_values import UnitValues, spec_name


def unit_statistics(
    model: keras.Model,
    x: Any,
    *,
    batch_size: int | None = None,
    steps: int | None = None,
    training: bool = False,
    verbose: Verbose = "auto",
) -> dict[str, UnitValues]:
    """Compute statistics of every single unit on data, without side effects.

    For activations of shape `(batch, ..., units)`, units are the channels of
    the last axis, and all other axes together are the positions. Masked
    positions are left out. Sums are taken in float64. The model is not
    changed.

    Example:
    >>> import numpy as np
    >>> from keras_actpen import watch_activations
    >>> model = keras.Sequential([
    ...     keras.Input((2,)), keras.layers.ReLU(name="relu")])
    >>> model = watch_activations(model, "relu")
    >>> x = np.array([[-1.0, 2.0], [-3.0, 4.0], [-5.0, -6.0]])
    >>> units = unit_statistics(model, x)["relu"]
    >>> units.rate.tolist(), units.since_fired.tolist(), units.max.tolist()
    ([0.0, 0.6666666666666666], [3, 1], [0.0, 4.0])

    Args:
        model: A built model with penalized or watched layers.
        x: Inputs, as `model.evaluate` takes them: an array, lists and
            dictionaries of arrays, a `tf.data.Dataset`, a `PyDataset`, a
            torch `DataLoader` or a generator of batches. Targets are skipped.
        batch_size: Samples in a batch of arrays; default: 32, or what makes
            `steps` batches.
        steps: How many batches at most.
        training: Whether layers such as Dropout behave as in training.
        verbose: `"auto"`, 0, 1 or 2, as in `model.evaluate`; `"auto"` shows a
            progress bar where there are several batches.

    Returns:
        The `UnitValues` of every penalized or watched place, arrays of shape
        `(units,)`, by the path of the layer. A place other than the layer's
        first output is named after the path: `"dense_4 (preactivation)"`.
        Places where the number of units differs from call to call are left
        out.

    Raises:
        TypeError: If an argument has the wrong type.
        ValueError: If the model is not built or has no penalized or watched
            layer, there are no samples, or the data is not in a form that
            `evaluate` takes.
    """
    layers = observed_layers(model)
    recorder = _UnitRecorder(layers)
    data = Data(x, batch_size=batch_size, steps=steps, verbose=verbose)
    for batch in data.batches():
        # Nothing that the layers assign, such as moving averages, is kept.
        with (
            keras.StatelessScope(),
            backend.random_state_kept(),
            recording(recorder),
        ):
            model(batch.x, training=training)
    return recorder.values()


class _UnitTotals:
    """Sums over the positions of each unit, in float64."""

    def __init__(self, units: int):
        self.positions = 0
        self.since_fired = np.zeros(units, "int64")
        self.fired, self.finite = np.zeros((2, units), "int64")
        self.sum, self.squares = np.zeros((2, units))
        self.max = np.full(units, -np.inf)

    def add(self, values: np.ndarray) -> None:
        """Take in activations of shape `(positions, units)`."""
        positions = len(values)
        if not positions:
            return
        finite = np.isfinite(values)
        fires = finite & (values != 0)
        after_last = np.argmax(fires[::-1], axis=0)
        self.since_fired = np.where(
            fires.any(axis=0), after_last, self.since_fired + positions
        )
        self.positions += positions
        self.fired += fires.sum(axis=0)
        self.finite += finite.sum(axis=0)
        counted = np.where(finite, values, 0.0)
        self.sum += counted.sum(axis=0)
        self.squares += np.square(counted).sum(axis=0)
        largest = np.where(finite, values, -np.inf).max(axis=0)
        self.max = np.maximum(self.max, largest)

    def values(self) -> UnitValues:
        """The statistics, NaN where there was nothing."""
        finite = np.where(self.finite, self.finite, np.nan)
        positions = self.positions or np.nan
        return UnitValues(
            rate=self.fired / positions,
            since_fired=self.since_fired,
            positions=self.positions,
            mean=self.sum / finite,
            max=np.where(self.finite, self.max, np.nan),
            rms=np.sqrt(self.squares / finite),
        )


class _UnitRecorder:
    """Adds up what the units of penalized layers do.

    Args:
        layers: The layers by path.
    """

    def __init__(self, layers: Mapping[str, PenalizedLayer]):
        self._paths = {id(layer): path for path, layer in layers.items()}
        self._totals = {
            spec_name(path, spec): _UnitTotals(units)
            for path, layer in layers.items()
            for spec, units in layer.actpen.spec_units.items()
            if units and not spec.is_weight
        }

    def record(
        self,
        layer: PenalizedLayer,
        watched: Watched,
        terms: Callable[[], dict[str, Tensor]],
    ) -> None:
        """Take one call of one layer."""
        path = self._paths.get(id(layer))
        for spec, tensors in watched.items() if path is not None else ():
            totals = self._totals.get(spec_name(path, spec))
            for activations, mask in tensors if totals is not None else ():
                totals.add(_positions(activations, mask, len(totals.max)))

    def record_weights(
        self,
        layer: PenalizedLayer,
        watched: Watched,
        terms: Callable[[], dict[str, Tensor]],
    ) -> None:
        """Nothing: weights are not activations."""

    def values(self) -> dict[str, UnitValues]:
        """The statistics by place."""
        return {name: one.values() for name, one in self._totals.items()}


def _positions(x: Tensor, mask: Tensor | None, units: int) -> np.ndarray:
    """Activations that are not masked, of shape `(positions, units)`."""
    values = ops.convert_to_numpy(ops.cast(x, "float32")).astype("float64")
    shape = values.shape[:-1] if values.ndim > 1 else values.shape
    if mask is None:
        return values.reshape(-1, units)
    keep = ops.convert_to_numpy(expand_mask(mask, len(shape)))
    return values.reshape(*shape, units)[np.broadcast_to(keep, shape)]
