"""Base classes of all penalties: coefficient, reduction, name, target."""

import math
import numbers
import re
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import keras
import numpy as np
from keras import ops

from keras_actpen.backend.tensors import Activation, Tensor
from keras_actpen.penalties.reductions import apply_mask, divide, reduce
from keras_actpen.penalties.targets import check_rank

REDUCTIONS = ("batch", "mean", "sum")
FLOAT32_MAX = float(np.finfo("float32").max)

Choice = TypeVar("Choice")


def check_number(
    argument: str,
    value: Any,
    expected: str,
    suits: Callable[[float], bool] = lambda value: True,
) -> float:
    """Return `value` as a float if it is finite and `suits(value)`.

    Args:
        argument: Name of the argument, for the message.
        value: What was passed for it.
        expected: What to write, for the message: it follows "Expected".
        suits: Says whether a finite number is in range.

    Raises:
        TypeError: If `value` is not a real number.
        ValueError: If `value` is not finite or not in range.
    """
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise TypeError(
            f"Invalid type received for argument `{argument}`. Expected "
            f"{expected}. Received: {argument}={value!r} (of type "
            f"{type(value).__name__})"
        )
    try:
        number = float(value)
    except OverflowError:  # of a long integer
        number = math.inf
    if not math.isfinite(number) or not suits(number):
        raise ValueError(
            f"Invalid value received for argument `{argument}`. Expected "
            f"{expected}. Received: {argument}={value!r}"
        )
    return number


def check_coefficient(argument: str, value: Any) -> float:
    """Return `value` as a float if it is a finite number >= 0.

    Raises:
        TypeError: If `value` is not a real number.
        ValueError: If `value` is negative, NaN or infinite, or infinite in
            float32, which the device keeps coefficients in.
    """
    number = check_number(
        argument,
        value,
        f"a finite number >= 0, for example {argument}=0.01",
        lambda value: value >= 0,
    )
    return check_number(
        argument,
        number,
        f"a number that float32 can hold, for example {argument}=0.01",
        lambda value: value <= FLOAT32_MAX,
    )


def check_choice(
    argument: str, value: Choice, choices: tuple[Any, ...]
) -> Choice:
    """Return `value` if it is one of `choices`.

    Raises:
        ValueError: If it is not.
    """
    if not any(value is choice or value == choice for choice in choices):
        raise ValueError(
            f"Invalid value received for argument `{argument}`. Expected "
            f"one of {choices}. Received: {argument}={value!r}"
        )
    return value


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


def snake_case(name: str) -> str:
    """Snake-case form of a class name as Keras writes it: `L1L2`, `l1_l2`."""
    name = re.sub(r"(.)([A-Z][a-z0-9]+)", r"\1_\2", name)
    return re.sub(r"([a-z])([A-Z])", r"\1_\2", name).lower()


def at_least_float32(x: Tensor) -> Tensor:
    """Cast half-precision activations to float32, leave wider ones alone."""
    if not ops.is_tensor(x):
        x = ops.convert_to_tensor(x)
    if keras.backend.standardize_dtype(x.dtype) in ("float32", "float64"):
        return x
    return ops.cast(x, "float32")


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

    A subclass with parameters of its own also extends `get_config`, one that
    suits only some outputs `check_target`.

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
        self.coefficient: float = check_coefficient("coefficient", coefficient)
        self.reduction: str = check_choice("reduction", reduction, REDUCTIONS)
        if name is None:
            name = snake_case(type(self).__name__)
        self.name: str = check_term_name(name)

    def unreduced(self, activations: Tensor) -> Tensor:
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

    def value(self, activations: Tensor, mask: Tensor | None = None) -> Tensor:
        """The penalty without its coefficient.

        Args:
            activations: Float tensor of shape `(batch, ..., units)`.
            mask: Boolean tensor of shape `(batch, ...)`, `False` where a
                position does not count, or `None`.

        Returns:
            Scalar of dtype float32, float64 for float64 activations; 0 if
            no position counts.
        """
        activations = apply_mask(at_least_float32(activations), mask)
        return reduce(self.unreduced(activations), mask, self.reduction)

    def __call__(
        self, activations: Tensor, mask: Tensor | None = None
    ) -> Tensor:
        """Coefficient times `value(activations, mask)`."""
        return self.coefficient * self.value(activations, mask)

    def check_target(
        self, output: Tensor, activation: Activation | None, on: str
    ) -> None:
        """Refuse a layer's output that this penalty cannot suit.

        Called when the penalty is attached. The default accepts everything.

        Args:
            output: Symbolic tensor with `shape` and `dtype`: what is
                penalised.
            activation: The layer's `activation`, or `None` if it has none.
            on: `"output"` or `"preactivation"`.

        Raises:
            ValueError: If this output does not suit.
        """

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
        arguments = ", ".join(
            f"{k}={v!r}" for k, v in self.get_config().items()
        )
        return f"{type(self).__name__}({arguments})"


class SumPenalty(Penalty):
    """A sum over all elements that is 0 where they are 0.

    Masked elements leave it by being set to 0, so that the sum may be taken
    by a fast path that never holds the summands.
    """

    def total(self, activations: Tensor) -> Tensor:
        """Sum of the penalty over all elements.

        Args:
            activations: Float32 or float64 tensor; masked positions hold 0.
        """
        raise NotImplementedError

    def value(self, activations: Tensor, mask: Tensor | None = None) -> Tensor:
        """The penalty without its coefficient."""
        activations = apply_mask(at_least_float32(activations), mask)
        total = self.total(activations)
        return divide(total, activations, mask, self.reduction)


class PositionPenalty(Penalty):
    """A penalty that has one value a position: it needs a units axis."""

    least_rank = 2

    def check_target(
        self, output: Tensor, activation: Activation | None, on: str
    ) -> None:
        """Refuse outputs without an axis of units."""
        check_rank(self, output, self.least_rank)


class FixedPenalty(Penalty):
    """A mean over all axes or a statistic of the batch: no `reduction`.

    It is divided by the number of positions (or elements) that count, by its
    definition.

    Args:
        coefficient: Finite number >= 0, the factor of the penalty.
        name: Name of the term. Defaults to the snake-case class name.
    """

    least_rank = 1

    def __init__(self, coefficient: float = 1.0, *, name: str | None = None):
        super().__init__(coefficient, reduction="mean", name=name)

    def check_target(
        self, output: Tensor, activation: Activation | None, on: str
    ) -> None:
        """Refuse outputs of too small a rank."""
        check_rank(self, output, self.least_rank)

    def get_config(self) -> dict[str, Any]:
        """Return the arguments that re-create this penalty."""
        config = super().get_config()
        del config["reduction"]
        return config
