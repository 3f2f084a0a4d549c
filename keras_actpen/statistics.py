"""On-device activation statistics and their read-out."""

import dataclasses
import functools
import itertools
from collections.abc import Sequence

import keras
import numpy as np
from keras import ops

from keras_actpen import backend
from keras_actpen.device_state import (
    DeviceState,
    add_to_words,
    count_by_unit,
    counted_elements,
    float_of_words,
    power_of_two,
    read_words,
    state_variable,
    total,
)
from keras_actpen.snapshots import StatisticsSnapshot
from keras_actpen.tensors import Tensor

BUCKETS = 30  # TensorBoard's own number.


class Elements:
    """The elements of activations, as several statistics need them.

    Args:
        activations: Float tensor of shape `(batch, ..., units)`.
        mask: Boolean tensor whose axes are the first axes of `activations`,
            `False` where a position does not count, or `None`.

    Attributes:
        seen: How many there are that are not masked.
        counted: Which of them are finite and not masked.
        fired: For each unit how many of those are not 0.
        others: How many of all elements are not among these.
        low: The smallest that is not 0, on all replicas, so that replicas can
            add up their histograms; infinity if there is none.
        high: The largest likewise, or minus infinity.
        start: `low`, or 0 if there is none.
        offsets: What `backend.offsets` makes of those that are not 0, and of
            `start` in the place of all others: one tensor serves all sums.
    """

    def __init__(self, activations: Tensor, mask: Tensor | None = None):
        values, counted, seen = counted_elements(activations, mask)
        self.seen: Tensor = seen
        self.counted: Tensor = counted
        nonzero = ops.logical_and(counted, ops.not_equal(values, 0.0))
        self.fired: Tensor = count_by_unit(nonzero)
        size = ops.cast(ops.size(values), "int")
        self.others: Tensor = size - total(self.fired)
        self.low: Tensor = backend.replica_min(
            ops.min(ops.where(nonzero, values, np.inf), initial=np.inf)
        )
        some = ops.isfinite(self.low)
        self.start: Tensor = ops.where(some, self.low, 0.0)
        values = ops.where(nonzero, values, self.start)
        high = ops.max(values, initial=-np.inf)
        self.high: Tensor = ops.where(
            some, -backend.replica_min(-high), -np.inf
        )
        self.offsets: Tensor = backend.offsets(values, self.start)


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
            (rows, 7), "measures", initializer=_start
        )
        # Lower and upper word of the numbers of finite, zero and non-finite
        # elements, then the buckets of the histogram.
        self.counts: keras.Variable = state_variable(
            (rows, 6 + BUCKETS), "counts", dtype="int"
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

    def update(self, row: int, new: Elements) -> None:
        """Take in one batch, as part of a compiled step.

        Counts are exact while a unit sees fewer than 2^24 positions a batch.

        Args:
            row: Which of the watched tensors it is.
            new: Its elements.
        """
        state = ops.convert_to_tensor(self.measures)[row]
        counts = ops.convert_to_tensor(self.counts)[row]

        count = total(count_by_unit(new.counted))
        zeros = count - total(new.fired)
        words = add_to_words(
            ops.reshape(counts[:6], (2, 3)),
            ops.stack([count, zeros, new.seen - count]),
        )

        zero = ops.where(ops.greater(zeros, 0), 0.0, np.inf)
        low, high = ops.minimum(new.low, zero), ops.maximum(new.high, -zero)
        low, high = ops.minimum(state[3], low), ops.maximum(state[4], high)
        scale = ops.maximum(state[2], power_of_two(ops.maximum(-low, high)))
        n = ops.maximum(ops.cast(count, "float32"), 1.0)
        mean, m2 = backend.mean_and_m2(
            new.offsets, new.start, n, ops.cast(zeros, "float32"), scale
        )
        m2 = ops.maximum(m2, 0.0)

        # Chan's merge with what was seen before.
        rescale = state[2] / scale
        old_mean, old_m2 = state[0] * rescale, state[1] * rescale * rescale
        old_n = float_of_words(counts[0], counts[3])
        share = float_of_words(count, 0) / ops.maximum(old_n + n, 1.0)
        delta = mean - old_mean
        mean = old_mean + delta * share
        m2 = old_m2 + m2 + ops.square(delta) * old_n * share

        # Last, because `state` and `counts` may be views of the variables.
        measures = ops.stack([mean, m2, scale, low, high])
        _write(self.measures, row, ops.concatenate([measures, state[5:]]))
        words = ops.reshape(words, (6,))
        _write(self.counts, row, ops.concatenate([words, counts[6:]]))
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

    def update_histogram(self, row: int, new: Elements) -> None:
        """Replace the histogram by that of one batch.

        It is that of the finite values other than 0, in TensorBoard's own
        definition: 30 equal buckets from the smallest to the largest, or
        everything in the last bucket if all values are equal.

        Args:
            row: Which of the watched tensors it is.
            new: Its elements.
        """
        high = ops.maximum(new.high, new.start)
        buckets = backend.bucket_counts(
            new.offsets, new.start, high, BUCKETS, new.others
        )
        buckets = ops.cast(buckets, self.counts.dtype)
        # All values equal: all are in the first bucket.
        buckets = ops.where(
            ops.equal(new.start, high), ops.flip(buckets), buckets
        )
        state = ops.convert_to_tensor(self.measures)[row, :5]
        edges = ops.stack([new.start, high])
        _write(self.measures, row, ops.concatenate([state, edges]))
        counts = ops.convert_to_tensor(self.counts)[row, :6]
        _write(self.counts, row, ops.concatenate([counts, buckets]))

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
    """Mean, M2, their scale, min, max, and the edges of the histogram."""
    start = [0.0, 0.0, 0.0, np.inf, -np.inf, 0.0, 0.0]
    return ops.convert_to_tensor(np.tile(start, (shape[0], 1)), dtype)


def _write(table: keras.Variable, row: int, values: Tensor) -> None:
    rows = ops.convert_to_tensor(table)
    table.assign(ops.concatenate([rows[:row], values[None], rows[row + 1 :]]))


def _merged(
    replicas: list[tuple[np.ndarray, np.ndarray, np.ndarray | None]],
) -> StatisticsSnapshot:
    """What all replicas have seen of one watched tensor."""
    snapshot = functools.reduce(
        StatisticsSnapshot.merge,
        (_snapshot(*replica) for replica in replicas),
    )
    # The replicas share their edges.
    low, high = replicas[0][0][5:].astype("float64")
    buckets = sum(counts[6:].astype("int64") for _, counts, _ in replicas)
    if not buckets.any():
        return snapshot
    edges = np.linspace(low, high, BUCKETS + 1)
    return dataclasses.replace(
        snapshot,
        histogram=np.stack([edges[:-1], edges[1:], buckets], axis=1),
    )


def _snapshot(
    measures: np.ndarray, counts: np.ndarray, fired: np.ndarray | None
) -> StatisticsSnapshot:
    mean, m2, scale, low, high = measures[:5].astype("float64").tolist()
    count, zeros, nonfinite = read_words(counts[:6].reshape(2, 3)).tolist()
    return StatisticsSnapshot(
        count=count,
        mean=mean * scale,
        m2=m2 * scale**2,
        minimum=low,
        maximum=high,
        zeros=zeros,
        nonfinite=nonfinite,
        fired=None if fired is None else fired.astype("float64"),
    )
