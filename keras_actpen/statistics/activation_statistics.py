"""On-device activation statistics and their read-out."""

import functools
import itertools
from collections.abc import Sequence
from typing import NamedTuple

import keras
import numpy as np

from keras_actpen import backend
from keras_actpen.backend import operations as ops
from keras_actpen.backend.tensors import Tensor
from keras_actpen.statistics.batch_elements import Elements
from keras_actpen.statistics.device_state import (
    DeviceState,
    add_to_words,
    float_of_words,
    power_of_two,
    read_words,
    state_variable,
    total,
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

    def update(
        self, row: int, activations: Tensor, mask: Tensor | None = None
    ) -> None:
        """Take in one batch, as part of a compiled step.

        The histogram is that of this batch, the others' are forgotten. Counts
        are exact while a unit sees fewer than 2^24 positions a batch.

        Args:
            row: Which of the watched tensors it is.
            activations: Float tensor of shape `(batch, ..., units)`.
            mask: Boolean tensor whose axes are the first axes of
                `activations`, `False` where a position does not count, or
                `None`.
        """
        new = Elements(activations, mask)
        old = self._measures(row)
        words = ops.reshape(
            ops.convert_to_tensor(self.counts)[row, :_WORDS], (2, -1)
        )
        count = new.count
        zeros = count - total(new.fired)

        zero = ops.where(ops.greater(zeros, 0), 0.0, np.inf)
        low, high = ops.minimum(new.low, zero), ops.maximum(new.high, -zero)
        low, high = ops.minimum(old.low, low), ops.maximum(old.high, high)
        scale = ops.maximum(old.scale, power_of_two(ops.maximum(-low, high)))
        number = ops.cast(count, "float32")
        n = ops.maximum(number, 1.0)
        mean, m2 = backend.mean_and_m2(
            new.sums, new.start, n, ops.cast(zeros, "float32"), scale
        )
        seen = float_of_words(words[0, 0], words[1, 0])
        before = Moments(seen, old.mean, old.second).scaled(old.scale / scale)
        merged = before.merge(
            Moments(number, mean, ops.maximum(m2, 0.0) / n),
            ops.maximum(seen + number, 1.0),
        )

        # Last, because `old` and `words` may be views of the variables.
        edges, buckets = self._histogram(new)
        measures = Measures(
            merged.mean, merged.second, scale, low, high, *edges
        )
        _write(self.measures, row, ops.stack(measures))
        counts = Counts(count, zeros, new.seen - count)
        words = ops.reshape(add_to_words(words, ops.stack(counts)), (_WORDS,))
        _write(self.counts, row, ops.concatenate([words, buckets]))
        where = self.slices[row]
        # A batch with other units says nothing of these.
        if where is not None and new.fired.shape[0] in (
            None,
            where.stop - where.start,
        ):
            old = ops.convert_to_tensor(self.fired)
            parts = [
                old[: where.start],
                old[where] + new.fired,
                old[where.stop :],
            ]
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
        edges, buckets = self._histogram(Elements(activations, mask))
        measures = Measures(*self._measures(row)[:-2], *edges)
        _write(self.measures, row, ops.stack(measures))
        words = ops.convert_to_tensor(self.counts)[row, :_WORDS]
        _write(self.counts, row, ops.concatenate([words, buckets]))

    def _measures(self, row: int) -> Measures:
        """The float columns of a row by name."""
        state = ops.convert_to_tensor(self.measures)[row]
        return Measures(*(state[i] for i in range(len(Measures()))))

    def _histogram(self, new: Elements) -> tuple[list[Tensor], Tensor]:
        """Outer edges and counts of the histogram of one batch.

        It is that of the finite values other than 0, in TensorBoard's own
        definition: 30 equal buckets from the smallest to the largest, or
        everything in the last bucket if all values are equal.
        """
        high = ops.maximum(new.high, new.start)
        buckets = ops.cast(new.buckets, self.counts.dtype)
        # All values equal: all are in the first bucket.
        buckets = ops.where(
            ops.equal(new.start, high), ops.flip(buckets), buckets
        )
        return [new.start, high], buckets

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


def _write(table: keras.Variable, row: int, values: Tensor) -> None:
    rows = ops.convert_to_tensor(table)
    table.assign(ops.concatenate([rows[:row], values[None], rows[row + 1 :]]))


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
