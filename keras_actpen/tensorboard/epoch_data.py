"""What an epoch is written with: what steps recorded, what logs report."""

from collections.abc import Container, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import keras
import numpy as np

from keras_actpen import backend
from keras_actpen.attach.activation_spec import ActivationSpec
from keras_actpen.statistics.optional import Values
from keras_actpen.statistics.snapshot import Snapshots
from keras_actpen.tensorboard.records import in_utf8

PHASES = ("train", "validation")

# The terms and coefficients, which have tags of their own.
_WRITTEN_ELSEWHERE = ("penalty/", "penalty.coefficient/")
# dtype kinds of NumPy that hold no numbers: texts, dates, complex numbers.
_NO_NUMBERS = "SUMmc"


@dataclass(frozen=True)
class Recorded:
    """What the steps of an epoch's training or validation have recorded.

    Attributes:
        means: Coefficient times value of every term, by `penalty/...`.
        snapshots: Statistics of the activations by path and place.
        optional: Values of the optional statistics, likewise.
        unused: Keys of the terms that are not in the loss.
    """

    means: Mapping[str, float]
    snapshots: Snapshots = field(default_factory=dict)
    optional: Mapping[tuple[str, ActivationSpec], Values] = field(
        default_factory=dict
    )
    unused: Container[str] = ()

    @property
    def in_loss(self) -> dict[str, float]:
        """What each term adds to the loss."""
        return {
            key: 0.0 if key in self.unused else value
            for key, value in self.means.items()
        }


def by_phase(
    logs: Mapping[Any, Any], trained: Container[str]
) -> dict[str, dict[str, Any]]:
    """Losses and metrics of training and of validation, by their own names.

    Args:
        logs: What `on_epoch_end` is given. A key may be anything there.
        trained: Keys that the training itself has reported: a metric may be
            called `val_like`.
    """
    phases: dict[str, dict[str, Any]] = {phase: {} for phase in PHASES}
    for given, value in logs.items():
        key = in_utf8(str(given))
        is_validation = key.startswith("val_") and given not in trained
        name = key.removeprefix("val_") if is_validation else key
        if not name.startswith(_WRITTEN_ELSEWHERE):
            phases[PHASES[is_validation]][name] = value
    return phases


def numbers(values: Mapping[str, Any]) -> Iterator[tuple[str, str, float]]:
    """Key, name of the curve and number of all that has one.

    An array has a curve an element, `f1_score/0`, `f1_score/1`, ...; whatever
    is not a number has none.
    """
    for key, value in values.items():
        array = _array(value)
        if array is None:
            continue
        for index, number in np.ndenumerate(array):
            element = ",".join(map(str, index))
            yield key, f"{key}/{element}" if index else key, float(number)


def number(value: Any) -> float | None:
    """The number that a value is, `None` if it is none or several."""
    array = _array(value)
    return None if array is None or array.ndim else float(array)


def _array(value: Any) -> np.ndarray | None:
    """A value as float64, `None` if it holds anything but numbers."""
    if type(value) is float:  # nearly all are: no need to look further
        return np.asarray(value)
    try:
        if isinstance(value, keras.Variable):
            value = backend.local_values(value)[0]
        elif keras.ops.is_tensor(value):
            # TensorFlow (2.21) gives NumPy no scalar in bfloat16.
            rows = keras.ops.expand_dims(value, 0)
            value = keras.ops.convert_to_numpy(rows)[0]
        array = np.asarray(value)
        # float64 would take texts of digits, and None as NaN.
        if value is None or array.dtype.kind in _NO_NUMBERS or not array.size:
            return None
        if array.dtype.kind == "O" and array.ndim:
            return None
        return array.astype("float64")
    except Exception:  # whatever an object of the user's does
        return None
