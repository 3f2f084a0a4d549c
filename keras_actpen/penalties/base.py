"""Base classes of all penalties.

A new penalty derives from

- `Penalty` if it has a value for every element or every position: write
  `unreduced`.
- `SumPenalty` if it is a sum over elements for which the backend has a fast
  path: write `total`.
- `FixedPenalty` if its definition fixes the divisor, so that it has no
  `reduction`: write `unreduced` or `value`.
- `BatchPenalty` if it is a statistic of units over a batch: write `statistic`.

A class of this package declares as `_target` what it requires of its target.
It is registered with Keras and found by `penalties.get` because its module is
in this folder.
"""

import re
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Literal, TypeAlias

import numpy as np
from keras import ops

from keras_actpen.backend.tensors import Activation, Tensor
from keras_actpen.internals.deserialization import described
from keras_actpen.internals.registration import serializable
from keras_actpen.penalties.configuration import (
    arguments_of,
    arguments_to_save,
    serialized,
)
from keras_actpen.penalties.reductions import (
    BatchStatistics,
    apply_mask,
    at_least_float32,
    divide,
    reduce,
)
from keras_actpen.penalties.targets import Target
from keras_actpen.penalties.validation import (
    check_choice,
    check_coefficient,
    check_term_name,
)

Reduction: TypeAlias = Literal["batch", "mean", "sum", "position"]

# The classes that are defined in this folder, by all of their names.
REGISTRY: dict[str, type["Penalty"]] = {}


def snake_case(name: str) -> str:
    """Snake-case form of a class name as Keras writes it: `L1L2`, `l1_l2`."""
    name = re.sub(r"(.)([A-Z][a-z0-9]+)", r"\1_\2", name)
    return re.sub(r"([a-z])([A-Z])", r"\1_\2", name).lower()


class Penalty:
    """A scalar function of a layer's activations, times a coefficient.

    Subclasses write `unreduced`, or `value` if the penalty is not a sum over
    elements or positions. Ten lines are enough:

    ```python
    @keras.saving.register_keras_serializable(package="my_package")
    class Power(keras_actpen.penalties.Penalty):
        def __init__(self, coefficient=1.0, *, exponent=4, **options):
            super().__init__(coefficient, **options)
            self.exponent = exponent

        def unreduced(self, activations):
            return keras.ops.abs(activations) ** self.exponent

    model = attach_penalty(model, "dense_4", Power(0.001, exponent=3))
    ```

    `get_config` takes the arguments of `__init__` from the attributes of the
    same names; override it where they differ. Override `check_target` if the
    penalty suits some outputs only. Before a subclass sees activations they
    are cast to float32, unless they are wider, and masked positions are left
    out of sums and divisors.

    Args:
        coefficient: Finite number >= 0, the factor of the penalty.
        reduction: `"batch"`: the sum divided by the batch size, as Keras's
            `activity_regularizer`. `"mean"`: the sum divided by the number of
            values that count, so that it does not change with batch, width or
            length. `"position"`: the sum divided by the number of positions
            that count, such as the steps of a sequence, so that it does not
            change with batch or length. `"sum"`: the sum.
        name: Name of the term in logs and TensorBoard. Defaults to the
            snake-case class name.

    Raises:
        TypeError: If `coefficient` or `name` has the wrong type.
        ValueError: If `coefficient` is negative or not finite, or
            `reduction` is unknown.
    """

    _target: ClassVar[Target] = Target()
    _reductions: ClassVar[tuple[Reduction, ...]] = (
        "batch",
        "mean",
        "sum",
        "position",
    )
    _short_name: ClassVar[str | None] = None

    def __init_subclass__(cls, **options: Any) -> None:
        """Register a class that is defined in a module of this folder."""
        super().__init_subclass__(**options)
        package, _, module = cls.__module__.rpartition(".")
        if package != __name__.rpartition(".")[0] or module == "base":
            return
        serializable(cls)
        if module != "functions":  # a name does not say which function
            name = cls.__name__
            names = (name, snake_case(name), cls._short_name or name)
            REGISTRY.update(dict.fromkeys(names, cls))

    def __init__(
        self,
        coefficient: float = 1.0,
        *,
        reduction: Reduction = "batch",
        name: str | None = None,
    ):
        self.coefficient: float = check_coefficient("coefficient", coefficient)
        self.reduction: Reduction = check_choice(
            "reduction", reduction, type(self)._reductions
        )
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
        values = self.unreduced(activations)
        positions = len(activations.shape) - 1
        return reduce(values, mask, self.reduction, positions)

    def weight_value(self, weight: Tensor) -> Tensor:
        """The penalty on a weight of a layer, without its coefficient.

        By default that of a batch of one sample: a sum is not divided, as
        Keras does not divide a `kernel_regularizer`.

        Args:
            weight: Float tensor of shape `(..., units)`.

        Returns:
            Scalar, as `value`.
        """
        return self.value(ops.expand_dims(weight, 0))

    def __call__(
        self, activations: Tensor, mask: Tensor | None = None
    ) -> Tensor:
        """Coefficient times `value(activations, mask)`."""
        return self.coefficient * self.value(activations, mask)

    def check_target(
        self, output: Tensor, activation: Activation | None, on: str
    ) -> None:
        """Refuse a layer's output that this penalty cannot suit.

        Called when the penalty is attached. By default a penalty accepts
        every output; with `reduction="position"`, every output that has an
        axis of units.

        Args:
            output: Symbolic tensor with `shape` and `dtype`: what is
                penalized.
            activation: The layer's `activation`, or `None` if it has none.
            on: What is penalized, such as `"output"` or `"preactivation"`.

        Raises:
            ValueError: If this output does not suit.
        """
        if self.reduction == "position":
            Target(rank=2).check(self, output, activation, on)
        # Not of `self`, which may have an attribute `_target` of its own.
        type(self)._target.check(self, output, activation, on)

    def get_config(self) -> dict[str, Any]:
        """Return the arguments that re-create this penalty."""
        return {
            name: serialized(getattr(self, name))
            for name in arguments_to_save(type(self), Penalty)
            if hasattr(self, name)
        }

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> "Penalty":
        """Re-create a penalty from `get_config()`, under Keras's safe mode."""
        functions = {
            name: described(name, config[name], Callable)
            for name in arguments_to_save(cls, Penalty)
            if isinstance(config.get(name), Mapping)
        }
        return cls(**{**config, **functions})

    def __repr__(self) -> str:
        """Show the class with its arguments, long arrays abridged."""
        # Not by `get_config`, which fails for what cannot be saved.
        with np.printoptions(threshold=8, linewidth=200):
            arguments = ", ".join(
                f"{name}={getattr(self, name)!r}"
                for name in arguments_of(type(self))
                if hasattr(self, name)
            )
        return f"{type(self).__name__}({arguments})"


class SumPenalty(Penalty):
    """A sum over all elements that is 0 where they are 0.

    Masked elements are set to 0, which takes them out of the sum; so a fast
    path may compute the sum without ever holding the summands.
    """

    def total(self, activations: Tensor) -> Tensor:
        """Sum of the penalty over all elements; masked positions hold 0."""
        raise NotImplementedError

    def value(self, activations: Tensor, mask: Tensor | None = None) -> Tensor:
        """The penalty without its coefficient."""
        activations = apply_mask(at_least_float32(activations), mask)
        total = self.total(activations)
        positions = len(activations.shape) - 1
        return divide(total, activations, mask, self.reduction, positions)


class FixedPenalty(Penalty):
    """A mean over all axes or a statistic of the batch: no `reduction`.

    Args:
        coefficient: Finite number >= 0, the factor of the penalty.
        name: Name of the term. Defaults to the snake-case class name.
    """

    _target = Target(rank=1)

    def __init__(self, coefficient: float = 1.0, *, name: str | None = None):
        super().__init__(coefficient, reduction="mean", name=name)


class BatchPenalty(FixedPenalty):
    """A statistic of units over all counted positions of a batch."""

    _target = Target(rank=2)

    def statistic(self, batch: BatchStatistics) -> Tensor:
        """The penalty without its coefficient."""
        raise NotImplementedError

    def value(self, activations: Tensor, mask: Tensor | None = None) -> Tensor:
        """The penalty without its coefficient."""
        activations = at_least_float32(activations)
        return self.statistic(BatchStatistics(activations, mask))
