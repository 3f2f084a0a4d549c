"""On-device activation statistics and their read-out."""

import dataclasses
import functools

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


class ActivationStatistics(DeviceState):
    """Statistics of one watched tensor, kept on the device.

    All sums are float32, in units of a power of two that follows the largest
    absolute value seen, so that neither 1e30 squared overflows nor 1e-30
    squared vanishes. Float64 activations are cast to float32.

    Args:
        units: Size of the last axis of the watched tensor, or `None` if it is
            not known; then there is no `dead_fraction`.
        name: Name of the layer.
    """

    def __init__(self, units: int | None, name: str | None = None):
        super().__init__(name=name)
        self.units = units
        self.measures: keras.Variable = state_variable(
            (7,), "measures", initializer=_start
        )
        # Lower and upper word of the numbers of finite, zero and non-finite
        # elements, then the buckets of the histogram.
        self.counts: keras.Variable = state_variable(
            (6 + BUCKETS,), "counts", dtype="int"
        )
        self.fired: keras.Variable | None = None
        if units is not None:
            self.fired = state_variable((units,), "fired")

    def start_of(self, variable: keras.Variable) -> Tensor:
        """What one of the variables holds before anything has been seen."""
        # tf.distribute divides what is assigned to a summed variable by the
        # number of replicas, which 0 and infinity survive.
        if variable is self.measures:
            return _start()
        return super().start_of(variable)

    def update(self, activations: Tensor, mask: Tensor | None = None) -> None:
        """Take in one batch, as part of a compiled step.

        Counts are exact while a unit sees fewer than 2^24 positions a batch.

        Args:
            activations: Float tensor of shape `(batch, ..., units)`.
            mask: Boolean tensor whose axes are the first axes of
                `activations`, `False` where a position does not count, or
                `None`.
        """
        x, counted, seen = counted_elements(activations, mask)
        state = ops.convert_to_tensor(self.measures)
        counts = ops.convert_to_tensor(self.counts)

        finite = ops.where(counted, x, 0.0)
        fired = count_by_unit(ops.not_equal(finite, 0.0))
        new_count = total(count_by_unit(counted))
        new_counts = ops.stack(
            [new_count, new_count - total(fired), seen - new_count]
        )
        words = add_to_words(ops.reshape(counts[:6], (2, 3)), new_counts)

        low, high = _range(x, counted)
        low, high = ops.minimum(state[3], low), ops.maximum(state[4], high)
        scale = ops.maximum(state[2], power_of_two(ops.maximum(-low, high)))

        # Two passes: the second, over deviations from the mean of the first,
        # corrects it and loses no digits where the mean is large.
        n = ops.maximum(ops.cast(new_count, "float32"), 1.0)
        finite = finite / scale
        mean = ops.sum(finite) / n
        deviation = ops.where(counted, finite - mean, 0.0)
        correction, m2 = backend.mean_and_m2(deviation, n)
        mean, m2 = mean + correction, ops.maximum(m2, 0.0)

        # Chan's merge with what was seen before.
        rescale = state[2] / scale
        old_mean, old_m2 = state[0] * rescale, state[1] * rescale * rescale
        old_n = float_of_words(counts[0], counts[3])
        share = float_of_words(new_count, 0) / ops.maximum(old_n + n, 1.0)
        delta = mean - old_mean
        mean = old_mean + delta * share
        m2 = old_m2 + m2 + ops.square(delta) * old_n * share

        # Last, because `state` and `counts` may be views of the variables.
        measures = ops.stack([mean, m2, scale, low, high])
        self.measures.assign(ops.concatenate([measures, state[5:]]))
        self.counts.assign(
            ops.concatenate([ops.reshape(words, (6,)), counts[6:]])
        )
        if self.fired is not None:
            self.fired.assign_add(fired)

    def update_histogram(
        self, activations: Tensor, mask: Tensor | None = None
    ) -> None:
        """Replace the histogram by that of one batch.

        It is that of the finite values other than 0, in TensorBoard's own
        definition: 30 equal buckets from the smallest to the largest, or
        everything in the last bucket if all values are equal.

        Args:
            activations: Float tensor of shape `(batch, ..., units)`.
            mask: Boolean tensor whose axes are the first axes of
                `activations`, `False` where a position does not count, or
                `None`.
        """
        x, counted, _ = counted_elements(activations, mask)
        counted = ops.logical_and(counted, ops.not_equal(x, 0.0))
        low, high = backend.global_range(*_range(x, counted))
        # Nothing to count on any replica.
        empty = ops.greater(low, high)
        low, high = ops.where(empty, 0.0, low), ops.where(empty, 0.0, high)
        raw = backend.bucket_counts(x, counted, low, high, BUCKETS)
        raw = ops.cast(raw, self.counts.dtype)
        # The last bucket is closed.
        last = raw[BUCKETS - 1 : BUCKETS] + raw[BUCKETS : BUCKETS + 1]
        buckets = ops.concatenate([raw[: BUCKETS - 1], last])
        # All values equal: all are in the first bucket.
        buckets = ops.where(ops.equal(low, high), ops.flip(buckets), buckets)
        state = ops.convert_to_tensor(self.measures)
        self.measures.assign(
            ops.concatenate([state[:5], ops.stack([low, high])])
        )
        counts = ops.convert_to_tensor(self.counts)
        self.counts.assign(ops.concatenate([counts[:6], buckets]))

    def read(self) -> StatisticsSnapshot:
        """What this process's replicas have seen since the last `reset`."""
        measures = backend.local_values(self.measures)
        counts = backend.local_values(self.counts)
        fired = [None] * len(counts)
        if self.fired is not None:
            fired = backend.local_values(self.fired)
        snapshot = functools.reduce(
            StatisticsSnapshot.merge, map(_snapshot, measures, counts, fired)
        )
        # The replicas share their edges.
        low, high = measures[0][5:].astype("float64")
        buckets = sum(c[6:].astype("int64") for c in counts)
        if not buckets.any():
            return snapshot
        edges = np.linspace(low, high, BUCKETS + 1)
        return dataclasses.replace(
            snapshot,
            histogram=np.stack([edges[:-1], edges[1:], buckets], axis=1),
        )


def _start(shape: tuple[int, ...] = (7,), dtype: str = "float32") -> Tensor:
    """Mean, M2, their scale, min, max, and the edges of the histogram."""
    start = [0.0, 0.0, 0.0, np.inf, -np.inf, 0.0, 0.0]
    return ops.convert_to_tensor(start, dtype)


def _range(x: Tensor, counted: Tensor) -> tuple[Tensor, Tensor]:
    low = ops.min(ops.where(counted, x, np.inf), initial=np.inf)
    high = ops.max(ops.where(counted, x, -np.inf), initial=-np.inf)
    return low, high


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
