"""On-device activation statistics and their read-out."""

import functools
import itertools
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import keras
import numpy as np

from keras_actpen import backend
from keras_actpen.backend import operations as ops
from keras_actpen.backend.tensors import Tensor
from keras_actpen.statistics.batch_elements import (
    Elements,
    column,
    elements_of,
    histograms,
)
from keras_actpen.statistics.device_state import (
    DeviceState,
    add_to_words,
    float_of_words,
    power_of_two,
    read_words,
    state_variable,
)
from keras_actpen.statistics.histograms import BUCKETS, histogram
from keras_actpen.statistics.moments import Moments
from keras_actpen.statistics.snapshot import StatisticsSnapshot


class Measures(NamedTuple):
    """The float columns of a row, and what they are before anything is seen.

    `mean` is in units of `scale`, `second`, the variance, in those of its
    square; `first_edge` and `last_edge` are those of the histogram.
    """

    mean: Tensor = 0.0
    second: Tensor = 0.0
    scale: Tensor = 0.0
    low: Tensor = np.inf
    high: Tensor = -np.inf
    first_edge: Tensor = 0.0
    last_edge: Tensor = 0.0


class Counts(NamedTuple):
    """The counts of a row, each in two words, in front of its buckets."""

    finite: Tensor = 0
    zeros: Tensor = 0
    nonfinite: Tensor = 0


_WORDS = 2 * len(Counts())


class ActivationStatistics(DeviceState):
    """Statistics of watched tensors, kept on the device, a row for each.

    The rows of all watched tensors of a model are held together: each
    variable costs time when it is read or written from the host, on JAX at
    each step.

    What is kept is float32, in units of a power of two that follows the
    largest absolute value seen, so that neither 1e30 squared overflows nor
    1e-30 squared vanishes. Float64 activations are cast to float32.

    Args:
        units: For each watched tensor the size of its last axis, or `None` if
            it is not known; then there is no `dead_fraction`.
    """

    def __init__(self, units: Sequence[int | None]):
        super().__init__()
        rows = len(units)
        self.measures: keras.Variable = state_variable(
            (rows, len(Measures())), "measures", initializer=_start
        )
        # The lower words of `Counts`, the upper ones, then the buckets.
        self.counts: keras.Variable = state_variable(
            (rows, _WORDS + BUCKETS), "counts", dtype="int"
        )
        # Where the units of each row are in `fired`.
        ends = list(itertools.accumulate(size or 0 for size in units))
        self.slices: list[slice | None] = [
            None if size is None else slice(end - size, end)
            for size, end in zip(units, ends, strict=True)
        ]
        # A variable has elements.
        self.fired: keras.Variable = state_variable(
            (max(ends[-1], 1),), "fired"
        )

    def start_of(self, variable: keras.Variable) -> Tensor:
        """What one of the variables holds before anything has been seen."""
        # tf.distribute divides what is assigned to a summed variable by the
        # number of replicas, which 0 and infinity survive.
        if variable is self.measures:
            return _start(variable.shape)
        return super().start_of(variable)

    def seen(
        self, row: int, activations: Tensor, mask: Tensor | None = None
    ) -> Any:
        """What `update` needs of one batch, as part of a compiled step.

        Args:
            row: Which of the watched tensors it is.
            activations: Float tensor of shape `(batch, ..., units)`.
            mask: Boolean tensor whose axes are the first axes of
                `activations`, `False` where a position does not count, or
                `None`.
        """
        return backend.later(elements_of, activations, mask)

    def update(self, batches: Mapping[int, Any]) -> None:
        """Take in a batch of each of some tensors, as part of a compiled step.

        The histograms are those of these batches, the others' are forgotten.
        Counts are exact while a unit sees fewer than 2^24 positions a batch.
        All rows at once: one by one, the operations between a few numbers
        were most of what a step with many layers had to compile.

        Args:
            batches: What `seen` returns, by rows.
        """
        rows, news = list(batches), backend.results([*batches.values()])
        # Columns of shape (rows, 1).
        table = _rows(ops.convert_to_tensor(self.measures), rows)
        old = Measures(*(table[:, i : i + 1] for i in range(len(Measures()))))
        counts = _rows(ops.convert_to_tensor(self.counts), rows)
        lower, upper = counts[:, : _WORDS // 2], counts[:, _WORDS // 2 : _WORDS]
        count = column([new.count for new in news])
        zeros = count - column([new.nonzero for new in news])
        start = column([new.start for new in news])
        highest = column([new.high for new in news])

        # Of two numbers it would be of Keras's own float type.
        nothing = ops.zeros_like(start)
        zero = ops.where(ops.greater(zeros, 0), nothing, np.inf)
        low = ops.minimum(column([new.low for new in news]), zero)
        high = ops.maximum(highest, -zero)
        low, high = ops.minimum(old.low, low), ops.maximum(old.high, high)
        scale = ops.maximum(old.scale, power_of_two(ops.maximum(-low, high)))
        number = ops.cast(count, "float32")
        n = ops.maximum(number, 1.0)
        mean, m2 = backend.mean_and_m2(
            [new.sums for new in news],
            start,
            n,
            ops.cast(zeros, "float32"),
            scale,
        )
        seen = float_of_words(lower[:, :1], upper[:, :1])
        before = Moments(seen, old.mean, old.second).scaled(old.scale / scale)
        merged = before.merge(
            Moments(number, mean, ops.maximum(m2, 0.0) / n),
            ops.maximum(seen + number, 1.0),
        )

        # Last, because `old` and the words may be views of the variables.
        edges, buckets = histograms(news)
        measures = Measures(
            merged.mean, merged.second, scale, low, high, *edges
        )
        nonfinite = column([new.nonfinite for new in news])
        added = ops.concatenate([*Counts(count, zeros, nonfinite)], axis=1)
        words = add_to_words([lower, upper], added)
        counts = ops.concatenate([words[0], words[1], buckets], axis=1)
        _write(self.measures, rows, ops.concatenate([*measures], axis=1))
        _write(self.counts, rows, counts)
        self._add_fired(dict(zip(rows, news, strict=True)))

    def _add_fired(self, news: Mapping[int, Elements]) -> None:
        """Add how often each unit has fired."""
        fired, parts = ops.convert_to_tensor(self.fired), []
        for row, where in enumerate(self.slices):
            part = fired[where or slice(0)]
            # A batch with other units says nothing of these.
            alike = (None, part.shape[0])
            if row in news and news[row].fired.shape[0] in alike:
                part = part + ops.reshape(news[row].fired, part.shape)
            parts.append(part)
        if any(part.shape[0] for part in parts):
            self.fired.assign(ops.concatenate(parts))

    def update_histogram(
        self, row: int, activations: Tensor, mask: Tensor | None = None
    ) -> None:
        """Replace the histogram, which is that of the last `update`.

        Args:
            row: Which of the watched tensors it is.
            activations: As in `update`.
            mask: As in `update`.
        """
        edges, buckets = histograms([elements_of(activations, mask)])
        measures = _rows(ops.convert_to_tensor(self.measures), [row])
        counts = _rows(ops.convert_to_tensor(self.counts), [row])
        measures = [measures[:, : -len(edges)], *edges]
        counts = [counts[:, :_WORDS], buckets]
        _write(self.measures, [row], ops.concatenate(measures, axis=1))
        _write(self.counts, [row], ops.concatenate(counts, axis=1))

    def read(self) -> list[StatisticsSnapshot]:
        """What this process's replicas have seen since the last `reset`."""
        replicas = list(
            zip(
                backend.local_values(self.measures),
                backend.local_values(self.counts),
                backend.local_values(self.fired),
                strict=True,
            )
        )
        return [
            _merged(
                [
                    (
                        measures[row],
                        counts[row],
                        None if where is None else fired[where],
                    )
                    for measures, counts, fired in replicas
                ]
            )
            for row, where in enumerate(self.slices)
        ]


def _start(shape: tuple[int, ...], dtype: str = "float32") -> Tensor:
    """Rows of `Measures` before anything has been seen."""
    return keras.ops.convert_to_tensor(
        np.tile(Measures(), (shape[0], 1)), dtype
    )


def _rows(table: Tensor, rows: Sequence[int]) -> Tensor:
    """Some rows of a table."""
    if list(rows) == list(range(table.shape[0])):
        return table
    return ops.concatenate([table[row : row + 1] for row in rows])


def _write(table: keras.Variable, rows: Sequence[int], new: Tensor) -> None:
    """Replace some rows of a table."""
    if list(rows) != list(range(table.shape[0])):
        old = ops.convert_to_tensor(table)
        places = {row: new[i : i + 1] for i, row in enumerate(rows)}
        new = ops.concatenate(
            [
                places.get(row, old[row : row + 1])
                for row in range(table.shape[0])
            ]
        )
    table.assign(new)


def _merged(
    replicas: list[tuple[np.ndarray, np.ndarray, np.ndarray | None]],
) -> StatisticsSnapshot:
    """What all replicas have seen of one watched tensor."""
    # The replicas share their edges.
    measures = Measures(*replicas[0][0].tolist())
    buckets = sum(counts[_WORDS:].astype("int64") for _, counts, _ in replicas)
    rows = histogram(measures.first_edge, measures.last_edge, buckets)
    return functools.reduce(
        StatisticsSnapshot.merge,
        (_snapshot(*replica, rows) for replica in replicas),
    )


def _snapshot(
    measures: np.ndarray,
    counts: np.ndarray,
    fired: np.ndarray | None,
    rows: np.ndarray,
) -> StatisticsSnapshot:
    """What one replica has seen of one watched tensor, and all histograms."""
    seen = Measures(*measures.tolist())
    counted = Counts(*read_words(counts[:_WORDS].reshape(2, -1)).tolist())
    return StatisticsSnapshot(
        count=counted.finite,
        mean=seen.mean * seen.scale,
        variance=seen.second * seen.scale**2,
        minimum=seen.low,
        maximum=seen.high,
        zeros=counted.zeros,
        nonfinite=counted.nonfinite,
        fired=None if fired is None else fired.astype("float64"),
        histogram=rows,
    )
