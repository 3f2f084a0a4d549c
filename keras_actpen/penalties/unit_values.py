"""Parameters with one value per unit: constants, or functions that give them.

A function reads what is trained, for instance the norms of a decoder's rows
or the thresholds of a layer: it is called whenever the penalty is.
"""

import reprlib
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import keras
import numpy as np
from keras import ops

from keras_actpen.backend.tensors import Tensor
from keras_actpen.penalties.validation import (
    FLOAT32_MAX,
    invalid_type,
    invalid_value,
)

UnitFunction: TypeAlias = Callable[[], Tensor]
UnitValues: TypeAlias = Sequence[float] | np.ndarray | UnitFunction


def check_unit_values(argument: str, values: Any) -> np.ndarray | UnitFunction:
    """Return a vector of finite numbers >= 0, or the function as it is."""
    expected = (
        "one finite number >= 0 per unit, for example "
        f"{argument}=[1.0, 0.5], or a function without arguments that "
        "returns them"
    )
    if callable(values):
        return values
    try:
        array = np.array(ops.convert_to_numpy(values), "float64")
    except Exception:  # each backend refuses odd values in its own way
        raise invalid_type(argument, expected, values) from None
    if array.ndim != 1 or not np.all((array >= 0) & (array <= FLOAT32_MAX)):
        received = f"{argument}={reprlib.repr(values)}"
        raise invalid_value(argument, expected, received)
    return array


def evaluate_unit_values(
    argument: str, values: np.ndarray | UnitFunction, activations: Tensor
) -> Tensor:
    """The values as a tensor that goes with `activations`."""
    if callable(values):
        values = values()
    check_size(argument, tuple(values.shape), tuple(activations.shape))
    dtype = keras.backend.standardize_dtype(activations.dtype)
    return ops.convert_to_tensor(values, dtype)


def check_size(
    argument: str,
    given: tuple[int | None, ...],
    shape: tuple[int | None, ...],
) -> None:
    """Refuse values whose number is not that of the units of `shape`."""
    units = shape[-1] if shape else 1
    if units is not None and given not in ((units,), (None,)):
        raise invalid_value(
            argument,
            f"{units} numbers, one for each unit of the layer",
            f"values of shape {given}",
            f"Write {argument}=np.ones({units}) and fill in your own values.",
        )
