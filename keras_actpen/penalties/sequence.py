"""Penalties of sequences and maps: what changes from place to place."""

from typing import ClassVar, Literal, TypeAlias

import keras
from keras import ops

from keras_actpen import backend
from keras_actpen.backend.tensors import Tensor
from keras_actpen.penalties.base import FixedPenalty, Penalty, Reduction
from keras_actpen.penalties.reductions import (
    EPSILON,
    absolute,
    apply_mask,
    at_least_float32,
    divide,
    expand_mask,
    reduce,
    time_steps,
)
from keras_actpen.penalties.targets import Target
from keras_actpen.penalties.validation import check_choice

__all__ = [
    "ActivationRegularization",
    "NormStabilizer",
    "TemporalActivationRegularization",
    "TotalVariation",
]

Names: TypeAlias = Literal[
    "activation_regularization",
    "ar",
    "norm_stabilizer",
    "temporal_activation_regularization",
    "tar",
    "total_variation",
]


SEQUENCE = Target(rank=3, axes="(batch, time, ..., units)")


class ActivationRegularization(FixedPenalty):
    """Mean square of the activations (AR).

    `coefficient * mean h^2`, over all axes and counted positions. Suits the
    outputs of recurrent layers, before or after dropout; the paper's
    coefficient is 2. Holds h^2 down, so that with
    `TemporalActivationRegularization` beside it differences shrink for that
    reason alone. Right on the global batch under tf.distribute.

    Merity, McCann, Socher 2017, "Revisiting Activation Regularization for
    Language RNNs".

    Example:
    >>> float(ActivationRegularization(2.0)([[1.0, -2.0], [0.0, 3.0]]))
    7.0

    Args:
        coefficient: Finite number >= 0.
        name: Name of the term, by default `"activation_regularization"`.

    Raises:
        TypeError, ValueError: If an argument is wrong.
    """

    _short_name = "ar"

    def __init__(self, coefficient: float = 2.0, *, name: str | None = None):
        super().__init__(coefficient, name=name)

    def value(self, activations: Tensor, mask: Tensor | None = None) -> Tensor:
        """The penalty without its coefficient."""
        activations = apply_mask(at_least_float32(activations), mask)
        total = backend.sum_of_squares(activations)
        return divide(total, activations, mask, "mean")


class TemporalActivationRegularization(FixedPenalty):
    """Mean squared change from one time step to the next (TAR).

    `coefficient * mean (h[:, t + 1] - h[:, t])^2`, over all axes; axis 1 is
    time. A pair counts if both of its steps do; a single step gives 0. Suits
    the output sequences of recurrent layers, before dropout; the paper's
    coefficient is 1. Right on the global batch under tf.distribute.

    Merity, McCann, Socher 2017, "Revisiting Activation Regularization for
    Language RNNs".

    Example:
    >>> float(TemporalActivationRegularization(1.0)([[[1.0], [3.0], [3.0]]]))
    2.0

    Args:
        coefficient: Finite number >= 0.
        name: Name of the term, by default
            `"temporal_activation_regularization"`.

    Raises:
        TypeError, ValueError: If an argument is wrong.
        ValueError: When it is attached, if the output has no axes `(batch,
            time, ..., units)`.
    """

    _target = SEQUENCE
    _short_name = "tar"

    def __init__(self, coefficient: float = 1.0, *, name: str | None = None):
        super().__init__(coefficient, name=name)

    def value(self, activations: Tensor, mask: Tensor | None = None) -> Tensor:
        """Mean squared difference of neighboring steps."""
        activations = apply_mask(at_least_float32(activations), mask)
        before, after, mask = time_steps(activations, mask)
        return reduce(ops.square(after - before), mask, "mean")


class NormStabilizer(FixedPenalty):
    """Mean squared change of the norm from one time step to the next.

    `coefficient * mean (|h[:, t + 1]| - |h[:, t]|)^2`, the mean over samples
    and pairs of steps, `|h| = sqrt(sum h^2 + 1e-8)` over the last axis; axis
    1 is time. A pair counts if both of its steps do; a single step gives 0.
    Lets a recurrent layer generalize to sequences longer than it has seen;
    the paper uses 50 to 500. Right on the global batch under tf.distribute.

    Krueger and Memisevic 2016, "Regularizing RNNs by Stabilizing
    Activations".

    Example:
    >>> round(float(NormStabilizer(1.0)([[[3.0, 4.0], [0.0, 7.0]]])), 4)
    4.0

    Args:
        coefficient: Finite number >= 0.
        name: Name of the term, by default `"norm_stabilizer"`.

    Raises:
        TypeError, ValueError: If an argument is wrong.
        ValueError: When it is attached, if the output has no axes `(batch,
            time, ..., units)`.
    """

    _target = SEQUENCE

    def __init__(self, coefficient: float = 50.0, *, name: str | None = None):
        super().__init__(coefficient, name=name)

    def value(self, activations: Tensor, mask: Tensor | None = None) -> Tensor:
        """Mean squared difference of neighboring norms."""
        activations = apply_mask(at_least_float32(activations), mask)
        norms = ops.sqrt(ops.sum(ops.square(activations), axis=-1) + EPSILON)
        before, after, mask = time_steps(norms, mask)
        return reduce(ops.square(after - before), mask, "mean")


class TotalVariation(Penalty):
    """Absolute differences of neighboring pixels of feature maps.

    `coefficient * sum (|h[y + 1, x] - h[y, x]| + |h[y, x + 1] - h[y, x]|) /
    batch`, over both directions, samples and channels: the sum of
    `tf.image.total_variation` over the batch. Pairs count if both of their
    pixels do. Smooths the outputs of convolutions: usual coefficients are
    1e-6 to 1e-3. Right on the global batch under tf.distribute.

    Rudin, Osher, Fatemi 1992, "Nonlinear Total Variation Based Noise Removal
    Algorithms" (isotropic there; this is the anisotropic form).

    Example:
    >>> penalty = TotalVariation(1.0, data_format="channels_last")
    >>> float(penalty([[[[1.0], [2.0]], [[0.0], [4.0]]]]))
    8.0

    Args:
        coefficient: Finite number >= 0.
        data_format: `"channels_last"` or `"channels_first"`, by default that
            of `keras.config.image_data_format()`.
        reduction: `"batch"` (default), `"mean"` (over all differences) or
            `"sum"`.
        name: Name of the term, by default `"total_variation"`.

    Raises:
        TypeError, ValueError: If an argument is wrong.
        ValueError: When it is attached, if the output is not one of feature
            maps, of rank 4.
    """

    _target = Target(
        rank=4, axes="(batch, height, width, channels)", largest_rank=4
    )
    _reductions: ClassVar[tuple[Reduction, ...]] = ("batch", "mean", "sum")

    def __init__(
        self,
        coefficient: float = 1e-5,
        *,
        data_format: Literal["channels_last", "channels_first"] | None = None,
        reduction: Reduction = "batch",
        name: str | None = None,
    ):
        super().__init__(coefficient, reduction=reduction, name=name)
        self.data_format: str = check_choice(
            "data_format",
            data_format or keras.config.image_data_format(),
            ("channels_last", "channels_first"),
        )

    def value(self, activations: Tensor, mask: Tensor | None = None) -> Tensor:
        """Sum of absolute differences along both axes of the maps."""
        activations = apply_mask(at_least_float32(activations), mask)
        if mask is not None:
            mask = ops.broadcast_to(
                expand_mask(mask, 4), ops.shape(activations)
            )
        if self.data_format == "channels_first":
            activations = ops.moveaxis(activations, 1, -1)
            mask = None if mask is None else ops.moveaxis(mask, 1, -1)
        down = absolute(activations[:, 1:] - activations[:, :-1])
        right = absolute(activations[:, :, 1:] - activations[:, :, :-1])
        down_mask = right_mask = None
        if mask is not None:
            down_mask = ops.logical_and(mask[:, 1:], mask[:, :-1])
            right_mask = ops.logical_and(mask[:, :, 1:], mask[:, :, :-1])
        if self.reduction != "mean":
            return reduce(down, down_mask, self.reduction) + reduce(
                right, right_mask, self.reduction
            )
        if mask is not None:
            mask = _flat_join(down_mask, right_mask)
        return reduce(_flat_join(down, right), mask, "mean")


def _flat_join(a: Tensor, b: Tensor) -> Tensor:
    return ops.concatenate([ops.reshape(a, (-1,)), ops.reshape(b, (-1,))])
