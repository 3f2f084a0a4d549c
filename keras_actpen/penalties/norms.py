"""Norms of the activations: L1, L2 and both."""

from typing import Any

import keras
from keras import ops

from keras_actpen.penalties.base import Penalty, check_coefficient


def absolute(x):
    """|x| with gradient sign(x), 0 at 0 on every backend.

    `ops.abs` has gradient 1 at 0 on JAX and 0 elsewhere.
    """
    return x * ops.stop_gradient(ops.sign(x))


@keras.saving.register_keras_serializable(package="keras_actpen")
class L1(Penalty):
    """Sum of the absolute activations.

    `coefficient * sum |h| / batch`, over all axes: what Keras adds for
    `activity_regularizer=keras.regularizers.L1(coefficient)`. Makes
    activations sparse; usual coefficients are 1e-5 to 1e-2.

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

    def unreduced(self, activations):
        """|h| of every element."""
        return absolute(activations)


@keras.saving.register_keras_serializable(package="keras_actpen")
class L2(Penalty):
    """Sum of the squared activations.

    `coefficient * sum h^2 / batch`, over all axes: what Keras adds for
    `activity_regularizer=keras.regularizers.L2(coefficient)`. Keeps
    activations small; usual coefficients are 1e-5 to 1e-2.

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

    def unreduced(self, activations):
        """h^2 of every element."""
        return ops.square(activations)


@keras.saving.register_keras_serializable(package="keras_actpen")
class L1L2(Penalty):
    """L1 and L2 in one term.

    `(l1 * sum |h| + l2 * sum h^2) / batch`, over all axes: what Keras adds
    for `activity_regularizer=keras.regularizers.L1L2(l1, l2)`.

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
        self.l1 = check_coefficient("l1", l1)
        self.l2 = check_coefficient("l2", l2)

    def unreduced(self, activations):
        """`l1 |h| + l2 h^2` of every element."""
        return self.l1 * absolute(activations) + self.l2 * ops.square(
            activations
        )

    def get_config(self) -> dict[str, Any]:
        """Return the arguments that re-create this penalty."""
        return {"l1": self.l1, "l2": self.l2, **super().get_config()}
