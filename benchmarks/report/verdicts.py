"""Whether what was measured meets the targets: one verdict a backend."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from benchmarks.arms.names import BACKENDS
from benchmarks.report.summaries import Row
from benchmarks.report.targets import TARGETS, Target
from benchmarks.timing.ratios import Ratio, geometric_mean, noise

# Beyond it noise is no excuse any more.
LARGEST_NOISE = 0.05
# From the best to the worst.
VERDICTS = (
    "met",
    "met, within noise",
    "not met, too noisy to tell",
    "not met",
)


@dataclass(frozen=True)
class Verdict:
    """A target on a backend, and the measurements that it is about.

    Attributes:
        target: The target.
        rows: The measurements, one a model.
    """

    target: Target
    rows: Sequence[Row]

    @property
    def mean(self) -> Ratio:
        """Geometric mean over the models."""
        return geometric_mean([self.ratio(row) for row in self.rows])

    @property
    def noise(self) -> float:
        """A/A noise of the mean."""
        return noise(geometric_mean([row.again for row in self.rows]))

    @property
    def worst(self) -> Row:
        """The model that is furthest from meeting the target."""
        choose = min if self.target.least else max
        return choose(self.rows, key=lambda row: self.ratio(row).median)

    @property
    def text(self) -> str:
        """The worse of the verdicts on the mean and on the worst model."""
        worst = self.worst
        found = (
            judge(self.target, self.mean, self.noise),
            judge(self.target, self.ratio(worst), worst.noise),
        )
        return max(found, key=VERDICTS.index)

    def ratio(self, row: Row) -> Ratio:
        """What the target limits, of one model."""
        return row.targets[self.target.key]


def judge(target: Target, ratio: Ratio, noise: float) -> str:
    """`met` or `not met`, and what the noise has to do with it.

    Noise counts as an excuse only while it is small, that of the baseline
    and that of the ratio itself, whose interval then ends near the limit.
    """
    limit = target.limit
    if target.least:
        beyond, likely = limit - ratio.low, ratio.median >= limit
        close = ratio.high >= limit
    else:
        beyond, likely = ratio.high - limit, ratio.median <= limit
        close = min(ratio.low, ratio.median / (1 + noise)) <= limit
    quiet = max(noise, beyond / limit) <= LARGEST_NOISE
    if beyond <= 0 or (likely and quiet):
        return "met"
    if not close:
        return "not met"
    return "met, within noise" if quiet else "not met, too noisy to tell"


def verdicts(rows: Sequence[Row]) -> Iterator[Verdict]:
    """Every target on every backend that it was measured on."""
    for target in TARGETS:
        for backend in BACKENDS:
            about = [
                row
                for row in rows
                if row.backend == backend and target.key in row.targets
            ]
            if about:
                yield Verdict(target, about)
