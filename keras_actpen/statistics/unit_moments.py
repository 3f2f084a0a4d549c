"""What single units do: dormant ones, and their root mean squares."""

import math
from typing import ClassVar

import keras
import numpy as np
from keras import ops

from keras_actpen import backend
from keras_actpen.attach.activation_spec import ActivationSpec
from keras_actpen.backend.tensors import Tensor
from keras_actpen.statistics.device_state import (
    count_by_unit,
    counted_elements,
    largest,
    power_of_two,
    state_variable,
)
from keras_actpen.statistics.optional_statistic import OptionalStatistic, Values

DORMANT_BELOW = 0.025


class _UnitMeans(OptionalStatistic):
    """Mean of a power of the absolute activation, for each unit.

    Args:
        units: Number of units.
    """

    power: int

    def __init__(self, units: int):
        super().__init__()
        self.units = units
        # Scale, then for each unit how many elements and their sum.
        self.sums: keras.Variable = state_variable(
            (1 + 2 * units,), "unit_sums"
        )

    @classmethod
    def applies_to(
        cls, layer: keras.layers.Layer, spec: ActivationSpec, units: int | None
    ) -> bool:
        """Whether the number of units is known."""
        return units is not None

    @classmethod
    def of(cls, layer: keras.layers.Layer, units: int | None) -> "_UnitMeans":
        """New state for a place that it applies to."""
        return cls(units)

    def update(self, activations: Tensor, mask: Tensor | None = None) -> None:
        """Take in one batch, as part of a compiled step."""
        x, counted, _ = counted_elements(activations, mask)
        state = ops.convert_to_tensor(self.sums)
        scale = ops.maximum(state[0], power_of_two(largest(x, counted)))
        size = ops.abs(ops.where(counted, x, 0.0)) / scale
        new = backend.precise_sum(
            size**self.power, axis=tuple(range(len(x.shape) - 1))
        )
        counts = state[1 : 1 + self.units] + count_by_unit(counted)
        rescale = (state[0] / scale) ** self.power
        sums = state[1 + self.units :] * rescale + new
        self.sums.assign(ops.concatenate([ops.stack([scale]), counts, sums]))

    def means(self) -> np.ndarray:
        """The means, NaN for a unit that has not been seen."""
        counts, sums = 0.0, 0.0
        for local in backend.local_values(self.sums):
            scale, *state = local.astype("float64").tolist()
            of_replica, powers = np.split(np.array(state), 2)
            counts = counts + of_replica
            sums = sums + powers * scale**self.power
        seen = counts > 0
        means = np.full(self.units, math.nan)
        means[seen] = sums[seen] / counts[seen]
        return means


class DormantFraction(_UnitMeans):
    """Share of the units that are far less active than the average one.

    A unit is dormant if its mean absolute activation is at most 0.025 of the
    mean of all units' (Sokar et al. 2023, "The Dormant Neuron Phenomenon in
    Deep Reinforcement Learning"). If all activations are 0, all units are
    dormant. Units without a finite activation are left out.
    """

    power = 1
    definitions: ClassVar[dict[str, str]] = {
        "dormant_fraction": (
            "Share of the units whose mean absolute activation is at most "
            "0.025 of the average unit's (Sokar et al. 2023)."
        )
    }

    def read(self) -> Values:
        """The share, NaN if nothing has been seen."""
        means = self.means()
        means = means[~np.isnan(means)]
        if not means.size:
            return {"dormant_fraction": math.nan}
        dormant = means <= DORMANT_BELOW * means.mean()
        return {"dormant_fraction": float(dormant.mean())}


class UnitRms(_UnitMeans):
    """Root mean square of every unit's finite activations."""

    power = 2
    definitions: ClassVar[dict[str, str]] = {
        "unit_rms": "Root mean square of each unit's finite activations."
    }

    def read(self) -> Values:
        """An array of shape `(units,)`."""
        return {"unit_rms": np.sqrt(self.means())}
