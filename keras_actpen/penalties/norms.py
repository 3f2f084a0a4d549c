"""Norms of the activations: L1, L2, both, Huber, the largest."""

from typing import Literal, TypeAlias

import numpy as np
from keras import ops

from keras_actpen import backend
from keras_actpen.backend.tensors import Activation, Tensor
from keras_actpen.penalties.base import Penalty, Reduction, SumPenalty
from keras_actpen.penalties.reductions import absolute
from keras_actpen.penalties.targets import Target
from keras_actpen.penalties.unit_values import (
    UnitFunction,
    UnitValues,
    check_size,
    check_unit_values,
    evaluate_unit_values,
)
from keras_actpen.penalties.validation import (
    check_above,
    check_coefficient,
    check_number,
)

__all__ = ["L1", "L1L2", "L2", "Huber", "LInf"]

Names: TypeAlias = Literal["l1", "l1_l2", "l2", "huber", "l_inf"]


class L1(SumPenalty):
    """Sum of the absolute activations.

    `coefficient * sum |h| / batch`, over all axes: what Keras adds for
    `activity_regularizer=keras.regularizers.L1(coefficient)`, except that
    masked positions do not count. Makes activations sparse; suits ReLU layers
    and bottlenecks. Usual coefficients are 1e-5 to 1e-2. Right on the global
    batch under tf.distribute.

    With `unit_weights` w it is `coefficient * sum w_c |h_c| / batch`, c over
    the last axis. Sparse autoencoders weigh each feature by the norm of its
    row of the decoder: otherwise small activations with large rows would
    evade the penalty. A function is called at every step, and what it reads
    gets a gradient. In copies of the model, too, it reads the object that it
    names, here a layer of this model:

    ```python
    decoder = model.layers[-1]

    @keras.saving.register_keras_serializable("my_package")
    def row_norms():
        return keras.ops.norm(decoder.kernel, axis=1)

    weighted = penalties.L1(1e-3, unit_weights=row_norms)
    model = attach_penalty(model, "dense_4", weighted)
    ```

    Tibshirani 1996, "Regression Shrinkage and Selection via the Lasso" (of
    weights); Glorot, Bordes, Bengio 2011, "Deep Sparse Rectifier Neural
    Networks" (of activations); Bricken et al. 2023, "Toward
    Monosemanticity", with Conerly et al. 2024, "Update on How We Train SAEs"
    (of the weights of units).

    Example:
    >>> float(L1(0.5)([[1.0, -2.0], [0.0, 3.0]]))
    1.5
    >>> float(L1(0.5, unit_weights=[4.0, 1.0])([[1.0, -2.0], [0.0, 3.0]]))
    2.25

    Args:
        coefficient: Finite number >= 0.
        unit_weights: `None`, one number >= 0 per unit, or a function without
            arguments that returns a tensor of shape `(units,)`. It is saved
            by its name if it is registered with Keras.
        reduction: `"batch"` (default), `"mean"`, `"position"` or `"sum"`.
        name: Name of the term, by default `"l1"`.

    Raises:
        TypeError: If an argument has the wrong type.
        ValueError: If a number is negative or not finite, or the layer has
            another number of units than there are weights.
    """

    def __init__(
        self,
        coefficient: float = 0.01,
        *,
        unit_weights: UnitValues | None = None,
        reduction: Reduction = "batch",
        name: str | None = None,
    ):
        super().__init__(coefficient, reduction=reduction, name=name)
        self.unit_weights: np.ndarray | UnitFunction | None = None
        if unit_weights is not None:
            self.unit_weights = check_unit_values("unit_weights", unit_weights)

    def total(self, activations: Tensor) -> Tensor:
        """Sum of |h|, weighted."""
        if self.unit_weights is None:
            return backend.sum_of_absolutes(activations)
        weights = evaluate_unit_values(
            "unit_weights", self.unit_weights, activations
        )
        return ops.sum(weights * absolute(activations))

    def check_target(
        self, output: Tensor, activation: Activation | None, on: str
    ) -> None:
        """Refuse another number of units than there are weights."""
        super().check_target(output, activation, on)
        if isinstance(self.unit_weights, np.ndarray):
            check_size("unit_weights", self.unit_weights.shape, output.shape)


class L2(SumPenalty):
    """Sum of the squared activations.

    `coefficient * sum h^2 / batch`, over all axes: what Keras adds for
    `activity_regularizer=keras.regularizers.L2(coefficient)`, except that
    masked positions do not count. Keeps activations small in any layer. Usual
    coefficients are 1e-5 to 1e-2. Right on the global batch under
    tf.distribute. Hoerl and Kennard 1970, "Ridge Regression: Biased
    Estimation for Nonorthogonal Problems" (of weights).

    Example:
    >>> float(L2(0.5)([[1.0, -2.0], [0.0, 3.0]]))
    3.5

    Args:
        coefficient: Finite number >= 0.
        reduction: `"batch"` (default), `"mean"`, `"position"` or `"sum"`.
        name: Name of the term, by default `"l2"`.

    Raises:
        TypeError, ValueError: If an argument is wrong.
    """

    def __init__(
        self,
        coefficient: float = 0.01,
        *,
        reduction: Reduction = "batch",
        name: str | None = None,
    ):
        super().__init__(coefficient, reduction=reduction, name=name)

    def total(self, activations: Tensor) -> Tensor:
        """Sum of h^2."""
        return backend.sum_of_squares(activations)


class L1L2(SumPenalty):
    """L1 and L2 in one term, the elastic net.

    `coefficient * (l1 * sum |h| + l2 * sum h^2) / batch`, over all axes: what
    Keras adds for `activity_regularizer=keras.regularizers.L1L2(l1, l2)`,
    except that masked positions do not count. Usual factors are 1e-5 to 1e-2.
    Right on the global batch under tf.distribute.

    Zou and Hastie 2005, "Regularization and Variable Selection via the
    Elastic Net" (of weights).

    Example:
    >>> float(L1L2(l1=0.5, l2=0.25)([[1.0, -2.0], [0.0, 3.0]]))
    3.25

    Args:
        l1: Finite number >= 0, the factor of the absolute values.
        l2: Finite number >= 0, the factor of the squares.
        coefficient: Finite number >= 0, the factor of both.
        reduction: `"batch"` (default), `"mean"`, `"position"` or `"sum"`.
        name: Name of the term, by default `"l1_l2"`.

    Raises:
        TypeError, ValueError: If an argument is wrong.
    """

    def __init__(
        self,
        l1: float = 0.0,
        l2: float = 0.0,
        *,
        coefficient: float = 1.0,
        reduction: Reduction = "batch",
        name: str | None = None,
    ):
        super().__init__(coefficient, reduction=reduction, name=name)
        self.l1: float = check_coefficient("l1", l1)
        self.l2: float = check_coefficient("l2", l2)

    def total(self, activations: Tensor) -> Tensor:
        """Sum of `l1 |h| + l2 h^2`."""
        return self.l1 * backend.sum_of_absolutes(
            activations
        ) + self.l2 * backend.sum_of_squares(activations)


class Huber(Penalty):
    """Quadratic near 0, linear beyond `delta`.

    `coefficient * sum huber(h) / batch`, over all axes, where `huber(h)` is
    `h^2 / 2` for `|h| <= delta` and `delta (|h| - delta / 2)` beyond. Holds
    activations down like L2 without letting a few outliers rule the gradient;
    suits unbounded outputs. Usual coefficient 1e-3. Right on the global batch
    under tf.distribute.

    Huber 1964, "Robust Estimation of a Location Parameter".

    Example:
    >>> float(Huber(1.0, delta=1.0)([[1.0, -3.0], [0.0, 0.0]]))
    1.5

    Args:
        coefficient: Finite number >= 0.
        delta: Finite number > 0, where the quadratic part ends.
        reduction: `"batch"` (default), `"mean"`, `"position"` or `"sum"`.
        name: Name of the term, by default `"huber"`.

    Raises:
        TypeError, ValueError: If an argument is wrong.
    """

    def __init__(
        self,
        coefficient: float = 1e-3,
        *,
        delta: float = 1.0,
        reduction: Reduction = "batch",
        name: str | None = None,
    ):
        super().__init__(coefficient, reduction=reduction, name=name)
        self.delta: float = check_above("delta", delta, 0.0, 1.0)

    def unreduced(self, activations: Tensor) -> Tensor:
        """Huber's function of every element."""
        size = absolute(activations)
        beyond = ops.relu(size - self.delta)
        return 0.5 * ops.square(size - beyond) + self.delta * beyond


class LInf(Penalty):
    """The largest absolute activation of each position.

    `coefficient * sum_p max_c |h_pc| / batch`, `p` running over samples and
    positions, `c` over the last axis. Holds down outlier units, as before
    quantization. With a `temperature` t the smooth maximum
    `log(sum_c exp(t |h_pc|)) / t` takes its place, which reaches all units.
    The gradient of the hard maximum is shared evenly by units that tie. Usual
    coefficient 1e-3. Right on the global batch under tf.distribute. Common
    practice; no paper of its own.

    Example:
    >>> float(LInf(0.5)([[1.0, -2.0], [0.0, 3.0]]))
    1.25

    Args:
        coefficient: Finite number >= 0.
        temperature: `None` for the maximum itself, or a finite number > 0:
            the larger, the closer to it.
        reduction: `"batch"` (default), `"mean"` or `"position"` (the same
            here), or `"sum"`.
        name: Name of the term, by default `"l_inf"`.

    Raises:
        TypeError, ValueError: If an argument is wrong.
        ValueError: When it is attached, if the output has no axis of units.
    """

    _target = Target(rank=2)

    def __init__(
        self,
        coefficient: float = 1e-3,
        *,
        temperature: float | None = None,
        reduction: Reduction = "batch",
        name: str | None = None,
    ):
        super().__init__(coefficient, reduction=reduction, name=name)
        if temperature is not None:
            temperature = check_number(
                "temperature",
                temperature,
                "None or a finite number > 0, for example temperature=10.0",
                lambda value: value > 0,
            )
        self.temperature = temperature

    def unreduced(self, activations: Tensor) -> Tensor:
        """Maximum, hard or smooth, of every position."""
        size = absolute(activations)
        if self.temperature is not None:
            scaled = ops.logsumexp(self.temperature * size, axis=-1)
            return scaled / self.temperature
        # The backends' own maxima differ in how ties share the gradient.
        ties = ops.cast(
            ops.equal(size, ops.max(size, axis=-1, keepdims=True)), size.dtype
        )
        share = ties / ops.sum(ties, axis=-1, keepdims=True)
        return ops.sum(size * ops.stop_gradient(share), axis=-1)
