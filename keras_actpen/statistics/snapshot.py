"""Activation statistics on the host: definitions, merge, values."""

import dataclasses
from collections.abc import Mapping

import numpy as np

from keras_actpen.attach.capture import ActivationSpec

DEFINITIONS: dict[str, str] = {
    "mean": "Mean of all finite activations.",
    "std": "Standard deviation of all finite activations (divided by n).",
    "min": "Smallest finite activation.",
    "max": "Largest finite activation.",
    "rms": "Square root of the mean square of all finite activations.",
    "zero_fraction": (
        "Share of the finite activations that are exactly 0. Values closer to "
        "0 than 1.2e-38 may count as 0."
    ),
    "dead_fraction": (
        "Share of the units (channels of the last axis) that never left 0 in "
        "the period. A unit that did not fire in n samples has a rate below "
        "3/n (95 % confidence)."
    ),
    "nonfinite": (
        "Number of NaN and infinite activations, which leave all other "
        "statistics."
    ),
}


@dataclasses.dataclass(frozen=True, eq=False)
class StatisticsSnapshot:
    """Activation statistics on the host; `StatisticsSnapshot()` saw nothing.

    Attributes:
        count: Number of finite elements that are not masked.
        mean: Their mean.
        m2: Sum of their squared deviations from `mean`.
        minimum: The smallest, `inf` if there is none.
        maximum: The largest, `-inf` if there is none.
        zeros: How many of them are exactly 0.
        nonfinite: Number of NaN and infinite elements that are not masked.
        fired: For each unit how many of them are not 0, of shape `(units,)`,
            or `None` if units are not told apart.
        histogram: Rows of left edge, right edge and count, of shape `(30, 3)`,
            or `(0, 3)` if empty.
    """

    count: int = 0
    mean: float = 0.0
    m2: float = 0.0
    minimum: float = float("inf")
    maximum: float = float("-inf")
    zeros: int = 0
    nonfinite: int = 0
    fired: np.ndarray | None = None
    histogram: np.ndarray = dataclasses.field(
        default_factory=lambda: np.zeros((0, 3))
    )

    @property
    def sum_of_squares(self) -> float:
        """Sum of the squares of the counted elements."""
        return self.m2 + self.count * self.mean**2

    @property
    def firing_rates(self) -> np.ndarray | None:
        """For each unit the share of its elements that are finite and not 0.

        `None` if nothing was seen or units are not told apart.
        """
        elements = self.count + self.nonfinite
        if self.fired is None or not elements:
            return None
        return self.fired / (elements / len(self.fired))

    def merge(self, later: "StatisticsSnapshot") -> "StatisticsSnapshot":
        """Statistics of the elements of both, the histogram of `later`.

        Mean and variance by Chan, Golub and LeVeque 1979, "Updating Formulae
        and a Pairwise Algorithm for Computing Sample Variances". An empty
        histogram of `later` leaves that of this snapshot.
        """
        count = self.count + later.count
        share = later.count / max(count, 1)
        delta = later.mean - self.mean
        if self.fired is None or later.fired is None:
            fired = later.fired if self.fired is None else self.fired
        else:
            fired = self.fired + later.fired
        return StatisticsSnapshot(
            count=count,
            mean=self.mean + delta * share,
            m2=self.m2 + later.m2 + delta**2 * self.count * share,
            minimum=min(self.minimum, later.minimum),
            maximum=max(self.maximum, later.maximum),
            zeros=self.zeros + later.zeros,
            nonfinite=self.nonfinite + later.nonfinite,
            fired=fired,
            histogram=later.histogram
            if len(later.histogram)
            else self.histogram,
        )

    def values(self) -> dict[str, float]:
        """The statistics by name, as `DEFINITIONS` defines them, in its order.

        What has not been seen is NaN: everything if no element was,
        everything but `nonfinite` if no finite one was, `dead_fraction` if
        units are not told apart.
        """
        values = dict.fromkeys(DEFINITIONS, float("nan"))
        if self.count or self.nonfinite:
            values["nonfinite"] = float(self.nonfinite)
        if self.count:
            values["mean"] = self.mean
            values["std"] = (self.m2 / self.count) ** 0.5
            values["min"] = self.minimum
            values["max"] = self.maximum
            values["rms"] = (self.sum_of_squares / self.count) ** 0.5
            values["zero_fraction"] = self.zeros / self.count
            if self.fired is not None:
                values["dead_fraction"] = float(np.mean(self.fired == 0))
        return values


# By path and place.
Snapshots = Mapping[tuple[str, ActivationSpec], StatisticsSnapshot]
