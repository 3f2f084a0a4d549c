"""What a controller can hold at a target."""

import dataclasses
import math
from typing import Any, Literal, TypeAlias

from keras_actpen.callbacks.control_rules import Miss
from keras_actpen.callbacks.term_refs import TermRef
from keras_actpen.instrumentation.run_state import RunState
from keras_actpen.penalties.validation import check_number
from keras_actpen.statistics.since_fired import FEWEST_POSITIONS
from keras_actpen.statistics.snapshot import StatisticsSnapshot

Measure: TypeAlias = Literal[
    "zero_fraction", "dead_fraction", "l0", "mean", "rms", "value"
]
Effect: TypeAlias = Literal["raises", "lowers"]

# What a larger coefficient usually does to the measure.
EFFECTS: dict[Measure, Effect] = {
    "zero_fraction": "raises",
    "dead_fraction": "raises",
    "l0": "lowers",
    "mean": "lowers",
    "rms": "lowers",
    "value": "lowers",
}

# Those from 0 to 1.
_SHARES = ("zero_fraction", "dead_fraction")

# A target is missed if the measure is further off than this, as a share of
# the target, or for shares absolutely.
TOLERANCE = 0.02

# Negligible against a share of 1, or against the target of a measure.
_LEAST = 1e-6


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

    @classmethod
    def of(cls, ref: TermRef, state: RunState) -> "Reading":
        """What a training has recorded of a term."""
        spec = ref.layer.actpen.terms[ref.name].spec
        totals, samples = state.totals["train"].read()
        snapshot = state.snapshots()[ref.path, spec]
        return cls(snapshot, totals[ref.path, ref.name], samples)

    def measure(self, name: str, before: "Reading", ref: TermRef) -> float:
        """A measure of what came since an earlier reading, NaN if nothing."""
        if name == "value":
            samples = self.samples - before.samples
            weight = samples * ref.coefficient
            return (self.total - before.total) / weight if weight else math.nan
        if name == "dead_fraction":
            window = dataclasses.replace(
                self.snapshot, dead_after=FEWEST_POSITIONS
            )
            return window.value(name)
        new, old = self.snapshot, before.snapshot
        count = new.count - old.count
        if not count:
            return math.nan
        zeros = (new.zeros - old.zeros) / count
        if name == "zero_fraction":
            return zeros
        if name == "l0":
            if new.fired is None:
                return math.nan
            elements = count + new.nonfinite - old.nonfinite
            return (1 - zeros) * count / elements * len(new.fired)
        if name == "mean":
            return (new.count * new.mean - old.count * old.mean) / count
        squares = new.count * new.mean_square - old.count * old.mean_square
        return math.sqrt(max(squares, 0.0) / count)


def miss(measured: float, target: float, measure: str, effect: str) -> Miss:
    """How far a measure is off its target.

    Args:
        measured: What was measured.
        target: What it should be.
        measure: Name of the measure.
        effect: What a larger coefficient does to it, a value of `EFFECTS`.
    """
    share = target - measured
    if measure in _SHARES:
        ratio = max(1 - measured, _LEAST) / max(1 - target, _LEAST)
    else:
        share /= abs(target)
        # A mean of the other sign is as far off as a mean of 0.
        ratio = 1 / max(measured / target, _LEAST)
        if target < 0:
            ratio = 1 / ratio
    sign = 1 if effect == "raises" else -1
    return Miss(sign * share, sign * math.log(ratio))


def check_target(target: Any, measure: str) -> float:
    """Return `target` as a float if `measure` can be there.

    Raises:
        TypeError: If it is not a real number.
        ValueError: If it is out of the measure's range.
    """
    if measure in _SHARES:
        what = "zeros" if measure == "zero_fraction" else "units"
        return check_number(
            "target",
            target,
            f"a share of {what} from 0 to 1",
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
