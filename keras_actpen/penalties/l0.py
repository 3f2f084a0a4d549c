"""Number of active units, with a gradient for their thresholds."""

from typing import Literal, TypeAlias

import numpy as np
from keras import ops

from keras_actpen.backend.tensors import Activation, Tensor
from keras_actpen.penalties.base import Penalty, Reduction
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
    check_number,
    is_number,
)

__all__ = ["L0"]

Names: TypeAlias = Literal["l0"]


class L0(Penalty):
    """Number of units above a threshold, for JumpReLU autoencoders.

    `coefficient * sum H(h - threshold) / positions`, over all axes, where
    `H(x)` is 1 for x > 0 and 0 elsewhere: with the default reduction the mean
    number of active units per position, as the statistic `l0`. Usual
    coefficients are 1e-4 to 1e-2. Right on the global batch under
    tf.distribute.

    A step has no slope. The gradient is a straight-through estimate, the
    slope of the step smoothed by a rectangle: with `x = h - threshold`,
    `d/dthreshold H(x) = -1 / bandwidth` where `|x| < bandwidth / 2` and 0
    elsewhere. As in the paper the activations get no gradient: this term
    moves the thresholds, the reconstruction moves the encoder. So
    `threshold` is a function that reads what is trained, and the target is
    what JumpReLU receives, because its output has no values just below the
    threshold:

    ```python
    thresholds = model.add_weight(shape=(8,), initializer="ones")

    @keras.saving.register_keras_serializable("my_package")
    def read_thresholds():
        return thresholds

    count = penalties.L0(1e-3, threshold=read_thresholds)
    model = attach_penalty(model, "dense_4", count, on="preactivation")
    ```

    Constant thresholds cannot move: there the activations get the gradient
    instead, `1 / bandwidth` where `|x| < bandwidth / 2`.

    Rajamanoharan et al. 2024, "Jumping Ahead: Improving Reconstruction
    Fidelity with JumpReLU Sparse Autoencoders".

    Example:
    >>> float(L0(1.0)([[1.0, -2.0], [0.2, 3.0]]))
    1.5
    >>> float(L0(1.0, threshold=[0.5, 4.0])([[1.0, -2.0], [0.2, 3.0]]))
    0.5

    Args:
        coefficient: Finite number >= 0.
        threshold: A finite number, one number >= 0 per unit, or a function
            without arguments that returns a tensor of shape `(units,)`. It is
            saved by its name if it is registered with Keras.
        bandwidth: Finite number > 0, width of the smoothed step. The paper's
            is 0.001 for activations scaled to a mean square of 1.
        reduction: `"position"` (default), `"batch"`, `"mean"` or `"sum"`.
        name: Name of the term, by default `"l0"`.

    Raises:
        TypeError: If an argument has the wrong type.
        ValueError: If a number is out of range, or the layer has another
            number of units than there are thresholds.
    """

    _target = Target(rank=1)

    def __init__(
        self,
        coefficient: float = 1e-3,
        *,
        threshold: float | UnitValues = 0.0,
        bandwidth: float = 1e-3,
        reduction: Reduction = "position",
        name: str | None = None,
    ):
        super().__init__(coefficient, reduction=reduction, name=name)
        self.threshold: float | np.ndarray | UnitFunction
        if is_number(threshold):
            example = "a finite number, for example threshold=0.1"
            self.threshold = check_number("threshold", threshold, example)
        else:
            self.threshold = check_unit_values("threshold", threshold)
        self.bandwidth: float = check_above("bandwidth", bandwidth, 0.0, 0.001)

    def unreduced(self, activations: Tensor) -> Tensor:
        """1 where an element is above its threshold, 0 elsewhere."""
        threshold = self.threshold
        if callable(threshold):
            activations = ops.stop_gradient(activations)
        if not isinstance(threshold, float):
            threshold = evaluate_unit_values(
                "threshold", threshold, activations
            )
        distance = activations - threshold
        near = ops.abs(distance) < self.bandwidth / 2
        ramp = ops.where(near, distance, ops.zeros_like(distance))
        ramp = ramp / self.bandwidth
        # The value is that of the step, the gradient that of the ramp.
        step = ops.cast(distance > 0, activations.dtype)
        return step + (ramp - ops.stop_gradient(ramp))

    def check_target(
        self, output: Tensor, activation: Activation | None, on: str
    ) -> None:
        """Refuse another number of units than there are thresholds."""
        super().check_target(output, activation, on)
        if isinstance(self.threshold, np.ndarray):
            check_size("threshold", self.threshold.shape, output.shape)
