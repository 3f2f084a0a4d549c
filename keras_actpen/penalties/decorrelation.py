"""Batch statistics: units that differ from one another and stay alive."""

from typing import Any

from keras import ops

from keras_actpen.backend.tensors import Activation, Tensor
from keras_actpen.internals.registration import serializable
from keras_actpen.penalties.base import (
    FixedPenalty,
    at_least_float32,
    check_coefficient,
)
from keras_actpen.penalties.reductions import BatchStatistics, off_diagonal
from keras_actpen.penalties.targets import check_units

# Inside square roots of variances: VICReg's own, and batch normalisation's,
# with which Barlow Twins standardises.
VARIANCE_EPSILON = 1e-4
CORRELATION_EPSILON = 1e-5


class _PairPenalty(FixedPenalty):
    """A batch statistic of pairs of units."""

    least_rank = 2

    def check_target(
        self, output: Tensor, activation: Activation | None, on: str
    ) -> None:
        """Refuse single units, which have no pairs."""
        super().check_target(output, activation, on)
        check_units(self, output, 2)


@serializable
class DeCov(_PairPenalty):
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
    >>> import numpy as np
    >>> penalty = DeCov(1.0)
    >>> h = np.array([[1.0, 2.0], [-1.0, -2.0]], "float32")
    >>> float(penalty(h))
    4.0

    Args:
        coefficient: Finite number >= 0.
        name: Name of the term, by default `"de_cov"`.
    """

    def __init__(self, coefficient: float = 0.1, *, name: str | None = None):
        super().__init__(coefficient, name=name)

    def value(self, activations: Tensor, mask: Tensor | None = None) -> Tensor:
        """Half the squared off-diagonal covariances."""
        batch = BatchStatistics(at_least_float32(activations), mask)
        _, centred = batch.mean_and_centred()
        covariance = off_diagonal(batch.covariance(centred))
        return 0.5 * ops.sum(ops.square(covariance))


@serializable
class VarianceFloor(FixedPenalty):
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
    >>> import numpy as np
    >>> penalty = VarianceFloor(25.0, floor=1.0)
    >>> round(float(penalty(np.ones((4, 3), "float32"))), 3)
    24.75

    Args:
        coefficient: Finite number >= 0.
        floor: Finite number >= 0, the least standard deviation.
        name: Name of the term, by default `"variance_floor"`.
    """

    least_rank = 2

    def __init__(
        self,
        coefficient: float = 25.0,
        *,
        floor: float = 1.0,
        name: str | None = None,
    ):
        super().__init__(coefficient, name=name)
        self.floor: float = check_coefficient("floor", floor)

    def value(self, activations: Tensor, mask: Tensor | None = None) -> Tensor:
        """Mean over units of what is missing to the floor."""
        batch = BatchStatistics(at_least_float32(activations), mask)
        _, centred = batch.mean_and_centred()
        variance = batch.variance(centred, unbiased=True)
        deviation = ops.sqrt(variance + VARIANCE_EPSILON)
        return batch.if_any(ops.mean(ops.relu(self.floor - deviation)))

    def get_config(self) -> dict[str, Any]:
        """Return the arguments that re-create this penalty."""
        return {"floor": self.floor, **super().get_config()}


@serializable
class Covariance(_PairPenalty):
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
    >>> import numpy as np
    >>> penalty = Covariance(1.0)
    >>> h = np.array([[1.0, 2.0], [-1.0, -2.0]], "float32")
    >>> float(penalty(h))
    16.0

    Args:
        coefficient: Finite number >= 0.
        name: Name of the term, by default `"covariance"`.
    """

    def __init__(self, coefficient: float = 1.0, *, name: str | None = None):
        super().__init__(coefficient, name=name)

    def value(self, activations: Tensor, mask: Tensor | None = None) -> Tensor:
        """Squared off-diagonal covariances divided by the units."""
        batch = BatchStatistics(at_least_float32(activations), mask)
        _, centred = batch.mean_and_centred()
        covariance = batch.covariance(centred, unbiased=True)
        squares = ops.sum(ops.square(off_diagonal(covariance)), axis=-1)
        return ops.mean(squares)


@serializable
class Decorrelation(_PairPenalty):
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
    >>> import numpy as np
    >>> penalty = Decorrelation(1.0)
    >>> h = np.array([[1.0, 2.0], [-1.0, -2.0]], "float32")
    >>> round(float(penalty(h)), 3)
    2.0

    Args:
        coefficient: Finite number >= 0.
        name: Name of the term, by default `"decorrelation"`.
    """

    def __init__(self, coefficient: float = 5e-3, *, name: str | None = None):
        super().__init__(coefficient, name=name)

    def value(self, activations: Tensor, mask: Tensor | None = None) -> Tensor:
        """Sum of squared off-diagonal correlations."""
        batch = BatchStatistics(at_least_float32(activations), mask)
        _, centred = batch.mean_and_centred()
        variance = batch.variance(centred)
        standard = centred / ops.sqrt(variance + CORRELATION_EPSILON)
        correlation = off_diagonal(batch.covariance(standard))
        return ops.sum(ops.square(correlation))
