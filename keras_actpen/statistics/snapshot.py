"""Activation statistics on the host: definitions, merge, values."""

import dataclasses
import functools
import math
from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np

from keras_actpen.attach.activation_spec import ActivationSpec
from keras_actpen.statistics.moments import Moments


@dataclasses.dataclass(frozen=True, eq=False)
class StatisticsSnapshot:
    """Activation statistics on the host; `StatisticsSnapshot()` saw nothing.

    Attributes:
        count: Number of finite elements that are not masked.
        mean: Their mean.
        variance: Mean of their squared deviations from `mean`.
        minimum: The smallest, `inf` if there is none.
        maximum: The largest, `-inf` if there is none.
        zeros: How many of them are exactly 0.
        nonfinite: Number of NaN and infinite elements that are not masked.
        fired: For each unit how many of them are not 0, of shape `(units,)`,
            or `None` if units are not told apart.
        histogram: Rows of left edge, right edge and count, of shape `(30, 3)`,
            or `(0, 3)` if empty.
        since_fired: For each unit the positions since it last fired, of every
            step of the training; `None` where that is not kept, and `fired`
            tells which units are dead.
        positions: Number of positions that `since_fired` has seen.
        dead_after: A unit is dead that has not fired in so many of them, or
            in all if there were fewer.
    """

    count: int = 0
    mean: float = 0.0
    variance: float = 0.0
    minimum: float = math.inf
    maximum: float = -math.inf
    zeros: int = 0
    nonfinite: int = 0
    fired: np.ndarray | None = None
    histogram: np.ndarray = dataclasses.field(
        default_factory=lambda: np.zeros((0, 3))
    )
    since_fired: np.ndarray | None = None
    positions: int = 0
    dead_after: float = math.inf

    @property
    def mean_square(self) -> float:
        """Mean of the squares of the counted elements."""
        return self.variance + self.mean**2

    @functools.cached_property
    def firing_rates(self) -> np.ndarray | None:
        """For each unit the share of its elements that are finite and not 0.

        `None` if nothing was seen or units are not told apart.
        """
        elements = self.count + self.nonfinite
        if self.fired is None or not elements:
            return None
        return self.fired / (elements / len(self.fired))

    @functools.cached_property
    def dead_window(self) -> float:
        """Number of positions that units are called dead by, or NaN."""
        if self.since_fired is not None:
            window = min(self.dead_after, self.positions)
        elif self.fired is not None and len(self.fired):
            window = (self.count + self.nonfinite) / len(self.fired)
        else:
            return math.nan
        return float(window) if window else math.nan

    @functools.cached_property
    def dead_units(self) -> np.ndarray | None:
        """For each unit whether it is dead, `None` if that is not known."""
        if math.isnan(self.dead_window):
            return None
        if self.since_fired is None:
            return self.fired == 0
        return self.since_fired >= self.dead_window

    def merge(self, later: "StatisticsSnapshot") -> "StatisticsSnapshot":
        """Statistics of the elements of both.

        The histogram, and what is known of single units since they fired, are
        those of `later`; an empty histogram of `later` leaves this one's.
        """
        n = max(self.count + later.count, 1)
        moments = Moments(self.count, self.mean, self.variance).merge(
            Moments(later.count, later.mean, later.variance), n
        )
        if self.fired is None or later.fired is None:
            fired = later.fired if self.fired is None else self.fired
        else:
            fired = self.fired + later.fired
        histogram = (later if len(later.histogram) else self).histogram
        return dataclasses.replace(
            later,
            count=self.count + later.count,
            mean=moments.mean,
            variance=moments.second,
            minimum=min(self.minimum, later.minimum),
            maximum=max(self.maximum, later.maximum),
            zeros=self.zeros + later.zeros,
            nonfinite=self.nonfinite + later.nonfinite,
            fired=fired,
            histogram=histogram,
        )

    def values(self) -> dict[str, float]:
        """The statistics by name, in the order of `STATISTICS`.

        What has not been seen is NaN: everything if no element was, and if no
        finite one was, everything but `nonfinite` and what is said of units
        that are followed at every step.
        """
        return {name: self.value(name) for name in STATISTICS}

    def value(self, name: str) -> float:
        """One of the statistics, NaN if it has not been seen."""
        return float(STATISTICS[name].value(self))


class Statistic(NamedTuple):
    """A statistic that is always taken: what it is, and how it is read.

    Attributes:
        definition: What users read of it in TensorBoard.
        value: Its value, NaN if it is not known. Whatever executor has filled
            the snapshot, on the device or on the host, it is read here.
    """

    definition: str
    value: Callable[[StatisticsSnapshot], float]


def _of_finite(
    value: Callable[[StatisticsSnapshot], float],
) -> Callable[[StatisticsSnapshot], float]:
    """A value that is known where there are finite elements."""
    return lambda seen: value(seen) if seen.count else math.nan


def _dead_fraction(seen: StatisticsSnapshot) -> float:
    dead = seen.dead_units
    if dead is None or not (seen.count or seen.positions):
        return math.nan
    return dead.mean()


def _l0(seen: StatisticsSnapshot) -> float:
    rates = seen.firing_rates
    return math.nan if rates is None or not seen.count else rates.sum()


STATISTICS: dict[str, Statistic] = {
    "mean": Statistic(
        "Mean of all finite activations.",
        _of_finite(lambda seen: seen.mean),
    ),
    "std": Statistic(
        "Standard deviation of all finite activations (divided by n).",
        _of_finite(lambda seen: math.sqrt(seen.variance)),
    ),
    "min": Statistic(
        "Smallest finite activation.",
        _of_finite(lambda seen: seen.minimum),
    ),
    "max": Statistic(
        "Largest finite activation.",
        _of_finite(lambda seen: seen.maximum),
    ),
    "rms": Statistic(
        "Square root of the mean square of all finite activations.",
        _of_finite(lambda seen: math.sqrt(seen.mean_square)),
    ),
    "zero_fraction": Statistic(
        "Share of the finite activations that are exactly 0. Values closer to "
        "0 than 1.2e-38 may count as 0.",
        _of_finite(lambda seen: seen.zeros / seen.count),
    ),
    "l0": Statistic(
        "Mean number of units per position that fire, that is, are not 0.",
        _l0,
    ),
    "dead_fraction": Statistic(
        "Share of the units (channels of the last axis) that were 0 in all of "
        "the last `dead_window` positions. In training every step counts, not "
        "only the instrumented ones, but none from before a training was "
        "resumed. A unit that did not fire in n positions has a rate below "
        "3/n (95 % confidence).",
        _dead_fraction,
    ),
    "dead_window": Statistic(
        "Number of positions (of all samples, and of all places or times in "
        "each) by which `dead_fraction` judges; it grows from 0 to "
        "`dead_after` when a training starts or is resumed.",
        lambda seen: seen.dead_window,
    ),
    "nonfinite": Statistic(
        "Number of NaN and infinite activations, which are left out of all "
        "other statistics.",
        lambda seen: (
            seen.nonfinite if seen.count or seen.nonfinite else math.nan
        ),
    ),
}

DEFINITIONS: dict[str, str] = {
    name: one.definition for name, one in STATISTICS.items()
}

# By path and place.
Snapshots = Mapping[tuple[str, ActivationSpec], StatisticsSnapshot]
