"""What an arm with one strength led to, over all seeds."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from benchmarks.effects.trials import Row


@dataclass(frozen=True)
class Spread:
    """A measure over the seeds.

    Attributes:
        mean: Its mean.
        deviation: Its standard deviation.
    """

    mean: float
    deviation: float

    @classmethod
    def over(cls, values: Sequence[float]) -> "Spread":
        """That of one value a seed; of a single seed none is known."""
        deviation = np.std(values, ddof=1) if len(values) > 1 else np.nan
        return cls(float(np.mean(values)), float(deviation))

    def __str__(self) -> str:
        # A sum of rounding errors is 0, and not a negative one.
        mean = round(self.mean, 12) + 0.0
        # Rounded to a digit first: `.1g` alone writes 10 as 1e+01.
        return f"{mean:.3g} ± {float(f'{self.deviation:.1g}'):g}"


@dataclass(frozen=True)
class Group:
    """Trainings that differ in their seeds alone.

    Attributes:
        experiment: Name of the experiment.
        arm: Name of the arm, `"no penalty"` for the control.
        strength: One of the arm's, 0 for the control.
        seeds: Of the trainings.
        values: Measures on the test digits.
        validation: Means of the same on other digits, to choose a strength.
    """

    experiment: str
    arm: str
    strength: float
    seeds: Sequence[int]
    values: Mapping[str, Spread]
    validation: Mapping[str, float]


def grouped(rows: Iterable[Row]) -> list[Group]:
    """The trainings of an experiment, those of all seeds together."""
    together: dict[tuple[str, float], list[Row]] = {}
    for row in rows:
        together.setdefault((row.arm, row.strength), []).append(row)
    return [
        Group(
            of_it[0].experiment,
            arm,
            strength,
            [row.seed for row in of_it],
            {
                name: Spread.over([row.values[name] for row in of_it])
                for name in of_it[0].values
            },
            {
                name: float(np.mean([row.validation[name] for row in of_it]))
                for name in of_it[0].validation
            },
        )
        for (arm, strength), of_it in together.items()
    ]
