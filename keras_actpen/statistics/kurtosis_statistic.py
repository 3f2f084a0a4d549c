"""Kurtosis of the activations: how heavy their tails are."""

import math
from typing import ClassVar

import keras
from keras import ops

from keras_actpen import backend
from keras_actpen.backend.tensors import Tensor
from keras_actpen.statistics.device_state import (
    count_by_unit,
    counted_elements,
    largest,
    power_of_two,
    state_variable,
    total,
)
from keras_actpen.statistics.moments import Moments, merge_all
from keras_actpen.statistics.optional_statistic import OptionalStatistic, Values


class KurtosisStatistic(OptionalStatistic):
    """Fourth central moment divided by the square of the second.

    3 for normal activations, 1.8 for uniform ones; NaN if all are equal. The
    moments are taken around the batch's mean, in two passes, and merged.
    """

    definitions: ClassVar[dict[str, str]] = {
        "kurtosis": (
            "Fourth central moment of all finite activations divided by the "
            "square of their variance: 3 if they are normal, 1.8 if uniform, "
            "large if a few are far out."
        )
    }

    def __init__(self):
        super().__init__()
        # The moments, in units of the scale, and the scale.
        self.moments: keras.Variable = state_variable((6,), "kurtosis")

    def update(self, activations: Tensor, mask: Tensor | None = None) -> None:
        """Take in one batch, as part of a compiled step."""
        x, counted, _ = counted_elements(activations, mask)
        *old, old_scale = ops.unstack(ops.convert_to_tensor(self.moments), 6)
        scale = ops.maximum(old_scale, power_of_two(largest(x, counted)))
        count = ops.cast(total(count_by_unit(counted)), "float32")
        n = ops.maximum(count, 1.0)
        x = ops.where(counted, x, 0.0) / scale
        mean = backend.precise_sum(x) / n
        deviation = ops.where(counted, x - mean, 0.0)
        correction = backend.precise_sum(deviation) / n
        deviation = ops.where(counted, deviation - correction, 0.0)
        square = ops.square(deviation)
        second, third, fourth = (
            backend.precise_sum(power) / n
            for power in (square, square * deviation, square * square)
        )
        # The rounding error of a mean is not a spread.
        low = ops.min(ops.where(counted, x, math.inf), initial=math.inf)
        high = ops.max(ops.where(counted, x, -math.inf), initial=-math.inf)
        spread = ops.cast(low < high, "float32")
        new = Moments(
            count,
            ops.where(ops.equal(low, high), low, mean + correction),
            spread * second,
            spread * third,
            spread * fourth,
        )
        old = Moments(*old)
        merged = old.scaled(old_scale / scale).merge(
            new, ops.maximum(old.n + count, 1.0)
        )
        self.moments.assign(ops.stack([*merged, scale]))

    def read(self) -> Values:
        """The kurtosis, NaN if it is not defined."""
        replicas = []
        for local in backend.local_values(self.moments):
            *moments, scale = local.astype("float64").tolist()
            replicas.append(Moments(*moments).scaled(scale))
        moments = merge_all(replicas)
        if not moments.second:
            return {"kurtosis": math.nan}
        return {"kurtosis": moments.fourth / moments.second**2}
