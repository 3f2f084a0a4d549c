"""Claims about the rows of an experiment: seen or not seen is computed."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from benchmarks.effects.groups import Group, Spread, grouped
from benchmarks.effects.trials import NONE, Row

# Accuracy that a penalty may cost and still count as equal.
MARGIN = 0.01
# One-sided level at which a claim's limit must be passed.
LEVEL = 0.95

# From an arm's groups by their strengths, and the control.
Choose = Callable[[Mapping[float, Group], Group], float]


@dataclass(frozen=True)
class Claim:
    """One comparison of a measure between two arms, or of an arm to a limit.

    Attributes:
        text: What is claimed.
        value: Name of the measure.
        arm: Name of the arm.
        against: Name of the arm that it is compared with, by the difference
            of the two at each seed; `None` to look at the arm alone.
        relative: Name of how the two are compared: `"difference"` or
            `"ratio"`.
        low: The mean over the seeds must lie above.
        high: It must lie below.
        strength: Of both arms (the control has none); by default each arm is
            taken at the strength that the experiment chooses for it.
        headline: Whether README shows it, for it is the paper's own or what
            one would hope for.
    """

    text: str
    value: str
    arm: str
    against: str | None = NONE
    relative: str = "difference"
    low: float = -math.inf
    high: float = math.inf
    strength: float | None = None
    headline: bool = False


@dataclass(frozen=True)
class Verdict:
    """A claim and what was seen of it.

    Attributes:
        claim: The claim.
        arm: The arm's measure.
        against: That of what it is compared with; `None` if nothing.
        mean: Mean over the seeds of what is compared.
        low: Lower end of its one-sided 95 % interval (Student).
        high: Upper end of that to the other side.
    """

    claim: Claim
    arm: Spread
    against: Spread | None
    mean: float
    low: float
    high: float

    @property
    def seen(self) -> bool:
        """Whether the intervals lie within the claim's limits."""
        return self.low > self.claim.low and self.high < self.claim.high


def judge(claim: Claim, rows: Sequence[Row], choose: Choose | None) -> Verdict:
    """Compute whether a claim is seen in the rows of its experiment.

    Raises:
        ValueError: If the rows have no such arm, or it lacks a seed.
    """
    groups, samples = grouped(rows), []
    for arm in (claim.arm, claim.against):
        if arm is None:
            continue
        strength = chosen(groups, arm, choose)
        if claim.strength is not None and arm != NONE:
            strength = claim.strength
        found = {
            row.seed: row.values[claim.value]
            for row in rows
            if (row.arm, row.strength) == (arm, strength)
        }
        samples.append(found)
    if len({tuple(sorted(found)) for found in samples}) != 1:
        raise ValueError(
            f"Expected {claim.arm!r} and {claim.against!r} to have the same "
            f"seeds. Received: {[sorted(found) for found in samples]}"
        )
    by_seed = [[found[s] for s in sorted(samples[0])] for found in samples]
    spreads = [*map(Spread.over, by_seed), None]
    return Verdict(claim, *spreads[:2], *_compare(claim, *by_seed))


def chosen(
    groups: Sequence[Group], arm: str, choose: Choose | None
) -> float | None:
    """The strength that stands for an arm, chosen on validation digits.

    `None` if there are several and the experiment does not choose.

    Raises:
        ValueError: If there is no such arm.
    """
    strengths = {group.strength: group for group in groups if group.arm == arm}
    if not strengths:
        raise ValueError(
            f"Expected one of {sorted({group.arm for group in groups})}. "
            f"Received: the arm {arm!r}"
        )
    if len(strengths) == 1:
        return next(iter(strengths))
    if choose is None:
        return None
    (control,) = (group for group in groups if group.arm == NONE)
    return choose(strengths, control)


def strongest_at_equal_accuracy(
    strengths: Mapping[float, Group], control: Group
) -> float:
    """The largest strength that costs at most a point of accuracy.

    Where all cost more: the one that costs least.
    """
    least = control.validation["accuracy"] - MARGIN
    accuracies = {s: g.validation["accuracy"] for s, g in strengths.items()}
    equal = [s for s, accuracy in accuracies.items() if accuracy >= least]
    return max(equal) if equal else max(accuracies, key=accuracies.get)


def closest(value: str, target: float = 0.0) -> Choose:
    """Chooses the strength whose measure is closest to a target."""

    def choose(strengths: Mapping[float, Group], control: Group) -> float:
        return min(
            strengths,
            key=lambda s: abs(strengths[s].validation[value] - target),
        )

    return choose


def _compare(
    claim: Claim, arm: Sequence[float], against: Sequence[float] = ()
) -> tuple[float, float, float]:
    values = np.asarray(arm, "float64")
    if not len(against):
        return _interval(values)
    if claim.relative == "difference":
        return _interval(values - np.asarray(against))
    # Ratios are symmetric and positive in their logarithms only.
    with np.errstate(divide="ignore", invalid="ignore"):
        logarithms = np.log(values) - np.log(np.asarray(against))
    return tuple(map(math.exp, _interval(logarithms)))


def _interval(samples: np.ndarray) -> tuple[float, float, float]:
    mean, error = float(np.mean(samples)), float(stats.sem(samples))
    reach = float(stats.t.ppf(LEVEL, len(samples) - 1)) * error
    return mean, mean - reach, mean + reach
