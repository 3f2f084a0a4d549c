"""What every optional statistic is made of."""

from typing import ClassVar

import keras
import numpy as np

from keras_actpen.attach.activation_spec import ActivationSpec
from keras_actpen.backend.tensors import Tensor
from keras_actpen.statistics.device_state import DeviceState

Values = dict[str, float | np.ndarray]


class OptionalStatistic(DeviceState):
    """State of one or more statistics of one watched tensor.

    It takes in the batches of the instrumented steps one after the other,
    each replica its own; what the replicas have seen is merged when it is
    read. The sums are float32, in units of a power of two where squares
    could overflow or vanish.

    Attributes:
        definitions: Names of the curves and images that it gives, with a
            sentence that defines each.
    """

    definitions: ClassVar[dict[str, str]]

    @classmethod
    def applies_to(
        cls, layer: keras.layers.Layer, spec: ActivationSpec, units: int | None
    ) -> bool:
        """Whether the statistic is defined at a place.

        Args:
            layer: The penalized or watched layer.
            spec: The place.
            units: Size of the last axis there, or `None` if it is not known.
        """
        return True

    @classmethod
    def of(
        cls, layer: keras.layers.Layer, units: int | None
    ) -> "OptionalStatistic":
        """New state for a place that it applies to."""
        return cls()

    def update(self, activations: Tensor, mask: Tensor | None = None) -> None:
        """Take in one batch, as part of a compiled step.

        Args:
            activations: Float tensor of shape `(batch, ..., units)`.
            mask: Boolean tensor whose axes are the first axes of
                `activations`, `False` where a position does not count, or
                `None`.
        """
        raise NotImplementedError

    def read(self) -> Values:
        """Values by name since the last `reset`, on the host.

        NaN where nothing has been seen or the value is not defined. An array
        of shape `(units,)` where there is one value per unit.
        """
        raise NotImplementedError
