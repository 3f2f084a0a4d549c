"""Penalties of values that leave a range."""

from typing import Literal, TypeAlias

from keras import ops

from keras_actpen.backend.tensors import Tensor
from keras_actpen.penalties.base import FixedPenalty
from keras_actpen.penalties.reductions import absolute
from keras_actpen.penalties.validation import (
    check_coefficient,
    check_number,
    invalid_values,
)

__all__ = ["Range", "Saturation"]

Names: TypeAlias = Literal["range", "saturation"]


class Range(FixedPenalty):
    """Mean squared distance from an interval.

    `coefficient * mean (relu(low - h)^2 + relu(h - high)^2)`, over all axes
    and counted positions. 0 inside. Keeps activations in the range that a
    quantizer, a fixed-point format or a decoder can represent; suits any
    layer. Usual coefficients are 1e-3 to 1. Right on the global batch under
    tf.distribute.

    Common in quantization practice; no paper of its own.

    Example:
    >>> float(Range(1.0, low=-1.0, high=1.0)([[0.5, -2.0], [1.0, 4.0]]))
    2.5

    Args:
        coefficient: Finite number >= 0.
        low: Finite number, or `None` for no lower end.
        high: Finite number, or `None` for no upper end.
        name: Name of the term, by default `"range"`.

    Raises:
        TypeError, ValueError: If an argument is wrong.
    """

    def __init__(
        self,
        coefficient: float = 1e-2,
        *,
        low: float | None = -1.0,
        high: float | None = 1.0,
        name: str | None = None,
    ):
        super().__init__(coefficient, name=name)
        self.low: float | None = _end("low", low)
        self.high: float | None = _end("high", high)
        ends = (self.low, self.high)
        if ends == (None, None) or (None not in ends and low > high):
            raise invalid_values(
                "low <= high, one of which may be None", low=low, high=high
            )

    def unreduced(self, activations: Tensor) -> Tensor:
        """Squared distance of every element."""
        distance = 0.0
        if self.low is not None:
            distance += ops.square(ops.relu(self.low - activations))
        if self.high is not None:
            distance += ops.square(ops.relu(activations - self.high))
        return distance


def _end(argument: str, value: float | None) -> float | None:
    """Return an end of the interval, checked."""
    if value is None:
        return None
    return check_number(
        argument, value, f"None or a finite number, for example {argument}=1.0"
    )


class Saturation(FixedPenalty):
    """Mean squared excess of |h| over a threshold.

    `coefficient * mean relu(|h| - threshold)^2`, over all axes and counted
    positions. Keeps tanh units off their flat ends. Works best with
    `on="preactivation"`, where a saturated unit still passes a gradient;
    there a threshold of 1.47 is the same as 0.9 after tanh. Usual
    coefficients are 1e-3 to 1e-1. Right on the global batch under
    tf.distribute.

    After Glorot and Bengio 2010, "Understanding the Difficulty of Training
    Deep Feedforward Neural Networks" (of saturation; the penalty is common
    practice).

    Example:
    >>> float(Saturation(1.0, threshold=1.0)([[0.5, -2.0], [1.0, 2.0]]))
    0.5

    Args:
        coefficient: Finite number >= 0.
        threshold: Finite number >= 0.
        name: Name of the term, by default `"saturation"`.

    Raises:
        TypeError, ValueError: If an argument is wrong.
    """

    def __init__(
        self,
        coefficient: float = 1e-2,
        *,
        threshold: float = 0.9,
        name: str | None = None,
    ):
        super().__init__(coefficient, name=name)
        self.threshold: float = check_coefficient("threshold", threshold)

    def unreduced(self, activations: Tensor) -> Tensor:
        """Squared excess of every element."""
        return ops.square(ops.relu(absolute(activations) - self.threshold))
