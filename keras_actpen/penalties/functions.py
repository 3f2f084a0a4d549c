"""Plain functions and Keras regularizers as penalties."""

from collections.abc import Callable

import keras
from keras import ops

from keras_actpen.backend.tensors import Tensor
from keras_actpen.penalties.base import Penalty, snake_case
from keras_actpen.penalties.reductions import (
    apply_mask,
    at_least_float32,
    safe_divisor,
)
from keras_actpen.penalties.validation import invalid_type, invalid_value

__all__ = ["FunctionPenalty"]

EXAMPLE = "for example `lambda h: keras.ops.sum(h ** 4)`"


class FunctionPenalty(Penalty):
    """A plain function or a Keras regularizer as a penalty.

    `coefficient * f(h) / batch`, as Keras does for `activity_regularizer`.
    The function sees the activations in float32 or wider, with masked
    positions set to 0. Under tf.distribute it is right on the global batch if
    it is a sum over samples.

    Functions are saved under Keras's rules: register them with
    `keras.saving.register_keras_serializable`. A lambda is saved as bytecode
    without the global names that it uses, and loading it is refused unless
    Keras's safe mode is off.

    Example:
    >>> penalty = FunctionPenalty(lambda h: ops.sum(h**4), 0.5, name="fourth")
    >>> float(penalty([[1.0, -2.0], [0.0, 1.0]]))
    4.5

    Args:
        function: Callable `f(activations) -> scalar`, for instance a
            `keras.regularizers.Regularizer`.
        coefficient: Finite number >= 0, the factor of the function's value.
        name: Name of the term. Defaults to the function's name, or the
            regularizer's snake-case class name.

    Raises:
        TypeError: If `function` cannot be called.
    """

    def __init__(
        self,
        function: Callable[[Tensor], Tensor],
        coefficient: float = 1.0,
        *,
        name: str | None = None,
    ):
        if not callable(function):
            expected = f"a function f(activations) -> scalar, {EXAMPLE}"
            raise invalid_type("function", expected, function)
        if name is None:
            name = _function_name(function)
        super().__init__(coefficient, name=name)
        self.function = function

    def value(self, activations: Tensor, mask: Tensor | None = None) -> Tensor:
        """Value of the function divided by the batch size."""
        activations = at_least_float32(activations)
        value = self._scalar(apply_mask(activations, mask))
        batch = ops.cast(ops.shape(activations)[0], value.dtype)
        return value / safe_divisor(batch)

    def weight_value(self, weight: Tensor) -> Tensor:
        """Value of the function, as Keras adds for `kernel_regularizer`."""
        return self._scalar(at_least_float32(weight))

    def _scalar(self, tensor: Tensor) -> Tensor:
        value = self.function(tensor)
        shape = getattr(value, "shape", ())
        if len(shape) > 0:
            raise invalid_value(
                "penalty",
                f"a function that returns a scalar, {EXAMPLE}",
                f"{self.name} returned a tensor of shape {tuple(shape)}",
            )
        return ops.cast(value, tensor.dtype)


def _function_name(function: Callable[[Tensor], Tensor]) -> str:
    """Name of a term whose function was given none."""
    kind = type(function)
    if issubclass(kind, keras.regularizers.Regularizer):
        return snake_case(kind.__name__)
    name = getattr(function, "__name__", snake_case(kind.__name__))
    return "lambda" if name == "<lambda>" else name
