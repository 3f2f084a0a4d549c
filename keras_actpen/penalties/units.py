"""Whole units: switching them off for good, bringing dead ones back."""

from typing import Literal, TypeAlias

from keras import ops

from keras_actpen.backend.tensors import Activation, Tensor
from keras_actpen.penalties.base import BatchPenalty
from keras_actpen.penalties.reductions import (
    EPSILON,
    BatchStatistics,
    safe_divisor,
)
from keras_actpen.penalties.targets import describe, refuse, refuse_shape
from keras_actpen.penalties.validation import check_number

__all__ = ["DeadUnitRevival", "GroupLasso"]

Names: TypeAlias = Literal["dead_unit_revival", "group_lasso"]


class GroupLasso(BatchPenalty):
    """Root mean square of each unit, or group of units: switches units off.

    `coefficient * sum_g sqrt(k) * sqrt(sum_{c in g} mean h_c^2 + 1e-8)`, the
    mean over all counted samples and positions, `g` running over groups of
    `k = group_size` neighboring units of the last axis (one unit each by
    default). Drives whole units to 0 for every input, for pruning; suits
    dense layers and channels of convolutions. Usual coefficient 1e-4. A batch
    statistic: right on the global batch under tf.distribute; on torch each
    process has its own.

    Yuan and Lin 2006, "Model Selection and Estimation in Regression with
    Grouped Variables".

    Example:
    >>> round(float(GroupLasso(1.0)([[3.0, 0.0], [-3.0, 0.0]])), 3)
    3.0

    Args:
        coefficient: Finite number >= 0.
        group_size: Number of neighboring units that form a group; must
            divide the number of units.
        name: Name of the term, by default `"group_lasso"`.

    Raises:
        TypeError, ValueError: If an argument is wrong.
        ValueError: When it is attached, if `group_size` does not divide the
            number of units.
    """

    def __init__(
        self,
        coefficient: float = 1e-4,
        *,
        group_size: int = 1,
        name: str | None = None,
    ):
        super().__init__(coefficient, name=name)
        self.group_size: int = int(
            check_number(
                "group_size",
                group_size,
                "a whole number >= 1, for example group_size=4",
                lambda value: value >= 1 and value == int(value),
            )
        )

    def statistic(self, batch: BatchStatistics) -> Tensor:
        """Sum over groups of their scaled root mean squares."""
        squares = batch.mean(ops.square(batch.values))
        squares = ops.sum(ops.reshape(squares, (-1, self.group_size)), axis=-1)
        roots = ops.sqrt(squares + EPSILON) * self.group_size**0.5
        return batch.if_any(ops.sum(roots))

    def check_target(
        self, output: Tensor, activation: Activation | None, on: str
    ) -> None:
        """Refuse numbers of units that do not split into groups."""
        super().check_target(output, activation, on)
        size = self.group_size
        if (output.shape[-1] or 0) % size:
            refuse_shape(
                self,
                f"a layer with a multiple of group_size={size} units",
                output,
            )


class DeadUnitRevival(BatchPenalty):
    """Pulls units that never fire back above their threshold.

    `coefficient * mean_d mean_p relu(margin - h_pd)`, the means over counted
    samples and positions p and over the units d that are dead: h <= 0 at all
    of them. 0 without dead units. Needs `on="preactivation"`, since a ReLU's
    output passes no gradient where the unit is dead; suits ReLU layers and
    the code of a sparse autoencoder. Usual coefficients are 1e-4 to 1e-2. A
    batch statistic, of units dead in the whole batch: right on the global
    batch under tf.distribute; on torch each process has its own.

    Lu, Shin, Su, Karniadakis 2020, "Dying ReLU and Initialization: Theory and
    Numerical Examples" (of dead units; the penalty is common practice).

    Example:
    >>> float(DeadUnitRevival(1.0)([[1.0, -2.0], [-1.0, -4.0]]))
    3.0

    Args:
        coefficient: Finite number >= 0.
        margin: Finite number, up to where dead units are pulled.
        name: Name of the term, by default `"dead_unit_revival"`.

    Raises:
        TypeError, ValueError: If an argument is wrong.
        ValueError: When it is attached, if `on` is not `"preactivation"`.
    """

    def __init__(
        self,
        coefficient: float = 1e-3,
        *,
        margin: float = 0.0,
        name: str | None = None,
    ):
        super().__init__(coefficient, name=name)
        self.margin: float = check_number(
            "margin", margin, "a finite number, for example margin=0.1"
        )

    def statistic(self, batch: BatchStatistics) -> Tensor:
        """Mean over dead units of what they lack to the margin."""
        fires = ops.cast(batch.values > 0, batch.values.dtype)
        dead = ops.cast(batch.mean(fires) == 0, fires.dtype)
        lack = batch.mean(ops.relu(self.margin - batch.values))
        return ops.sum(dead * lack) / safe_divisor(ops.sum(dead))

    def check_target(
        self, output: Tensor, activation: Activation | None, on: str
    ) -> None:
        """Refuse outputs: their dead units pass no gradient."""
        super().check_target(output, activation, on)
        if on != "preactivation":
            refuse(
                self,
                "on='preactivation', because the output of a dead unit "
                "passes no gradient",
                f"{describe(activation, on)} (on={on!r})",
            )
