"""Ratios of costs that were measured in the same rounds."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

SEED = 0
RESAMPLES = 2000


@dataclass(frozen=True)
class Ratio:
    """A ratio with its uncertainty.

    Attributes:
        median: Median of the ratios of all rounds.
        low: Lower end of the 95 % interval of the median.
        high: Upper end of it.
    """

    median: float
    low: float
    high: float

    @property
    def width(self) -> float:
        """That of the interval, relative to the median."""
        return (self.high - self.low) / abs(self.median)


def ratio(costs: Sequence[float], baseline: Sequence[float]) -> Ratio:
    """Ratio of two arms from their costs in the same rounds."""
    ratios = np.asarray(costs) / np.asarray(baseline)
    low = high = median = np.median(ratios)
    if np.ptp(ratios) > 0:
        low, high = stats.bootstrap(
            (ratios,),
            np.median,
            method="percentile",
            n_resamples=RESAMPLES,
            rng=np.random.default_rng(SEED),
        ).confidence_interval
    return Ratio(*map(float, (median, low, high)))


def overhead_ratio(
    peer: Sequence[float], ours: Sequence[float], without: Sequence[float]
) -> Ratio:
    """How many times our overhead a peer's is.

    Overheads are differences of times and may be nearly 0, so this is the
    ratio of their means, and the interval comes from resampling rounds. Where
    our overhead is not above 0, the ratio is infinite.
    """
    peer, ours, without = map(np.asarray, (peer, ours, without))

    def quotient(rounds: np.ndarray) -> float:
        overhead = np.mean(ours[rounds] - without[rounds])
        above = np.mean(peer[rounds] - without[rounds])
        return above / overhead if overhead > 0 else np.inf

    rng = np.random.default_rng(SEED)
    rounds = len(without)
    quotients = [
        quotient(rng.integers(rounds, size=rounds)) for _ in range(RESAMPLES)
    ]
    # Not interpolated: infinity minus infinity is NaN.
    low, high = np.quantile(quotients, (0.025, 0.975), method="nearest")
    return Ratio(*map(float, (quotient(np.arange(rounds)), low, high)))


def geometric_mean(ratios: Sequence[Ratio]) -> Ratio:
    """Geometric mean of ratios that were measured apart.

    Its interval takes their errors as independent: in logarithms the squares
    of their reaches add up.
    """
    if len(ratios) == 1:
        return ratios[0]
    logs = [math.log(one.median) for one in ratios]
    mean = math.fsum(logs) / len(ratios)

    def reach(end: Callable[[Ratio], float]) -> float:
        reaches = (
            math.log(end(one)) - log
            for one, log in zip(ratios, logs, strict=True)
        )
        return math.hypot(*reaches) / len(ratios)

    return Ratio(
        math.exp(mean),
        math.exp(mean - reach(lambda one: one.low)),
        math.exp(mean + reach(lambda one: one.high)),
    )


def noise(again: Ratio) -> float:
    """How far from 1 the interval of a baseline against itself reaches."""
    return max(abs(again.low - 1), abs(again.high - 1))
