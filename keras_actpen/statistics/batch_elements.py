"""What the statistics on the device need of the elements of one batch."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from keras_actpen import backend
from keras_actpen.backend import operations as ops
from keras_actpen.backend.tensors import Tensor
from keras_actpen.statistics.device_state import (
    count_by_unit,
    counted_elements,
    total,
)
from keras_actpen.statistics.histograms import BUCKETS


class Elements(NamedTuple):
    """What the statistics need of the elements of activations.

    Attributes:
        nonfinite: How many of those that are not masked are not finite.
        count: How many of them are.
        fired: For each unit how many of those are not 0.
        nonzero: How many those are.
        low: The smallest that is not 0, on all replicas, so that replicas can
            add up their histograms; infinity if there is none.
        high: The largest likewise, or minus infinity.
        start: `low`, or 0 if there is none.
        sums: What `backend.mean_and_m2` needs of those that are not 0.
        buckets: Counts of those in buckets from `start` to `high`.
    """

    nonfinite: Tensor
    count: Tensor
    fired: Tensor
    nonzero: Tensor
    low: Tensor
    high: Tensor
    start: Tensor
    sums: tuple[Tensor, Tensor]
    buckets: Tensor


def elements_of(activations: Tensor, mask: Tensor | None = None) -> Elements:
    """Look at the elements of one batch, as part of a compiled step.

    Args:
        activations: Float tensor of shape `(batch, ..., units)`.
        mask: Boolean tensor whose axes are the first axes of `activations`,
            `False` where a position does not count, or `None`.
    """
    tensors = activations, mask
    nonfinite, count, fired, smallest = backend.by_chunks(
        _extent, ("sum", "sum", "sum", "min"), tensors
    )
    low = backend.replica_min(smallest)
    has_any = ops.isfinite(low)
    start = ops.where(has_any, low, 0.0)

    def largest(*tensors: Any) -> tuple[Tensor]:
        return (ops.max(_values(*tensors, start), initial=-np.inf),)

    (high,) = backend.by_chunks(largest, ("max",), tensors)
    high = -backend.replica_min(-high)
    high = ops.where(has_any, high, -np.inf)
    edges = start, ops.maximum(high, start)

    def sums_and_buckets(*tensors: Any) -> tuple[Tensor, ...]:
        offsets = backend.offsets(_values(*tensors, start), start)
        buckets = backend.bucket_counts(offsets, *edges, BUCKETS)
        return *backend.double_sums(offsets), buckets

    *sums, buckets = backend.by_chunks(
        sums_and_buckets, ("sum", "sum", "sum"), tensors
    )
    nonzero = total(fired)
    others = ops.cast(ops.size(activations), "int") - nonzero
    buckets = without_others(buckets, others)
    return Elements(
        nonfinite, count, fired, nonzero, low, high, start, tuple(sums), buckets
    )


def _extent(x: Tensor, mask: Tensor | None) -> tuple[Tensor, ...]:
    """The first four of `Elements` but for `nonzero`, and the smallest."""
    x, counted, seen = counted_elements(x, mask)
    some = ops.logical_and(counted, ops.not_equal(x, 0.0))
    count = total(count_by_unit(counted))
    smallest = ops.min(ops.where(some, x, np.inf), initial=np.inf)
    return seen - count, count, count_by_unit(some), smallest


def _values(x: Tensor, mask: Tensor | None, start: Tensor) -> Tensor:
    """The finite elements that are not 0, `start` in the place of others."""
    x, counted, _ = counted_elements(x, mask)
    return ops.where(ops.logical_and(counted, ops.not_equal(x, 0.0)), x, start)


def without_others(buckets: Tensor, others: Tensor) -> Tensor:
    """Counts in buckets without those of values that stand for others.

    Args:
        buckets: Counts; those that stand for others are in the first bucket.
        others: Their number.
    """
    first = buckets[:1] - ops.cast(others, buckets.dtype)
    return ops.concatenate([first, buckets[1:]])


def column(values: Sequence[Tensor]) -> Tensor:
    """Scalars as a column."""
    return ops.expand_dims(ops.stack(values), -1)


def histograms(news: Sequence[Elements]) -> tuple[list[Tensor], Tensor]:
    """Columns of the outer edges, and rows of the counts, of histograms.

    They are those of the finite values other than 0, in TensorBoard's own
    definition: 30 equal buckets from the smallest to the largest, or
    everything in the last bucket if all values are equal.
    """
    start = column([new.start for new in news])
    high = ops.maximum(column([new.high for new in news]), start)
    buckets = ops.cast(ops.stack([new.buckets for new in news]), "int")
    # All values equal: all are in the first bucket.
    buckets = ops.where(
        ops.equal(start, high), ops.flip(buckets, axis=1), buckets
    )
    return [start, high], buckets
