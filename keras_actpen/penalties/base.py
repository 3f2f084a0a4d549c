"""Base class of all penalties: coefficient, reduction, masks, dtype."""

import math
import numbers
import re
from collections.abc import Callable, Mapping
from typing import Any

import keras
from keras import ops

from keras_actpen import backend

REDUCTIONS = ("batch", "mean", "sum")


def check_coefficient(argument: str, value: Any) -> float:
    """Return `value` as a float if it is a finite number >= 0.

    Raises:
        TypeError: If `value` is not a real number.
        ValueError: If `value` is negative, NaN or infinite.
    """
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise TypeError(
            f"Invalid type received for argument `{argument}`. Expected a "
            f"finite number >= 0, for example {argument}=0.01. Received: "
            f"{argument}={value!r} (of type {type(value).__name__})"
        )
    if not math.isfinite(value) or value < 0:
        raise ValueError(
            f"Invalid value received for argument `{argument}`. Expected a "
            f"finite number >= 0, for example {argument}=0.01. Received: "
            f"{argument}={value!r}"
        )
    return float(value)


def snake_case(name: str) -> str:
    """Snake-case form of a class name as Keras writes it: `L1L2`, `l1_l2`."""
    name = re.sub(r"(.)([A-Z][a-z0-9]+)", r"\1_\2", name)
    return re.sub(r"([a-z])([A-Z])", r"\1_\2", name).lower()


def at_least_float32(x):
    """Cast half-precision activations to float32, leave wider ones alone."""
    if keras.backend.standardize_dtype(x.dtype) in ("float32", "float64"):
        return x
    return ops.cast(x, "float32")


def expand_mask(mask, rank: int):
    """Append axes of size 1 to a boolean `mask` until it has rank `rank`."""
    while len(mask.shape) < rank:
        mask = ops.expand_dims(mask, -1)
    return ops.cast(mask, "bool")


def apply_mask(activations, mask):
    """Set masked positions to 0, whatever they hold (NaN and inf too)."""
    if mask is None:
        return activations
    mask = expand_mask(mask, len(activations.shape))
    return ops.where(mask, activations, ops.zeros_like(activations))


def _size(x):
    """Number of elements of `x` as a float, dynamic axes included."""
    return ops.cast(ops.prod(ops.shape(x)), "float32")


def reduce(values, mask, reduction: str):
    """Reduce unreduced penalty values to one scalar.

    Args:
        values: Float tensor of shape `(batch, ...)`.
        mask: Boolean tensor whose axes are the first axes of `values`, or
            `None`. Where it is `False` a value leaves the sum, and the
            divisor of `"mean"`.
        reduction: `"batch"` divides the sum by the batch size, `"mean"` by
            the number of values that count, `"sum"` by nothing.
    """
    total = ops.sum(apply_mask(values, mask))
    if reduction == "sum":
        # Keras divides added losses by the number of replicas.
        return total * backend.replica_count()
    if reduction == "batch":
        divisor = ops.cast(ops.shape(values)[0], total.dtype)
    elif mask is None:
        divisor = ops.cast(_size(values), total.dtype)
    else:
        counted = ops.broadcast_to(
            expand_mask(mask, len(values.shape)), ops.shape(values)
        )
        divisor = ops.sum(ops.cast(counted, total.dtype))
    return ops.divide_no_nan(total, backend.replica_mean(divisor))


class Penalty:
    """A scalar function of a layer's activations, times a coefficient.

    Subclasses write `unreduced`, or `value` if the penalty is not a sum over
    elements or positions. Ten lines are enough:

    ```python
    @keras.saving.register_keras_serializable(package="my_package")
    class FourthPower(keras_actpen.penalties.Penalty):
        def unreduced(self, activations):
            return activations**4

    model = attach_penalty(model, "dense_4", FourthPower(0.001))
    ```

    A subclass with parameters of its own also extends `get_config`.

    Args:
        coefficient: Finite number >= 0, the factor of the penalty.
        reduction: `"batch"`: the sum divided by the batch size, as Keras's
            `activity_regularizer`. `"mean"`: the sum divided by the number of
            values that count, so that it does not change with batch, width or
            length. `"sum"`: the sum.
        name: Name of the term in logs and TensorBoard. Defaults to the
            snake-case class name.

    Raises:
        TypeError: If `coefficient` or `name` has the wrong type.
        ValueError: If `coefficient` is negative or not finite, or
            `reduction` is unknown.
    """

    def __init__(
        self,
        coefficient: float = 1.0,
        *,
        reduction: str = "batch",
        name: str | None = None,
    ):
        if reduction not in REDUCTIONS:
            raise ValueError(
                "Invalid value received for argument `reduction`. Expected "
                f"one of {REDUCTIONS}. Received: reduction={reduction!r}"
            )
        self.coefficient = check_coefficient("coefficient", coefficient)
        self.reduction = reduction
        self.name = check_term_name(name or snake_case(type(self).__name__))

    def unreduced(self, activations):
        """Penalty of every element or of every position.

        Args:
            activations: Float32 or float64 tensor of shape
                `(batch, ..., units)`; masked positions hold 0.

        Returns:
            Tensor of shape `(batch, ..., units)` or `(batch, ...)`.
        """
        raise NotImplementedError(
            f"{type(self).__name__} must define `unreduced(activations)` or "
            "`value(activations, mask)`."
        )

    def value(self, activations, mask=None):
        """The penalty without its coefficient.

        Args:
            activations: Float tensor of shape `(batch, ..., units)`.
            mask: Boolean tensor of shape `(batch, ...)`, `False` where a
                position does not count, or `None`.

        Returns:
            Scalar of dtype float32, float64 for float64 activations.
        """
        activations = apply_mask(at_least_float32(activations), mask)
        return reduce(self.unreduced(activations), mask, self.reduction)

    def __call__(self, activations, mask=None):
        """Coefficient times `value(activations, mask)`."""
        return self.coefficient * self.value(activations, mask)

    def get_config(self) -> dict[str, Any]:
        """Return the arguments that re-create this penalty."""
        return {
            "coefficient": self.coefficient,
            "reduction": self.reduction,
            "name": self.name,
        }

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> "Penalty":
        """Re-create a penalty from `get_config()`."""
        return cls(**config)

    def __repr__(self) -> str:
        """Show the class with its arguments."""
        arguments = ", ".join(f"{k}={v!r}" for k, v in self.get_config().items())
        return f"{type(self).__name__}({arguments})"


def check_term_name(name: Any) -> str:
    """Return `name` if it can name a term in logs and in TensorBoard tags.

    Raises:
        TypeError: If `name` is not a string.
        ValueError: If `name` is empty or holds a slash.
    """
    if not isinstance(name, str):
        raise TypeError(
            "Invalid type received for argument `name`. Expected a string, "
            f"for example name='sparsity'. Received: name={name!r} (of type "
            f"{type(name).__name__})"
        )
    if not name or "/" in name:
        raise ValueError(
            "Invalid value received for argument `name`. Expected a "
            "non-empty string without '/', for example name='sparsity'. "
            f"Received: name={name!r}"
        )
    return name


@keras.saving.register_keras_serializable(package="keras_actpen")
class FunctionPenalty(Penalty):
    """A plain function or a Keras regularizer as a penalty.

    Its value is divided by the batch size, as Keras does for
    `activity_regularizer`. The function sees the activations in float32 or
    wider, with masked positions set to 0.

    Args:
        function: Callable `f(activations) -> scalar`, for instance a
            `keras.regularizers.Regularizer`.
        coefficient: Finite number >= 0, the factor of the function's value.
        name: Name of the term. Defaults to the function's name, or the
            regularizer's snake-case class name.
    """

    def __init__(
        self,
        function: Callable[[Any], Any],
        coefficient: float = 1.0,
        *,
        name: str | None = None,
    ):
        super().__init__(coefficient, name=name or _function_name(function))
        self.function = function

    def value(self, activations, mask=None):
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
        return ops.divide_no_nan(value, backend.replica_mean(batch))

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
        config = dict(config)
        config["function"] = keras.saving.deserialize_keras_object(
            config["function"]
        )
        return cls(**config)


def _function_name(function: Callable[[Any], Any]) -> str:
    if isinstance(function, keras.regularizers.Regularizer):
        return snake_case(type(function).__name__)
    name = getattr(function, "__name__", snake_case(type(function).__name__))
    return "lambda" if name == "<lambda>" else name
