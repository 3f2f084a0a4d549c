"""Whether the ratios of a run meet the targets."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch

from benchmarks.harness import Comparison, Ratio
from benchmarks.targets import TARGETS, Target

# Beyond it noise is no excuse any more.
LARGEST_NOISE = 0.05


@dataclass(frozen=True)
class Verdict:
    """A target and what was measured for it."""

    target: Target
    comparison: Comparison
    ratio: Ratio

    @property
    def noise(self) -> float:
        """A/A noise of the measurement."""
        return self.comparison.noise()

    @property
    def text(self) -> str:
        """`met` or `not met`, and what the noise has to do with it.

        Noise counts as an excuse only while it is small, that of the baseline
        and that of the ratio itself, whose interval then ends near the limit.
        """
        limit, ratio = self.target.limit, self.ratio
        if self.target.least:
            beyond, likely = limit - ratio.low, ratio.median >= limit
            close = ratio.high >= limit
        else:
            beyond, likely = ratio.high - limit, ratio.median <= limit
            close = min(ratio.low, ratio.median / (1 + self.noise)) <= limit
        quiet = max(self.noise, beyond / limit) <= LARGEST_NOISE
        if beyond <= 0 or (likely and quiet):
            return "met"
        if not close:
            return "not met"
        return "met, within noise" if quiet else "not met, too noisy to tell"


def verdicts(
    comparisons: Sequence[tuple[str, Comparison]],
) -> Iterator[tuple[Target, list[Verdict]]]:
    """Every target with the verdict of each measurement that it is about.

    Args:
        comparisons: The measurements, each with its device.
    """
    for target in TARGETS:
        yield (
            target,
            [
                Verdict(target, comparison, target.value(comparison))
                for device, comparison in comparisons
                if device == target.device
                and fnmatch(comparison.backend, target.backend)
                and fnmatch(comparison.name, target.pattern)
            ],
        )
