"""On-device activation statistics and their read-out."""

import dataclasses
import functools

import keras
import numpy as np
from keras import ops

from keras_actpen import backend
from keras_actpen.snapshots import StatisticsSnapshot

BUCKETS = 30  # TensorBoard's own number.

# A count is kept in two words, the lower one below this number: a float32
# count stops at 2^24, an int32 one at 2^31.
_WORD = 2**20

_POWERS_OF_TWO = 2.0 ** np.arange(-126, 128).astype("float32")


class ActivationStatistics(keras.layers.Layer):
    """Statistics of one watched tensor, kept on the device.

    A layer only so that a layer that tracks it hands its variables through
    the compiled step; it is never called. Its state shows in `variables`
    alone: not in `weights`, `count_params()` or weight files.

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
        self.measures = _state("float32", 7, "measures", _start)
        # Lower and upper word of the numbers of finite, zero and non-finite
        # elements, then the buckets of the histogram. "int" is int64 on
        # TensorFlow, whose XLA cannot reach an int32 variable from a GPU.
        self.counts = _state("int", 6 + BUCKETS, "counts")
        self.fired = None
        if units is not None:
            self.fired = _state("float32", units, "fired")
        self.built = True

    @property
    def weights(self) -> list[keras.Variable]:
        """Empty: the state is not part of the model."""
        return []

    def save_own_variables(self, store: dict) -> None:
        """Save nothing."""

    def load_own_variables(self, store: dict) -> None:
        """Load nothing."""

    def reset(self) -> None:
        """Forget everything seen, on all replicas."""
        # tf.distribute divides what is assigned to a summed variable by the
        # number of replicas, which 0 and infinity survive.
        self.measures.assign(_start())
        # Written without a look at the old value, which on JAX is gone
        # between two steps.
        for variable in self.variables[1:]:
            variable.assign(ops.zeros(variable.shape, variable.dtype))

    def update(self, activations, mask=None) -> None:
        """Take in one batch, as part of a compiled step.

        Counts are exact while a unit sees fewer than 2^24 positions a batch.

        Args:
            activations: Float tensor of shape `(batch, ..., units)`.
            mask: Boolean tensor whose axes are the first axes of
                `activations`, `False` where a position does not count, or
                `None`.
        """
        x, counted, seen = _select(activations, mask)
        state = ops.convert_to_tensor(self.measures)
        counts = ops.convert_to_tensor(self.counts)

        finite = ops.where(counted, x, 0.0)
        fired = _count(ops.not_equal(finite, 0.0))
        new_count = _total(_count(counted))
        new_counts = ops.stack(
            [new_count, new_count - _total(fired), seen - new_count]
        )
        lower = counts[:3] + new_counts
        upper = counts[3:6] + lower // _WORD

        low, high = _range(x, counted)
        low, high = ops.minimum(state[3], low), ops.maximum(state[4], high)
        scale = ops.maximum(state[2], _power_of_two(ops.maximum(-low, high)))

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
        old_n = _float_count(counts[0], counts[3])
        share = _float_count(new_count, 0) / ops.maximum(old_n + n, 1.0)
        delta = mean - old_mean
        mean = old_mean + delta * share
        m2 = old_m2 + m2 + ops.square(delta) * old_n * share

        # Last, because `state` and `counts` may be views of the variables.
        measures = ops.stack([mean, m2, scale, low, high])
        self.measures.assign(ops.concatenate([measures, state[5:]]))
        self.counts.assign(ops.concatenate([lower % _WORD, upper, counts[6:]]))
        if self.fired is not None:
            self.fired.assign_add(fired)

    def update_histogram(self, activations, mask=None) -> None:
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
        x, counted, _ = _select(activations, mask)
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


def _start(shape=(7,), dtype="float32"):
    """Mean, M2, their scale, min, max, and the edges of the histogram."""
    start = [0.0, 0.0, 0.0, np.inf, -np.inf, 0.0, 0.0]
    return ops.convert_to_tensor(start, dtype)


def _state(
    dtype: str, size: int, name: str, initializer="zeros"
) -> keras.Variable:
    # Written by each replica alone and merged when read. A variable that is
    # autocast would be read in half precision inside a mixed precision layer.
    return keras.Variable(
        initializer,
        shape=(size,),
        dtype=dtype,
        trainable=False,
        autocast=False,
        synchronization="on_read",
        aggregation="sum",
        name=name,
    )


def _select(activations, mask):
    """Float32 values, which of them count, and how many are not masked."""
    x = ops.cast(ops.stop_gradient(activations), "float32")
    if len(x.shape) == 1:
        x = ops.expand_dims(x, -1)
    counted = ops.isfinite(x)
    size = ops.cast(ops.size(x), "int")
    if mask is None:
        return x, counted, size
    mask = ops.cast(mask, "bool")
    while len(mask.shape) < len(x.shape):
        mask = ops.expand_dims(mask, -1)
    mask_size = ops.maximum(ops.cast(ops.size(mask), "int"), 1)
    seen = _total(_count(mask)) * (size // mask_size)
    return x, ops.logical_and(counted, mask), seen


def _count(condition):
    """How often `condition` holds along all axes but the last, in float32.

    Not `ops.count_nonzero`: 8 ms for 2 on TensorFlow (2.8 million elements),
    and a deprecation warning of torch (Keras 3.15).
    """
    axes = tuple(range(len(condition.shape) - 1))
    return ops.sum(ops.cast(condition, "float32"), axis=axes)


def _total(counts):
    return ops.sum(ops.cast(counts, "int"))


def _float_count(lower, upper):
    return ops.cast(lower, "float32") + float(_WORD) * ops.cast(
        upper, "float32"
    )


def _range(x, counted):
    low = ops.min(ops.where(counted, x, np.inf), initial=np.inf)
    high = ops.max(ops.where(counted, x, -np.inf), initial=-np.inf)
    return low, high


def _power_of_two(x):
    """The largest power of two up to `x`, the smallest normal one at least."""
    powers = ops.convert_to_tensor(_POWERS_OF_TWO)
    return ops.max(ops.where(powers <= x, powers, powers[0]))


def _snapshot(
    measures: np.ndarray, counts: np.ndarray, fired: np.ndarray | None
) -> StatisticsSnapshot:
    mean, m2, scale, low, high = measures[:5].astype("float64").tolist()
    lower, upper = counts[:6].astype("int64").reshape(2, 3)
    count, zeros, nonfinite = (lower + _WORD * upper).tolist()
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
