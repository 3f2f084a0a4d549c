"""Statistics that PenaltyMonitor takes only if they are asked for by name."""

import difflib
from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypeAlias

from keras_actpen.penalties.validation import invalid_type, invalid_value
from keras_actpen.statistics.covariance_spectrum import CovarianceSpectrum
from keras_actpen.statistics.kurtosis_statistic import KurtosisStatistic
from keras_actpen.statistics.optional_statistic import (
    OptionalStatistic,
    Values,
)
from keras_actpen.statistics.quantile_sketch import SHARES, QuantileSketch
from keras_actpen.statistics.saturated_fraction import SaturatedFraction
from keras_actpen.statistics.unit_moments import DormantFraction, UnitRms

__all__ = [
    "CURVES",
    "DEFINITIONS",
    "IMAGES",
    "STATES",
    "OptionalStatistic",
    "StatisticName",
    "Values",
    "check_names",
]

StatisticName: TypeAlias = Literal[
    "quantiles",
    "kurtosis",
    "participation_ratio",
    "stable_rank",
    "effective_rank",
    "dormant_fraction",
    "saturated_fraction",
    "unit_rms",
]

# The state that each statistic is read from; one may serve several.
STATES: dict[StatisticName, type[OptionalStatistic]] = {
    "quantiles": QuantileSketch,
    "kurtosis": KurtosisStatistic,
    "participation_ratio": CovarianceSpectrum,
    "stable_rank": CovarianceSpectrum,
    "effective_rank": CovarianceSpectrum,
    "dormant_fraction": DormantFraction,
    "saturated_fraction": SaturatedFraction,
    "unit_rms": UnitRms,
}

# Those that have a value for each unit, shown as an image.
IMAGES = {"unit_rms"}

# Tags of each statistic's curves, or of its image.
CURVES: dict[str, tuple[str, ...]] = {
    name: tuple(SHARES) if name == "quantiles" else (name,) for name in STATES
}

DEFINITIONS: dict[str, str] = {
    curve: STATES[name].definitions[curve]
    for name, curves in CURVES.items()
    for curve in curves
}


def check_names(
    names: Any,
    argument: str = "statistics",
    known: Mapping[Any, Any] = STATES,
) -> tuple[str, ...]:
    """Names of statistics as a tuple.

    Args:
        names: What was given.
        argument: Name of the argument that was given.
        known: The statistics that there are, by name.

    Raises:
        TypeError: If `names` is not a sequence of strings.
        ValueError: If there is no statistic of a name.
    """
    example = next(iter(known))
    if (
        isinstance(names, str)
        or not isinstance(names, Sequence)
        or not all(isinstance(name, str) for name in names)
    ):
        raise invalid_type(
            argument,
            f"a sequence of names, for example {argument}=({example!r},)",
            names,
        )
    for name in names:
        if name not in known:
            near = difflib.get_close_matches(name, known)
            hint = f" Did you mean {' or '.join(map(repr, near))}?"
            raise invalid_value(
                argument,
                f"names out of {tuple(known)}",
                f"{name!r}.{hint if near else ''}",
            )
    return tuple(dict.fromkeys(names))
