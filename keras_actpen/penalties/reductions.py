"""Masks, sums and batch statistics that every penalty shares.

All of them leave masked positions out of numerators and divisors, and give
the numbers of the global batch when tf.distribute splits it over replicas.
"""

import keras
from keras import ops

from keras_actpen import backend
from keras_actpen.backend.tensors import Tensor
from keras_actpen.penalties.validation import invalid_value

# Inside square roots, whose slope at 0 is infinite.
EPSILON = 1e-8


def at_least_float32(x: Tensor) -> Tensor:
    """Cast half-precision activations to float32, leave wider ones alone."""
    if not ops.is_tensor(x):
        x = ops.convert_to_tensor(x)
    if keras.backend.standardize_dtype(x.dtype) in ("float32", "float64"):
        return x
    return ops.cast(x, "float32")


def absolute(x: Tensor) -> Tensor:
    """|x| with gradient sign(x), 0 at 0 on every backend.

    `ops.abs` has gradient 1 at 0 on JAX and 0 elsewhere.
    """
    return x * ops.stop_gradient(ops.sign(x))


def expand_mask(mask: Tensor, rank: int) -> Tensor:
    """Append axes of size 1 to a boolean `mask` until it has rank `rank`."""
    while len(mask.shape) < rank:
        mask = ops.expand_dims(mask, -1)
    return ops.cast(mask, "bool")


def apply_mask(activations: Tensor, mask: Tensor | None) -> Tensor:
    """Set masked positions to 0, whatever they hold (NaN and inf too)."""
    if mask is None:
        return activations
    mask = expand_mask(mask, len(activations.shape))
    return ops.where(mask, activations, ops.zeros_like(activations))


def safe_divisor(divisor: Tensor) -> Tensor:
    """`divisor`, or 1 where it is 0 and the numerator is known to be 0.

    `ops.divide_no_nan` would do for the value, but its gradient is NaN on
    torch.
    """
    return ops.where(divisor == 0, ops.ones_like(divisor), divisor)


def check_mask(rank: int, mask: Tensor | None) -> None:
    """Refuse a mask of more axes than the values that it is to count."""
    if mask is not None and len(mask.shape) > rank:
        raise invalid_value(
            "mask",
            f"a mask of positions, of rank {rank} at most: this penalty has "
            "one value per position, from which a mask cannot remove single "
            "units",
            f"a mask of shape {tuple(mask.shape)}",
        )


def counted(values: Tensor, mask: Tensor | None, rank: int) -> Tensor:
    """Number of entries of the first `rank` axes that `mask` counts.

    A float of the dtype of `values`.
    """
    shape = ops.shape(values)[:rank]
    if mask is None:
        number = 1.0
        for size in shape:  # as floats: int32 ends at 2^31
            number = number * ops.cast(size, values.dtype)
        return ops.cast(number, values.dtype)
    check_mask(rank, mask)
    mask = ops.broadcast_to(expand_mask(mask, rank), shape)
    return ops.sum(ops.cast(mask, values.dtype))


def reduce(
    values: Tensor, mask: Tensor | None, reduction: str, positions: int = 0
) -> Tensor:
    """Add up the values that `mask` counts and divide as in `divide`."""
    check_mask(len(values.shape), mask)
    total = ops.sum(apply_mask(values, mask))
    return divide(total, values, mask, reduction, positions)


def divide(
    total: Tensor,
    values: Tensor,
    mask: Tensor | None,
    reduction: str,
    positions: int = 0,
) -> Tensor:
    """Divide the sum of values by what `reduction` asks for.

    `"batch"`: the batch size; `"mean"`: the number of values that `mask`
    counts; `"position"`: that of positions, the first `positions` axes of
    `values`; `"sum"`: nothing.
    """
    if reduction == "sum":
        # Keras divides added losses by the number of replicas.
        return total * backend.replica_count()
    if reduction == "batch":
        # Replicas have equal batches: Keras itself fails on others.
        size = values.shape[0]
        if size is not None:  # known: it takes no operations
            return total / max(size, 1)
        size = ops.cast(ops.shape(values)[0], total.dtype)
        return total / ops.maximum(size, 1.0)
    rank = positions if reduction == "position" else len(values.shape)
    number = counted(values, mask, rank)
    if mask is not None:
        number = backend.replica_mean(number)
    return total / safe_divisor(number)


class BatchStatistics:
    """Statistics of activations over all counted positions of a batch.

    A position is a place in the batch, in space or in time; the last axis
    holds its units. Sums go through a differentiable all-reduce, so that under
    tf.distribute values and gradients are those of the global batch. (JAX
    computes on the global batch anyway. torch has no such means: there the
    statistics are those of the process's own batch.)

    Args:
        activations: Float tensor of shape `(batch, ..., units)`.
        mask: Boolean tensor of shape `(batch, ...)` or `None`.
    """

    def __init__(self, activations: Tensor, mask: Tensor | None = None):
        activations = apply_mask(activations, mask)
        units = ops.shape(activations)[-1]
        self.values: Tensor = ops.reshape(activations, (-1, units))
        self.weights: Tensor | None = None
        if mask is None:
            number = ops.cast(ops.shape(self.values)[0], self.values.dtype)
        else:
            position = activations[..., 0]
            check_mask(len(position.shape), mask)
            mask = expand_mask(mask, len(position.shape))
            mask = ops.broadcast_to(mask, ops.shape(position))
            self.weights = ops.cast(
                ops.reshape(mask, (-1, 1)), self.values.dtype
            )
            number = ops.sum(self.weights)
        # A mean over replicas, as every sum below: the ratios are the same.
        self._number = backend.replica_mean(number)
        self.number: Tensor = self._number * backend.replica_count()

    def mean(self, values: Tensor) -> Tensor:
        """Mean over positions of `(positions, k)` values, one for each k."""
        if self.weights is not None:
            values = values * self.weights
        total = backend.replica_mean(ops.sum(values, axis=0))
        return total / safe_divisor(self._number)

    def mean_and_centered(self) -> tuple[Tensor, Tensor]:
        """Mean of each unit, and the values less that mean.

        Centered twice: the first mean is rounded, which for units far from 0
        would leave more than the variance of a nearly constant unit.
        """
        first = ops.stop_gradient(self.mean(self.values))
        centered = self.values - first
        rest = self.mean(centered)
        centered = centered - rest
        if self.weights is not None:
            centered = centered * self.weights
        return first + rest, centered

    def variance(self, centered: Tensor, *, unbiased: bool = False) -> Tensor:
        """Variance of each unit; 0 for a single position."""
        return self.mean(ops.square(centered)) * self._correction(unbiased)

    def covariance(self, centered: Tensor, *, unbiased: bool = False) -> Tensor:
        """Covariance of all pairs of units, shape `(units, units)`."""
        # Not ops.matmul, which computes float64 in float32 on torch.
        products = ops.transpose(centered) @ centered
        products = backend.replica_mean(products) / safe_divisor(self._number)
        return products * self._correction(unbiased)

    def _correction(self, unbiased: bool) -> Tensor:
        if not unbiased:
            return 1.0
        return self.number / ops.maximum(self.number - 1.0, 1.0)

    def if_any(self, value: Tensor) -> Tensor:
        """`value`, or 0 if no position counts."""
        return ops.where(self._number > 0, value, ops.zeros_like(value))


def off_diagonal(matrix: Tensor) -> Tensor:
    """`matrix` with zeros on its diagonal."""
    units = ops.shape(matrix)[-1]
    dtype = keras.backend.standardize_dtype(matrix.dtype)
    return matrix * (1.0 - ops.eye(units, dtype=dtype))


def time_steps(
    activations: Tensor, mask: Tensor | None
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Activations at t and at t + 1, and the mask of such pairs."""
    if mask is not None and len(mask.shape) > 1:
        mask = ops.logical_and(mask[:, :-1], mask[:, 1:])
    return activations[:, :-1], activations[:, 1:], mask
