"""What a controller can hold at a target."""

import math
from typing import Any

from keras_actpen.callbacks.term_refs import TermRef
from keras_actpen.penalties.validation import check_number
from keras_actpen.statistics.snapshot import StatisticsSnapshot

# What a larger coefficient usually does to the measure.
EFFECTS = {
    "zero_fraction": "raises",
    "l0": "lowers",
    "mean": "lowers",
    "rms": "lowers",
    "value": "lowers",
}

# A target is missed if the measure is further off than this, as a share of
# the target, or for shares of zeros absolutely.
TOLERANCE = 0.02


class Reading:
    """What has been recorded of a term since the epoch began.

    Args:
        snapshot: Statistics of its activations on the measured steps.
        total: Sum over the samples of coefficient times value.
        samples: Number of samples.
    """

    def __init__(
        self,
        snapshot: StatisticsSnapshot | None = None,
        total: float = 0.0,
        samples: float = 0.0,
    ):
        self.snapshot: StatisticsSnapshot = snapshot or StatisticsSnapshot()
        self.total = total
        self.samples = samples

    def measure(self, name: str, before: "Reading", site: TermRef) -> float:
        """A measure of what came since an earlier reading, NaN if nothing."""
        if name == "value":
            samples = self.samples - before.samples
            weight = samples * site.coefficient
            return (self.total - before.total) / weight if weight else math.nan
        new, old = self.snapshot, before.snapshot
        count = new.count - old.count
        if not count:
            return math.nan
        if name == "zero_fraction":
            return (new.zeros - old.zeros) / count
        if name == "l0":
            if new.fired is None:
                return math.nan
            elements = count + new.nonfinite - old.nonfinite
            fired = count - (new.zeros - old.zeros)
            return fired / elements * len(new.fired)
        if name == "mean":
            return (new.count * new.mean - old.count * old.mean) / count
        squares = new.count * new.mean_square - old.count * old.mean_square
        return math.sqrt(max(squares, 0.0) / count)


def check_target(target: Any, measure: str) -> float:
    """Return `target` as a float if `measure` can be there.

    Raises:
        TypeError: If it is not a real number.
        ValueError: If it is out of the measure's range.
    """
    if measure == "zero_fraction":
        return check_number(
            "target",
            target,
            "a share of zeros from 0 to 1",
            lambda value: 0 <= value <= 1,
        )
    if measure == "mean":
        return check_number(
            "target",
            target,
            "a finite number other than 0",
            lambda value: value != 0,
        )
    return check_number(
        "target", target, "a finite number > 0", lambda value: value > 0
    )


def check_units(target: float, measure: str, term: TermRef) -> None:
    """Refuse a mean number of units that the layer cannot have.

    Raises:
        ValueError: If `target` is above the number of units.
    """
    place = term.layer.actpen.terms[term.name].place
    units = term.layer.actpen.place_units.get(place)
    if measure == "l0" and units is not None and target > units:
        raise ValueError(
            "Invalid value received for argument `target`. Expected a mean "
            f"number of units that fire, at most the {units} of the term "
            f"{term.key!r}. Received: target={target}"
        )
