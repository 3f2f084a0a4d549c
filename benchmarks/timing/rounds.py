"""Timing of arms side by side.

Times of one arm drift with the machine, by more than what is to be measured.
So every round runs all arms, in an order of its own, and only ratios within
one round are compared. The baseline runs twice a round: the ratio of the two,
the A/A ratio, shows what noise is left. Rounds in which another process took
the core are left out.
"""

import gc
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from benchmarks.timing.core import LARGEST_SHARE, Reading
from benchmarks.timing.ratios import SEED, Ratio, ratio

AGAIN = " (again)"
# The interval of a ratio, relative to it, that is narrow enough.
WIDTH = 0.02
# How much more there must be before it is asked again whether it is enough.
GROWTH = 1.25


@dataclass(frozen=True)
class Arm:
    """One way to do the work.

    Attributes:
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
        fewest: Rounds even if they take longer than `longest`.
        seconds: How long they run even if they are exact before.
        longest: Seconds after which no more rounds are begun.
        width: Widest interval of a ratio, relative to it, that is enough.
    """

    fewest: int
    seconds: float = 0.0
    longest: float = 0.0
    width: float = WIDTH


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
        left_out: Rounds that another process disturbed.
        disturbed: Such rounds that count, for there are too few others.
        seconds: What all rounds took.
    """

    name: str
    backend: str
    baseline: str
    unit: str
    costs: Mapping[str, Sequence[float]]
    first_seconds: Mapping[str, float]
    facts: Mapping[str, float] = field(default_factory=dict)
    left_out: int = 0
    disturbed: int = 0
    seconds: float = 0.0

    def ratio(self, arm: str, to: str | None = None) -> Ratio:
        """Ratio of an arm to another, by default to the baseline."""
        return ratio(self.costs[arm], self.costs[to or self.baseline])


@dataclass(frozen=True)
class Collected:
    """Costs of all rounds that count.

    Attributes:
        costs: For each arm its costs, one a round.
        left_out: Rounds that another process disturbed.
        disturbed: Such rounds that count, for there are too few others.
        seconds: What all rounds took.
    """

    costs: dict[str, list[float]]
    left_out: int
    disturbed: int
    seconds: float


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
        rounds: How often each arm runs. A first run, which compiles, comes
            before.
        unit: Of what the arms return.
        facts: Anything else to keep with the costs.

    Raises:
        ValueError: If the baseline is not among the arms a second time.
    """
    names = [arm.name for arm in arms]
    check_again(names)
    first_seconds = {arm.name: timed(arm.run)() for arm in arms}
    rng = np.random.default_rng(SEED)

    def run_round() -> dict[str, float]:
        found = {arm.name: arm.run() for arm in rng.permutation(arms)}
        return {name: found[name] for name in names}

    gc.collect()
    collected = collect(run_round, rounds)
    return Comparison(
        name,
        backend,
        names[0],
        unit,
        collected.costs,
        first_seconds,
        facts or {},
        collected.left_out,
        collected.disturbed,
        collected.seconds,
    )


def collect(
    run_round: Callable[[], Mapping[str, float]], rounds: Rounds
) -> Collected:
    """Run rounds until the ratios of all arms to the first are exact.

    Where too few rounds are left undisturbed when the time is over, the least
    disturbed ones count.

    Args:
        run_round: Runs all arms once and returns the cost of each.
        rounds: How often.
    """
    found: list[tuple[float, Mapping[str, float]]] = []
    quiet: list[Mapping[str, float]] = []
    asked_at = rounds.fewest
    start = time.perf_counter()
    while True:
        before = Reading.now()
        costs = run_round()
        share = before.share_of_others(Reading.now())
        found.append((share, costs))
        if share <= LARGEST_SHARE:
            quiet.append(costs)
        seconds = time.perf_counter() - start
        if len(found) >= rounds.fewest and seconds >= rounds.longest:
            break
        if seconds >= rounds.seconds and len(quiet) >= asked_at:
            if widest(_by_arm(quiet)) <= rounds.width:
                break
            asked_at = math.ceil(GROWTH * len(quiet))
    disturbed = max(rounds.fewest - len(quiet), 0)
    if disturbed:
        found.sort(key=lambda one: one[0])
        quiet = [costs for _, costs in found[: rounds.fewest]]
    left_out = len(found) - len(quiet)
    return Collected(_by_arm(quiet), left_out, disturbed, seconds)


def widest(costs: Mapping[str, Sequence[float]]) -> float:
    """Width of the widest interval of a ratio to the first arm."""
    baseline, *others = costs.values()
    return max(ratio(arm, baseline).width for arm in others)


def _by_arm(rounds: Sequence[Mapping[str, float]]) -> dict[str, list[float]]:
    return {arm: [costs[arm] for costs in rounds] for arm in rounds[0]}


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
