"""Share of saturated activations, where the activation has bounds."""

import math
from typing import ClassVar

import keras
from keras import ops

from keras_actpen import backend
from keras_actpen.attach.activation_spec import ActivationSpec
from keras_actpen.backend.tensors import Tensor
from keras_actpen.statistics.device_state import (
    add_to_words,
    count_by_unit,
    counted_elements,
    read_words,
    state_variable,
    total,
)
from keras_actpen.statistics.optional_statistic import OptionalStatistic, Values

BOUNDS = {
    "tanh": (-1.0, 1.0),
    "hard_tanh": (-1.0, 1.0),
    "soft_sign": (-1.0, 1.0),
    "softsign": (-1.0, 1.0),
    "sigmoid": (0.0, 1.0),
    "hard_sigmoid": (0.0, 1.0),
}

# Of the way from the middle between both bounds to a bound.
SATURATED_BEYOND = 0.9


class SaturatedFraction(OptionalStatistic):
    """Share of the activations that are close to a bound.

    For the outputs of layers whose `activation` is tanh, hard_tanh, softsign,
    sigmoid or hard_sigmoid: an activation is saturated if it is further than
    90 % of the way from the middle of the range to a bound. That is
    `abs(h) > 0.9` for a range from -1 to 1, and `h < 0.05` or `h > 0.95` for
    one from 0 to 1. Other layers and pre-activations have no such curve.

    Args:
        low: Lower bound of the activations.
        high: Upper bound of the activations.
    """

    definitions: ClassVar[dict[str, str]] = {
        "saturated_fraction": (
            "Share of the finite activations beyond 90 % of the way from the "
            "middle of the activation's range to a bound: abs(h) > 0.9 for "
            "tanh, h < 0.05 or h > 0.95 for sigmoid. Only where the layer's "
            "activation has two bounds."
        )
    }

    def __init__(self, low: float, high: float):
        super().__init__()
        self.low = low
        self.high = high
        self.counts: keras.Variable = state_variable(
            (2, 2), "saturated", dtype="int"
        )

    @classmethod
    def applies_to(
        cls, layer: keras.layers.Layer, spec: ActivationSpec, units: int | None
    ) -> bool:
        """Whether it is the output of a layer with a bounded activation."""
        return spec.on == "output" and _bounds(layer) is not None

    @classmethod
    def of(
        cls, layer: keras.layers.Layer, units: int | None
    ) -> "SaturatedFraction":
        """New state for a place that it applies to."""
        return cls(*_bounds(layer))

    def update(self, activations: Tensor, mask: Tensor | None = None) -> None:
        """Take in one batch, as part of a compiled step."""
        x, counted, _ = counted_elements(activations, mask)
        middle, reach = (self.low + self.high) / 2, (self.high - self.low) / 2
        beyond = ops.abs(x - middle) > SATURATED_BEYOND * reach
        new = [
            total(count_by_unit(condition))
            for condition in (counted, ops.logical_and(counted, beyond))
        ]
        words = ops.convert_to_tensor(self.counts)
        self.counts.assign(add_to_words(words, ops.stack(new)))

    def read(self) -> Values:
        """The share, NaN if nothing has been seen."""
        seen, saturated = sum(
            map(read_words, backend.local_values(self.counts))
        ).tolist()
        share = saturated / seen if seen else math.nan
        return {"saturated_fraction": share}


def _bounds(layer: keras.layers.Layer) -> tuple[float, float] | None:
    activation = getattr(layer, "activation", None)
    return BOUNDS.get(getattr(activation, "__name__", None))
