"""Values of single units, as data for users."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from keras_actpen.attach.activation_spec import ActivationSpec
from keras_actpen.statistics.optional_statistic import Values
from keras_actpen.statistics.snapshot import Snapshots, StatisticsSnapshot


@dataclass(frozen=True, eq=False)
class UnitValues:
    """What each unit of a layer does: arrays of shape `(units,)`.

    Judged by n positions, a unit is dead if `since_fired >= n`.

    Attributes:
        rate: Share of the positions at which the unit is finite and not 0,
            NaN if there were none.
        since_fired: Number of positions since it was last not 0, all
            positions if it never was.
        positions: Number of all positions.
        mean: Mean of its finite activations, NaN if there were none; `None`
            if means were not taken.
        max: The largest of them, NaN or `None` likewise.
        rms: Their root mean square, NaN or `None` likewise.
    """

    rate: np.ndarray
    since_fired: np.ndarray
    positions: int
    mean: np.ndarray | None = None
    max: np.ndarray | None = None
    rms: np.ndarray | None = None


def spec_name(path: str, spec: ActivationSpec) -> str:
    """A watched place as a key: `dense_4`, `dense_4 (preactivation)`."""
    return path if spec == ActivationSpec() else f"{path} ({spec})"


def unit_values(
    snapshots: Snapshots, optional: Mapping[Any, Values]
) -> dict[str, UnitValues]:
    """Values of the units that were followed in an epoch.

    Args:
        snapshots: Activation statistics by path and place.
        optional: Values of the optional statistics likewise.
    """
    return {
        spec_name(*key): UnitValues(
            rate=_rates(seen),
            since_fired=seen.since_fired,
            positions=seen.positions,
            rms=optional.get(key, {}).get("unit_rms"),
        )
        for key, seen in snapshots.items()
        if seen.since_fired is not None
    }


def _rates(seen: StatisticsSnapshot) -> np.ndarray:
    """Firing rates, NaN where no step of the epoch was instrumented."""
    if seen.firing_rates is None:
        return np.full(len(seen.since_fired), np.nan)
    return seen.firing_rates
