"""Plain functions and Keras regularizers as penalties."""

from collections.abc import Callable, Mapping
from typing import Any

import keras
from keras import ops

from keras_actpen.backend.tensors import Tensor
from keras_actpen.internals.deserialization import described, parts
from keras_actpen.internals.registration import serializable
from keras_actpen.penalties.base import Penalty, at_least_float32, snake_case
from keras_actpen.penalties.reductions import apply_mask, safe_divisor


@serializable
class FunctionPenalty(Penalty):
    """A plain function or a Keras regularizer as a penalty.

    `coefficient * f(h) / batch`, as Keras does for `activity_regularizer`.
    The function sees the activations in float32 or wider, with masked
    positions set to 0. Under tf.distribute it is right on the global batch if
    it is a sum over samples.

    Functions serialise under Keras's rules: register them with
    `keras.saving.register_keras_serializable`. A lambda is saved as bytecode
    without the global names that it uses, and loading it is refused unless
    Keras's safe mode is off.

    Example:
    >>> import numpy as np
    >>> penalty = FunctionPenalty(lambda h: ops.sum(h**4), 0.5, name="fourth")
    >>> float(penalty(np.array([[1.0, -2.0], [0.0, 1.0]], "float32")))
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
            raise TypeError(
                "Invalid type received for argument `function`. Expected a "
                "function f(activations) -> scalar, for example `lambda h: "
                f"keras.ops.sum(h ** 4)`. Received: function={function!r} "
                f"(of type {type(function).__name__})"
            )
        if name is None:
            name = _function_name(function)
        super().__init__(coefficient, name=name)
        self.function = function

    def value(self, activations: Tensor, mask: Tensor | None = None) -> Tensor:
        """Value of the function divided by the batch size."""
        activations = at_least_float32(activations)
        value = self.function(apply_mask(activations, mask))
        shape = getattr(value, "shape", ())
        if len(shape) > 0:
            raise ValueError(
                "Invalid value received for argument `penalty`. Expected a "
                "function that returns a scalar, for example `lambda h: "
                f"keras.ops.sum(h ** 4)`. Received: {self.name} returned a "
                f"tensor of shape {tuple(shape)}"
            )
        value = ops.cast(value, activations.dtype)
        batch = ops.cast(ops.shape(activations)[0], value.dtype)
        return value / safe_divisor(batch)

    def get_config(self) -> dict[str, Any]:
        """Return the arguments that re-create this penalty."""
        return {
            "function": keras.saving.serialize_keras_object(self.function),
            "coefficient": self.coefficient,
            "name": self.name,
        }

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> "FunctionPenalty":
        """Re-create a penalty from `get_config()`, under Keras's safe mode."""
        (function,) = parts("config", config, "function")
        function = described("function", function, Callable)
        return cls(**{**config, "function": function})

    def __repr__(self) -> str:
        """Show the function itself, which its configuration would not."""
        return (
            f"FunctionPenalty({self.function!r}, coefficient="
            f"{self.coefficient!r}, name={self.name!r})"
        )


def _function_name(function: Callable[[Tensor], Tensor]) -> str:
    if isinstance(function, keras.regularizers.Regularizer):
        return snake_case(type(function).__name__)
    name = getattr(function, "__name__", snake_case(type(function).__name__))
    return "lambda" if name == "<lambda>" else name
