"""Batch statistics: units that differ from one another and stay alive."""

from typing import Literal, TypeAlias

from keras import ops

from keras_actpen.backend.tensors import Tensor
from keras_actpen.penalties.base import BatchPenalty
from keras_actpen.penalties.reductions import BatchStatistics, off_diagonal
from keras_actpen.penalties.targets import Target
from keras_actpen.penalties.validation import check_coefficient

__all__ = ["Covariance", "DeCov", "Decorrelation", "VarianceFloor"]

Names: TypeAlias = Literal[
    "covariance", "de_cov", "decov", "decorrelation", "variance_floor"
]


# Inside square roots of variances: VICReg's own, and batch normalization's,
# with which Barlow Twins standardizes.
VARIANCE_EPSILON = 1e-4
CORRELATION_EPSILON = 1e-5


# Of pairs of units.
PAIRS = Target(rank=2, units=2)


class DeCov(BatchPenalty):
    """Half the sum of squared covariances between different units.

    `coefficient * 1/2 (|C|_F^2 - |diag C|^2)`, where `C` is the covariance of
    the units (last axis) over all counted samples and positions, divided by
    their number N. Reduces redundancy and overfitting of dense layers; cost
    and memory grow with the square of the units. Usual coefficient 0.1. A
    batch statistic: right on the global batch under tf.distribute (all-reduce
    of one units-by-units matrix); on torch each process has its own.

    Cogswell, Ahmed, Girshick, Zitnick, Batra 2016, "Reducing Overfitting in
    Deep Networks by Decorrelating Representations".

    Example:
    >>> float(DeCov(1.0)([[1.0, 2.0], [-1.0, -2.0]]))
    4.0

    Args:
        coefficient: Finite number >= 0.
        name: Name of the term, by default `"de_cov"`.

    Raises:
        TypeError, ValueError: If an argument is wrong.
        ValueError: When it is attached, if the layer has a single unit.
    """

    _target = PAIRS
    _short_name = "decov"

    def __init__(self, coefficient: float = 0.1, *, name: str | None = None):
        super().__init__(coefficient, name=name)

    def statistic(self, batch: BatchStatistics) -> Tensor:
        """Half the squared off-diagonal covariances."""
        _, centered = batch.mean_and_centered()
        covariance = off_diagonal(batch.covariance(centered))
        return 0.5 * ops.sum(ops.square(covariance))


class VarianceFloor(BatchPenalty):
    """Hinge that keeps every unit's standard deviation above a floor.

    `coefficient * mean_c relu(floor - sqrt(var_c + 1e-4))`, the variance over
    all counted samples and positions, divided by N - 1 (0 for one position).
    The variance term of VICReg: keeps units from collapsing to constants;
    suits embeddings with a linear activation. The paper's coefficient is 25.
    A batch statistic: right on the global batch under tf.distribute; on torch
    each process has its own.

    Bardes, Ponce, LeCun 2022, "VICReg: Variance-Invariance-Covariance
    Regularization for Self-Supervised Learning".

    Example:
    >>> round(float(VarianceFloor(25.0, floor=1.0)(ops.ones((4, 3)))), 3)
    24.75

    Args:
        coefficient: Finite number >= 0.
        floor: Finite number >= 0, the least standard deviation.
        name: Name of the term, by default `"variance_floor"`.

    Raises:
        TypeError, ValueError: If an argument is wrong.
    """

    def __init__(
        self,
        coefficient: float = 25.0,
        *,
        floor: float = 1.0,
        name: str | None = None,
    ):
        super().__init__(coefficient, name=name)
        self.floor: float = check_coefficient("floor", floor)

    def statistic(self, batch: BatchStatistics) -> Tensor:
        """Mean over units of what is missing to the floor."""
        _, centered = batch.mean_and_centered()
        variance = batch.variance(centered, unbiased=True)
        deviation = ops.sqrt(variance + VARIANCE_EPSILON)
        return batch.if_any(ops.mean(ops.relu(self.floor - deviation)))


class Covariance(BatchPenalty):
    """Squared covariances between different units, per unit.

    `coefficient * sum_{i != j} C_ij^2 / units`, `C` the covariance over all
    counted samples and positions, divided by N - 1 (0 for one position). The
    covariance term of VICReg, to go with `VarianceFloor`; suits embeddings
    with a linear activation. The paper's coefficient is 1. A batch statistic:
    right on the global batch under tf.distribute; on torch each process has
    its own.

    Bardes, Ponce, LeCun 2022, "VICReg: Variance-Invariance-Covariance
    Regularization for Self-Supervised Learning".

    Example:
    >>> float(Covariance(1.0)([[1.0, 2.0], [-1.0, -2.0]]))
    16.0

    Args:
        coefficient: Finite number >= 0.
        name: Name of the term, by default `"covariance"`.

    Raises:
        TypeError, ValueError: If an argument is wrong.
        ValueError: When it is attached, if the layer has a single unit.
    """

    _target = PAIRS

    def __init__(self, coefficient: float = 1.0, *, name: str | None = None):
        super().__init__(coefficient, name=name)

    def statistic(self, batch: BatchStatistics) -> Tensor:
        """Squared off-diagonal covariances divided by the units."""
        _, centered = batch.mean_and_centered()
        covariance = batch.covariance(centered, unbiased=True)
        squares = ops.sum(ops.square(off_diagonal(covariance)), axis=-1)
        return ops.mean(squares)


class Decorrelation(BatchPenalty):
    """Squared correlations between different units.

    `coefficient * sum_{i != j} R_ij^2`, where `R_ij = C_ij / (sqrt(C_ii +
    1e-5) sqrt(C_jj + 1e-5))` and `C` is the covariance over all counted
    samples and positions, divided by their number. `DeCov` without its
    dependence on scale: the redundancy term of Barlow Twins on one view.
    Suits dense layers and embeddings; the paper's coefficient is 5e-3. A
    batch statistic: right on the global batch under tf.distribute; on torch
    each process has its own.

    Zbontar, Jing, Misra, LeCun, Deny 2021, "Barlow Twins: Self-Supervised
    Learning via Redundancy Reduction".

    Example:
    >>> round(float(Decorrelation(1.0)([[1.0, 2.0], [-1.0, -2.0]])), 3)
    2.0

    Args:
        coefficient: Finite number >= 0.
        name: Name of the term, by default `"decorrelation"`.

    Raises:
        TypeError, ValueError: If an argument is wrong.
        ValueError: When it is attached, if the layer has a single unit.
    """

    _target = PAIRS

    def __init__(self, coefficient: float = 5e-3, *, name: str | None = None):
        super().__init__(coefficient, name=name)

    def statistic(self, batch: BatchStatistics) -> Tensor:
        """Sum of squared off-diagonal correlations."""
        _, centered = batch.mean_and_centered()
        variance = batch.variance(centered)
        standard = centered / ops.sqrt(variance + CORRELATION_EPSILON)
        correlation = off_diagonal(batch.covariance(standard))
        return ops.sum(ops.square(correlation))
