"""Timing of arms side by side, and the statistics of their ratios.

Times of one arm drift with the machine, by more than what is to be measured.
So every round runs all arms, in an order of its own, and only ratios within
one round are compared. The baseline runs twice a round: the ratio of the two,
the A/A ratio, shows what noise is left.
"""

import gc
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from scipy import stats

SEED = 0
AGAIN = " (again)"


@dataclass(frozen=True)
class Arm:
    """One way to do the work.

    Args:
        name: What the tables call it.
        run: Does the work once and returns what it cost: the seconds it
            took, the device waited for, or the bytes.
    """

    name: str
    run: Callable[[], float]


@dataclass(frozen=True)
class Rounds:
    """How often all arms run.

    Attributes:
        seconds: How long they may take before it is asked how exact they are.
        fewest: Rounds even if they take longer.
        most: Rounds even if there were time for more.
        precision: How far the intervals of the ratios may reach to each side.
        longest: Seconds after which no more rounds are begun to get there.
    """

    seconds: float
    fewest: int
    most: int
    precision: float = math.inf
    longest: float = 0.0

    def number(self, seconds: float) -> int:
        """How many rounds at first, if one takes that long."""
        return int(np.clip(self.seconds / seconds, self.fewest, self.most))

    def are_enough(self, costs: Mapping[str, Sequence[float]]) -> bool:
        """Whether the ratios of all arms to the first are exact enough."""
        baseline, *others = costs.values()
        found = [ratio(arm, baseline) for arm in others]
        reach = max(max(r.high - r.median, r.median - r.low) for r in found)
        return reach <= self.precision


@dataclass(frozen=True)
class Ratio:
    """Ratio of two arms over the rounds.

    Attributes:
        median: Median of the ratios of all rounds.
        lower_quartile: A quarter of the rounds lies below.
        upper_quartile: A quarter of the rounds lies above.
        low: Lower end of the 95 % bootstrap interval of the median.
        high: Upper end of it.
    """

    median: float
    lower_quartile: float
    upper_quartile: float
    low: float
    high: float


@dataclass(frozen=True)
class Comparison:
    """Costs of several arms in every round.

    Attributes:
        name: What was measured, `group/workload`.
        backend: Keras backend, `tensorflow-xla` for TensorFlow with XLA.
        baseline: Name of the first arm, which ran twice a round.
        unit: Of the costs, `"seconds"` or `"bytes"`.
        costs: For each arm its costs, one a round.
        first_seconds: For each arm those of its first run, which compiles.
        facts: Anything else that is needed to read the costs, by name.
    """

    name: str
    backend: str
    baseline: str
    unit: str
    costs: Mapping[str, Sequence[float]]
    first_seconds: Mapping[str, float]
    facts: Mapping[str, float] = field(default_factory=dict)

    def ratio(self, arm: str, to: str | None = None) -> Ratio:
        """Ratio of an arm to another, by default to the baseline."""
        return ratio(self.costs[arm], self.costs[to or self.baseline])

    def noise(self) -> float:
        """How far from 1 the interval of the A/A ratio reaches."""
        again = self.ratio(self.baseline + AGAIN)
        return max(abs(again.low - 1), abs(again.high - 1))


def ratio(costs: Sequence[float], baseline: Sequence[float]) -> Ratio:
    """Ratio of two arms from their costs in the same rounds."""
    ratios = np.asarray(costs) / np.asarray(baseline)
    lower, median, upper = np.quantile(ratios, (0.25, 0.5, 0.75))
    low = high = median
    if np.ptp(ratios) > 0:
        interval = stats.bootstrap(
            (ratios,),
            np.median,
            method="percentile",
            n_resamples=2000,
            rng=np.random.default_rng(SEED),
        ).confidence_interval
        low, high = interval
    return Ratio(*map(float, (median, lower, upper, low, high)))


def overhead_ratio(
    peer: Sequence[float], ours: Sequence[float], without: Sequence[float]
) -> Ratio:
    """How many times our overhead a peer's is.

    Overheads are differences of times and may be nearly 0, so this is the
    ratio of their means, and the interval comes from resampling rounds. Where
    our overhead is not above 0, the ratio is infinite.
    """
    peer, ours, without = map(np.asarray, (peer, ours, without))

    def quotient(rounds):
        overhead = np.mean(ours[rounds] - without[rounds])
        above = np.mean(peer[rounds] - without[rounds])
        return above / overhead if overhead > 0 else np.inf

    rng = np.random.default_rng(SEED)
    rounds = len(without)
    quotients = [
        quotient(rng.integers(rounds, size=rounds)) for _ in range(2000)
    ]
    # Not interpolated: infinity minus infinity is NaN.
    low, lower, upper, high = np.quantile(
        quotients, (0.025, 0.25, 0.75, 0.975), method="nearest"
    )
    value = quotient(np.arange(rounds))
    return Ratio(*map(float, (value, lower, upper, low, high)))


def compare(
    name: str,
    backend: str,
    arms: Sequence[Arm],
    rounds: Rounds,
    unit: str = "seconds",
    facts: Mapping[str, float] | None = None,
) -> Comparison:
    """Run arms side by side.

    Args:
        name: What is measured.
        backend: What it is measured on.
        arms: The arms, the baseline first and, by the name `... (again)`,
            once more.
        rounds: How often each arm runs. A first run, which compiles, and a
            second one to warm up come before.
        unit: Of what the arms return.
        facts: Anything else to keep with the costs.

    Raises:
        ValueError: If the baseline is not among the arms a second time.
    """
    names = [arm.name for arm in arms]
    check_again(names)
    first_seconds = {arm.name: timed(arm.run)() for arm in arms}
    number = rounds.number(sum(timed(arm.run)() for arm in arms))
    costs = {name: [] for name in names}
    rng = np.random.default_rng(SEED)
    gc.collect()
    start = time.perf_counter()
    are_enough = False
    while not are_enough:
        for _ in range(number):
            for index in rng.permutation(len(arms)):
                costs[names[index]].append(arms[index].run())
        seconds = time.perf_counter() - start
        are_enough = seconds >= rounds.longest or rounds.are_enough(costs)
    return Comparison(
        name,
        backend,
        names[0],
        unit,
        costs,
        first_seconds,
        {**(facts or {}), "rounds": len(costs[names[0]])},
    )


def check_again(names: Sequence[str]) -> None:
    """Refuse arms without a second run of the baseline.

    Args:
        names: Those of the arms, the baseline's first.

    Raises:
        ValueError: If the baseline is not among the arms a second time.
    """
    if names[0] + AGAIN not in names:
        raise ValueError(
            "Invalid value received for argument `arms`. Expected an arm "
            f"called {names[0] + AGAIN!r}, for the noise. Received: {names}"
        )


def timed(work: Callable[[], object]) -> Callable[[], float]:
    """Run of an arm whose work is over when its call returns."""

    def run() -> float:
        start = time.perf_counter()
        work()
        return time.perf_counter() - start

    return run


def check_equal(losses: Mapping[str, float], tolerance: float) -> None:
    """Refuse arms that do not compute the same.

    Args:
        losses: Loss of each arm.
        tolerance: Largest relative difference to the first of them.

    Raises:
        AssertionError: If one differs.
    """
    expected = next(iter(losses.values()))
    for name, loss in losses.items():
        if not abs(loss - expected) <= tolerance * abs(expected):
            raise AssertionError(
                f"Arm {name!r} has another loss than the arms that it is "
                f"compared with: {losses}"
            )
