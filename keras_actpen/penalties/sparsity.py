"""Sparse codes: few units active at once, each at a given rate."""

import math
from typing import Literal, TypeAlias

from keras import ops

from keras_actpen.backend.tensors import Activation, Tensor
from keras_actpen.penalties.base import BatchPenalty, Penalty, Reduction
from keras_actpen.penalties.reductions import (
    BatchStatistics,
    absolute,
    safe_divisor,
)
from keras_actpen.penalties.targets import (
    Target,
    describe,
    lies_in,
    probe,
    refuse,
)
from keras_actpen.penalties.validation import check_choice, check_number

__all__ = ["Hoyer", "KLSparsity", "LogSparsity"]

Names: TypeAlias = Literal["hoyer", "kl_sparsity", "log_sparsity"]


# Rates are kept this far from 0 and 1, where the divergence is infinite.
RATE_EPSILON = 1e-7


class KLSparsity(BatchPenalty):
    """Divergence of each unit's mean activation from a target rate.

    `coefficient * sum_c KL(rate, p_c)`, where `p_c` is the mean of unit `c`
    over all counted samples and positions, clipped to `[1e-7, 1 - 1e-7]`, and
    `KL(r, p) = r log(r / p) + (1 - r) log((1 - r) / (1 - p))`. Each unit
    learns to be active for a share `rate` of the inputs; suits the code of a
    sparse autoencoder with sigmoid units. Usual: rate 0.05, coefficient 3.

    Activations must lie in [0, 1]: attaching to a layer that is not known to
    give such values is refused. A mean outside is clipped and passes no
    gradient. A batch statistic: right on the global batch under
    tf.distribute (one all-reduce per unit); on torch each process has its
    own.

    Ng 2011, "Sparse Autoencoder", CS294A lecture notes.

    Example:
    >>> penalty = KLSparsity(3.0, rate=0.25)
    >>> abs(round(float(penalty([[0.5, 0.0], [0.0, 0.5]])), 4))
    0.0

    Args:
        coefficient: Finite number >= 0.
        rate: Target mean activation, between 0 and 1 exclusive.
        activation: `None` for a layer whose own activation keeps values in
            [0, 1]; `"sigmoid"` for such values of a layer without an
            `activation`; `"tanh"` for values in [-1, 1], of which `(h + 1) /
            2` is penalized.
        name: Name of the term, by default `"kl_sparsity"`.

    Raises:
        TypeError, ValueError: If an argument is wrong.
        ValueError: When it is attached, if the output is not known to lie in
            [0, 1], or in [-1, 1] for tanh.
    """

    def __init__(
        self,
        coefficient: float = 3.0,
        *,
        rate: float = 0.05,
        activation: Literal["sigmoid", "tanh"] | None = None,
        name: str | None = None,
    ):
        super().__init__(coefficient, name=name)
        self.rate: float = check_number(
            "rate",
            rate,
            "a number between 0 and 1, for example rate=0.05",
            lambda value: 0 < value < 1,
        )
        self.activation: str | None = check_choice(
            "activation", activation, (None, "sigmoid", "tanh")
        )

    def statistic(self, batch: BatchStatistics) -> Tensor:
        """Sum over units of KL(rate, mean activation)."""
        values = batch.values
        if self.activation == "tanh":
            values = 0.5 * (values + 1.0)
        # 1 - p from a mean of its own: 1.0 - p would round a small one away.
        active, inactive = _clip(batch.mean(values), batch.mean(1.0 - values))
        divergence = self.rate * (math.log(self.rate) - ops.log(active))
        divergence = divergence + (1 - self.rate) * (
            math.log(1 - self.rate) - ops.log(inactive)
        )
        return batch.if_any(ops.sum(divergence))

    def check_target(
        self, output: Tensor, activation: Activation | None, on: str
    ) -> None:
        """Refuse outputs that are not known to lie in [0, 1]."""
        super().check_target(output, activation, on)
        low = -1.0 if self.activation == "tanh" else 0.0
        values = probe(activation, on)
        unknown = values is None and self.activation is not None
        if unknown or lies_in(values, low, 1.0):
            return
        other = "a penalty for any activation, such as L1 or Hoyer"
        if self.activation == "tanh":
            expected = "with activation='tanh' a layer whose values lie in "
            expected += "[-1, 1], for example one with a tanh activation"
            advice = f"Write {other}"
        else:
            expected = "a layer whose values are known to lie in [0, 1], for "
            expected += "example one with a sigmoid activation"
            advice = "Write KLSparsity(activation='tanh') for values in "
            advice += "[-1, 1], KLSparsity(activation='sigmoid') for values "
            advice += "in [0, 1] of a layer without an `activation`, or "
            advice += other
        refuse(self, expected, describe(activation, on), advice)


def _clip(rate: Tensor, rest: Tensor) -> tuple[Tensor, ...]:
    """Clip p and 1 - p to [eps, 1 - eps], without a gradient outside."""
    inside = ops.logical_and(rate >= RATE_EPSILON, rest >= RATE_EPSILON)
    return tuple(
        ops.where(
            inside,
            share,
            ops.stop_gradient(
                ops.clip(share, RATE_EPSILON, 1.0 - RATE_EPSILON)
            ),
        )
        for share in (rate, rest)
    )


class Hoyer(Penalty):
    """Hoyer-square measure of sparsity, which does not depend on scale.

    `coefficient * sum_p (sum_c |h_pc|)^2 / sum_c h_pc^2 / batch`, `p` running
    over samples and positions, `c` over the last axis. Between 1 (one active
    unit) and the number of units (all equal); 0 for a position without any
    activation. Makes codes sparse without shrinking them, in layers of any
    activation. Usual coefficients are 1e-4 to 1. Right on the global batch
    under tf.distribute.

    Yang, Wen, Li 2020, "DeepHoyer: Learning Sparser Neural Network with
    Differentiable Scale-Invariant Sparsity Measures".

    Example:
    >>> float(Hoyer(1.0)([[5.0, 0.0], [2.0, -2.0]]))
    1.5

    Args:
        coefficient: Finite number >= 0.
        reduction: `"batch"` (default), `"mean"` or `"position"` (the same
            here), or `"sum"`.
        name: Name of the term, by default `"hoyer"`.

    Raises:
        TypeError, ValueError: If an argument is wrong.
        ValueError: When it is attached, if the layer has a single unit.
    """

    _target = Target(rank=2, units=2)  # the measure of one unit is always 1

    def __init__(
        self,
        coefficient: float = 1e-4,
        *,
        reduction: Reduction = "batch",
        name: str | None = None,
    ):
        super().__init__(coefficient, reduction=reduction, name=name)

    def unreduced(self, activations: Tensor) -> Tensor:
        """Hoyer-square measure of every position."""
        # The measure does not depend on scale, so a constant scale changes
        # no gradient; it keeps squares from overflow and underflow.
        scale = ops.max(absolute(activations), axis=-1, keepdims=True)
        activations = activations / ops.stop_gradient(safe_divisor(scale))
        sums = ops.sum(absolute(activations), axis=-1)
        squares = ops.sum(ops.square(activations), axis=-1)
        return ops.square(sums) / safe_divisor(squares)


class LogSparsity(Penalty):
    """Sum of log(1 + h^2): sparsity that large activations hardly feel.

    `coefficient * sum log(1 + h^2) / batch`, over all axes. Its slope falls
    off as 2 / h, so that strong responses stay strong while weak ones vanish;
    suits codes of either sign. Usual coefficients are 1e-4 to 1e-2. Right on
    the global batch under tf.distribute.

    Olshausen and Field 1996, "Emergence of Simple-Cell Receptive Field
    Properties by Learning a Sparse Code for Natural Images".

    Example:
    >>> round(float(LogSparsity(1.0)([[1.0, 0.0]])), 4)
    0.6931

    Args:
        coefficient: Finite number >= 0.
        reduction: `"batch"` (default), `"mean"`, `"position"` or `"sum"`.
        name: Name of the term, by default `"log_sparsity"`.

    Raises:
        TypeError, ValueError: If an argument is wrong.
    """

    def __init__(
        self,
        coefficient: float = 1e-3,
        *,
        reduction: Reduction = "batch",
        name: str | None = None,
    ):
        super().__init__(coefficient, reduction=reduction, name=name)

    def unreduced(self, activations: Tensor) -> Tensor:
        """log(1 + h^2) of every element."""
        return ops.log1p(ops.square(activations))
