"""Norms of the activations: L1, L2, both, Huber, the largest."""

from typing import Any

from keras import ops

from keras_actpen import backend
from keras_actpen.backend.tensors import Tensor
from keras_actpen.internals.registration import serializable
from keras_actpen.penalties.base import (
    Penalty,
    PositionPenalty,
    SumPenalty,
    check_coefficient,
    check_number,
)
from keras_actpen.penalties.reductions import absolute


@serializable
class L1(SumPenalty):
    """Sum of the absolute activations.

    `coefficient * sum |h| / batch`, over all axes: what Keras adds for
    `activity_regularizer=keras.regularizers.L1(coefficient)`, except that
    masked positions do not count. Makes activations sparse; suits ReLU layers
    and bottlenecks. Usual coefficients are 1e-5 to 1e-2. Right on the global
    batch under tf.distribute.

    Tibshirani 1996, "Regression Shrinkage and Selection via the Lasso" (of
    weights); Glorot, Bordes, Bengio 2011, "Deep Sparse Rectifier Neural
    Networks" (of activations).

    Example:
    >>> import numpy as np
    >>> penalty = L1(0.5)
    >>> float(penalty(np.array([[1.0, -2.0], [0.0, 3.0]], "float32")))
    1.5

    Args:
        coefficient: Finite number >= 0.
        reduction: `"batch"` (default), `"mean"` or `"sum"`.
        name: Name of the term, by default `"l1"`.
    """

    def __init__(
        self,
        coefficient: float = 0.01,
        *,
        reduction: str = "batch",
        name: str | None = None,
    ):
        super().__init__(coefficient, reduction=reduction, name=name)

    def total(self, activations: Tensor) -> Tensor:
        """Sum of |h|."""
        return backend.sum_of_absolutes(activations)


@serializable
class L2(SumPenalty):
    """Sum of the squared activations.

    `coefficient * sum h^2 / batch`, over all axes: what Keras adds for
    `activity_regularizer=keras.regularizers.L2(coefficient)`, except that
    masked positions do not count. Keeps activations small in any layer. Usual
    coefficients are 1e-5 to 1e-2. Right on the global batch under
    tf.distribute.

    Example:
    >>> import numpy as np
    >>> penalty = L2(0.5)
    >>> float(penalty(np.array([[1.0, -2.0], [0.0, 3.0]], "float32")))
    3.5

    Args:
        coefficient: Finite number >= 0.
        reduction: `"batch"` (default), `"mean"` or `"sum"`.
        name: Name of the term, by default `"l2"`.
    """

    def __init__(
        self,
        coefficient: float = 0.01,
        *,
        reduction: str = "batch",
        name: str | None = None,
    ):
        super().__init__(coefficient, reduction=reduction, name=name)

    def total(self, activations: Tensor) -> Tensor:
        """Sum of h^2."""
        return backend.sum_of_squares(activations)


@serializable
class L1L2(SumPenalty):
    """L1 and L2 in one term, the elastic net.

    `coefficient * (l1 * sum |h| + l2 * sum h^2) / batch`, over all axes: what
    Keras adds for `activity_regularizer=keras.regularizers.L1L2(l1, l2)`,
    except that masked positions do not count. Usual factors are 1e-5 to 1e-2.
    Right on the global batch under tf.distribute.

    Zou and Hastie 2005, "Regularization and Variable Selection via the
    Elastic Net" (of weights).

    Example:
    >>> import numpy as np
    >>> penalty = L1L2(l1=0.5, l2=0.25)
    >>> float(penalty(np.array([[1.0, -2.0], [0.0, 3.0]], "float32")))
    3.25

    Args:
        l1: Finite number >= 0, the factor of the absolute values.
        l2: Finite number >= 0, the factor of the squares.
        coefficient: Finite number >= 0, the factor of both.
        reduction: `"batch"` (default), `"mean"` or `"sum"`.
        name: Name of the term, by default `"l1_l2"`.
    """

    def __init__(
        self,
        l1: float = 0.0,
        l2: float = 0.0,
        *,
        coefficient: float = 1.0,
        reduction: str = "batch",
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

    def get_config(self) -> dict[str, Any]:
        """Return the arguments that re-create this penalty."""
        return {"l1": self.l1, "l2": self.l2, **super().get_config()}


@serializable
class Huber(Penalty):
    """Quadratic near 0, linear beyond `delta`.

    `coefficient * sum huber(h) / batch`, over all axes, where `huber(h)` is
    `h^2 / 2` for `|h| <= delta` and `delta (|h| - delta / 2)` beyond. Holds
    activations down like L2 without letting a few outliers rule the gradient;
    suits unbounded outputs. Usual coefficient 1e-3. Right on the global batch
    under tf.distribute.

    Huber 1964, "Robust Estimation of a Location Parameter".

    Example:
    >>> import numpy as np
    >>> penalty = Huber(1.0, delta=1.0)
    >>> float(penalty(np.array([[1.0, -3.0], [0.0, 0.0]], "float32")))
    1.5

    Args:
        coefficient: Finite number >= 0.
        delta: Finite number > 0, where the quadratic part ends.
        reduction: `"batch"` (default), `"mean"` or `"sum"`.
        name: Name of the term, by default `"huber"`.
    """

    def __init__(
        self,
        coefficient: float = 1e-3,
        *,
        delta: float = 1.0,
        reduction: str = "batch",
        name: str | None = None,
    ):
        super().__init__(coefficient, reduction=reduction, name=name)
        self.delta: float = check_number(
            "delta",
            delta,
            "a finite number > 0, for example delta=1.0",
            lambda value: value > 0,
        )

    def unreduced(self, activations: Tensor) -> Tensor:
        """Huber's function of every element."""
        size = absolute(activations)
        beyond = ops.relu(size - self.delta)
        return 0.5 * ops.square(size - beyond) + self.delta * beyond

    def get_config(self) -> dict[str, Any]:
        """Return the arguments that re-create this penalty."""
        return {"delta": self.delta, **super().get_config()}


@serializable
class LInf(PositionPenalty):
    """The largest absolute activation of each position.

    `coefficient * sum_p max_c |h_pc| / batch`, `p` running over samples and
    positions, `c` over the last axis. Holds down outlier units, as before
    quantisation. With a `temperature` t the smooth maximum
    `log(sum_c exp(t |h_pc|)) / t` takes its place, which reaches all units.
    The gradient of the hard maximum is shared evenly by units that tie. Usual
    coefficient 1e-3. Right on the global batch under tf.distribute.

    Example:
    >>> import numpy as np
    >>> penalty = LInf(0.5)
    >>> float(penalty(np.array([[1.0, -2.0], [0.0, 3.0]], "float32")))
    1.25

    Args:
        coefficient: Finite number >= 0.
        temperature: `None` for the maximum itself, or a finite number > 0:
            the larger, the closer to it.
        reduction: `"batch"` (default), `"mean"` (over positions) or `"sum"`.
        name: Name of the term, by default `"l_inf"`.
    """

    def __init__(
        self,
        coefficient: float = 1e-3,
        *,
        temperature: float | None = None,
        reduction: str = "batch",
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

    def get_config(self) -> dict[str, Any]:
        """Return the arguments that re-create this penalty."""
        return {"temperature": self.temperature, **super().get_config()}
