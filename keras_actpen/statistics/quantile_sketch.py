"""Quantiles of the activations, from counts in logarithmic buckets."""

import math
from typing import ClassVar

import keras
import numpy as np
from keras import ops

from keras_actpen import backend
from keras_actpen.backend.tensors import Tensor
from keras_actpen.statistics.batch_elements import without_others
from keras_actpen.statistics.device_state import (
    add_to_words,
    counted_elements,
    read_words,
    state_variable,
)
from keras_actpen.statistics.optional_statistic import OptionalStatistic, Values

SHARES = {
    "quantile_01": 0.01,
    "quantile_05": 0.05,
    "quantile_25": 0.25,
    "quantile_50": 0.50,
    "quantile_75": 0.75,
    "quantile_95": 0.95,
    "quantile_99": 0.99,
}

# The normal numbers of float32 lie between these powers of two.
_LOW, _HIGH = -126.0, 128.0

RELATIVE_ACCURACY = 0.01

# Each bucket is wider than the one below by (1 + a) / (1 - a).
_BUCKETS = math.ceil(
    (_HIGH - _LOW)
    / math.log2((1 + RELATIVE_ACCURACY) / (1 - RELATIVE_ACCURACY))
)


class QuantileSketch(OptionalStatistic):
    """Quantiles, each within 1 % of a value that was seen.

    The value of rank `floor(q * (n - 1))` of all n finite activations, counted
    from 0, as `numpy.quantile(..., method="lower")` gives it. Positive and
    negative values are counted in buckets of equal width in the logarithm,
    exact zeros in one of their own, so that counts of batches and replicas
    add up: DDSketch, of Masson, Rim and Lee 2019, "DDSketch: A Fast and
    Fully-Mergeable Quantile Sketch with Relative-Error Guarantees", with
    buckets for every float32 number. Values closer to 0 than 1.2e-38 count
    as 0.
    """

    definitions: ClassVar[dict[str, str]] = {
        name: (
            f"The value that {share:.0%} of the finite activations do not "
            "exceed, to within 1 % of it."
        )
        for name, share in SHARES.items()
    }

    def __init__(self):
        super().__init__()
        # Negative values, zeros, positive values.
        self.counts: keras.Variable = state_variable(
            (2, 2 * _BUCKETS + 1), "quantiles", dtype="int"
        )

    def update(self, activations: Tensor, mask: Tensor | None = None) -> None:
        """Take in one batch, as part of a compiled step."""
        x, counted, _ = counted_elements(activations, mask)
        size = ops.abs(x)
        normal = ops.logical_and(counted, size >= 2.0**_LOW)
        logarithm = ops.log(ops.where(normal, size, 1.0)) / math.log(2)
        # Those of the extreme numbers round to the limits or beyond them.
        logarithm = ops.clip(logarithm, _LOW, _HIGH)
        negative, positive = (
            self._count(logarithm, ops.logical_and(normal, sign))
            for sign in (x < 0, x > 0)
        )
        zeros = ops.sum(ops.cast(ops.logical_xor(counted, normal), "int"))
        new = ops.concatenate(
            [negative, ops.cast([zeros], negative.dtype), positive]
        )
        words = ops.convert_to_tensor(self.counts)
        self.counts.assign(add_to_words(words, new))

    def _count(self, logarithm: Tensor, counted: Tensor) -> Tensor:
        low, high = ops.cast(_LOW, "float32"), ops.cast(_HIGH, "float32")
        values = ops.where(counted, logarithm, low)
        others = ops.sum(ops.cast(ops.logical_not(counted), "int"))
        offsets = backend.offsets(values, low)
        counts = backend.bucket_counts(offsets, low, high, _BUCKETS)
        return ops.cast(without_others(counts, others), self.counts.dtype)

    def read(self) -> Values:
        """The seven quantiles by name, all NaN if nothing has been seen."""
        counts = sum(map(read_words, backend.local_values(self.counts)))
        negative, zero, positive = np.split(counts, [_BUCKETS, _BUCKETS + 1])
        values = _bucket_values()
        values = np.concatenate([-values[::-1], [0.0], values])
        until = np.cumsum(np.concatenate([negative[::-1], zero, positive]))
        if not until[-1]:
            return dict.fromkeys(SHARES, math.nan)
        return {
            name: float(
                values[
                    np.searchsorted(
                        until, math.floor(share * (until[-1] - 1)), "right"
                    )
                ]
            )
            for name, share in SHARES.items()
        }


def _bucket_values() -> np.ndarray:
    """For each bucket the value as close to its lower as to its upper edge.

    Relative to the edges, that is.
    """
    edges = 2.0 ** np.linspace(_LOW, _HIGH, _BUCKETS + 1)
    lower, upper = edges[:-1], edges[1:]
    return 2 * lower * upper / (lower + upper)
