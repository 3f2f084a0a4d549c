"""Penalties of the distribution: its mean, deviation, norm, kurtosis."""

from typing import Literal, TypeAlias

from keras import ops

from keras_actpen.backend.tensors import Tensor
from keras_actpen.penalties.base import BatchPenalty, FixedPenalty
from keras_actpen.penalties.reductions import (
    EPSILON,
    BatchStatistics,
    at_least_float32,
    expand_mask,
)
from keras_actpen.penalties.validation import check_coefficient, check_number

__all__ = ["FeatureNorm", "Kurtosis", "MomentMatching"]

Names: TypeAlias = Literal["feature_norm", "kurtosis", "moment_matching"]


class MomentMatching(BatchPenalty):
    """Distance of each unit's mean from 0 and deviation from 1.

    `coefficient * mean_c (mu_c^2 + (sigma_c - 1)^2)`, with mean `mu_c` and
    deviation `sigma_c = sqrt(var_c + 1e-8)` over all counted samples and
    positions (variance divided by their number). Batch normalization
    enforces both; the penalty asks for them and costs nothing at inference.
    Suits the pre-activations of dense and convolutional layers. Usual
    coefficient 1e-3. A batch statistic: right on the global batch under
    tf.distribute; on torch each process has its own.

    After Ioffe and Szegedy 2015, "Batch Normalization: Accelerating Deep
    Network Training by Reducing Internal Covariate Shift" (of the moments;
    the penalty is common practice).

    Example:
    >>> round(float(MomentMatching(1.0)([[3.0, 1.0], [1.0, -1.0]])), 4)
    2.0

    Args:
        coefficient: Finite number >= 0.
        name: Name of the term, by default `"moment_matching"`.

    Raises:
        TypeError, ValueError: If an argument is wrong.
    """

    def __init__(self, coefficient: float = 1e-3, *, name: str | None = None):
        super().__init__(coefficient, name=name)

    def statistic(self, batch: BatchStatistics) -> Tensor:
        """Mean over units of their squared distances."""
        mean, centered = batch.mean_and_centered()
        deviation = ops.sqrt(batch.variance(centered) + EPSILON)
        distance = ops.square(mean) + ops.square(deviation - 1.0)
        return batch.if_any(ops.mean(distance))


class FeatureNorm(BatchPenalty):
    """Squared distance of the mean feature norm from a radius.

    `coefficient * (mean_p |h_p| - radius)^2`, `|h_p| = sqrt(sum_c h_pc^2 +
    1e-8)` over the last axis, the mean over counted samples and positions.
    Larger norms transfer better between domains; suits the features before a
    classifier. The paper's coefficient is 0.05, its radius 25. A batch
    statistic: right on the global batch under tf.distribute; on torch each
    process has its own.

    Xu, Li, Yang, Lin 2019, "Larger Norm More Transferable: An Adaptive
    Feature Norm Approach for Unsupervised Domain Adaptation" (the hard
    variant).

    Example:
    >>> round(float(FeatureNorm(1.0, radius=6.0)([[3.0, 4.0]])), 4)
    1.0

    Args:
        coefficient: Finite number >= 0.
        radius: Finite number >= 0, the target of the mean norm.
        name: Name of the term, by default `"feature_norm"`.

    Raises:
        TypeError, ValueError: If an argument is wrong.
    """

    def __init__(
        self,
        coefficient: float = 0.05,
        *,
        radius: float = 25.0,
        name: str | None = None,
    ):
        super().__init__(coefficient, name=name)
        self.radius: float = check_coefficient("radius", radius)

    def statistic(self, batch: BatchStatistics) -> Tensor:
        """Squared distance of the mean norm from the radius."""
        squares = ops.sum(ops.square(batch.values), axis=-1, keepdims=True)
        mean = batch.mean(ops.sqrt(squares + EPSILON))
        return batch.if_any(ops.sum(ops.square(mean - self.radius)))


class Kurtosis(FixedPenalty):
    """Squared distance of the kurtosis from that of a uniform distribution.

    `coefficient * (K - target)^2`, `K = mean z^4`, `z = (h - mean h) /
    sqrt(var h + 1e-8)`, all over every axis and all counted positions: one
    distribution per layer, because one quantization step serves all units.
    1.8 is the kurtosis of the uniform distribution, 3 that of the normal.
    Removes outlier units before int8 or int4 quantization; suits the outputs
    of linear layers. Start at 1e-3 or below: a layer with outliers has a
    kurtosis of hundreds. A batch statistic: right on the global batch under
    tf.distribute; on torch each process has its own.

    Nrusimha, Mishra, Wang, Alistarh, Panda, Kim 2024, "Mitigating the Impact
    of Outlier Channels for Language Model Quantization with Activation
    Regularization"; Shkolnik et al. 2020, "Robust Quantization: One Model to
    Rule Them All" (of weights, and of the target 1.8).

    Example:
    >>> round(float(Kurtosis(1.0)([[1.0, -1.0], [1.0, -1.0]])), 4)
    0.64

    Args:
        coefficient: Finite number >= 0.
        target: Finite number >= 1, the target kurtosis.
        name: Name of the term, by default `"kurtosis"`.

    Raises:
        TypeError, ValueError: If an argument is wrong.
    """

    def __init__(
        self,
        coefficient: float = 1e-3,
        *,
        target: float = 1.8,
        name: str | None = None,
    ):
        super().__init__(coefficient, name=name)
        self.target: float = check_number(
            "target",
            target,
            "a finite number >= 1, for example target=1.8",
            lambda value: value >= 1,
        )

    def value(self, activations: Tensor, mask: Tensor | None = None) -> Tensor:
        """Squared distance of the kurtosis from its target."""
        # Every element is a position of its own, with a single unit.
        if mask is not None:
            mask = ops.broadcast_to(
                expand_mask(mask, len(activations.shape)),
                ops.shape(activations),
            )
        activations = ops.expand_dims(at_least_float32(activations), -1)
        batch = BatchStatistics(activations, mask)
        _, centered = batch.mean_and_centered()
        standard = centered / ops.sqrt(batch.variance(centered) + EPSILON)
        kurtosis = batch.mean(ops.square(ops.square(standard)))
        return batch.if_any(ops.sum(ops.square(kurtosis - self.target)))
