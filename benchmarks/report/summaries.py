"""What results.json holds: a row a measurement, of summaries alone.

A row has the median and the quartiles of each arm's costs, the median of
their ratios to the baseline with its 95 % interval, and the same of the
ratio of each target that the measurement is about.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks.report.targets import TARGETS
from benchmarks.timing.ratios import Ratio, noise
from benchmarks.timing.rounds import AGAIN, Comparison, widest

EMPTY: dict[str, Any] = {"environments": [], "rows": []}
DIGITS = 6

# What tells a row from others.
_KEYS = ("backend", "device", "name")


@dataclass(frozen=True)
class Row:
    """A row as it is read back.

    Attributes:
        name: What was measured, `group/workload`.
        backend: Keras backend, `tensorflow-xla` for TensorFlow with XLA.
        device: `"cpu"` or `"gpu"`.
        effort: `"full"` or `"quick"`.
        environment: Of what code, and on what.
        baseline: Name of the arm that ran twice a round.
        disturbed: Rounds that count though another process took the core;
            `None` if nobody looked.
        width: Of the widest interval of its ratios.
        ratios: For each arm its ratio to the baseline.
        targets: For each target, by its key, the ratio that it limits.
    """

    name: str
    backend: str
    device: str
    effort: str
    environment: Mapping[str, Any]
    baseline: str
    disturbed: int | None
    width: float
    ratios: Mapping[str, Ratio]
    targets: Mapping[str, Ratio]

    @property
    def again(self) -> Ratio:
        """The A/A ratio: that of the baseline to itself."""
        return self.ratios[self.baseline + AGAIN]

    @property
    def noise(self) -> float:
        """How far from 1 the interval of the A/A ratio reaches."""
        return noise(self.again)

    @property
    def code(self) -> str:
        """What was measured: version, commit, effort unless full."""
        parts = [
            self.environment["versions"]["keras-actpen"],
            self.environment["commit"],
            self.effort if self.effort != "full" else None,
        ]
        return " ".join(part for part in parts if part)


def summarize(
    comparison: Comparison, device: str, effort: str
) -> dict[str, Any]:
    """The row of a measurement, but for its environment."""
    targets = {
        target.key: _ratio_entry(target.value(comparison))
        for target in TARGETS
        if target.is_about(comparison.name, comparison.backend, device)
        and {*target.arms} <= {*comparison.costs}
    }
    return {
        "name": comparison.name,
        "backend": comparison.backend,
        "device": device,
        "effort": effort,
        "baseline": comparison.baseline,
        "unit": comparison.unit,
        "rounds": len(comparison.costs[comparison.baseline]),
        "left_out": comparison.left_out,
        "disturbed": comparison.disturbed,
        "seconds": _rounded(comparison.seconds),
        "width": _rounded(widest(comparison.costs)),
        "facts": dict(comparison.facts),
        "arms": {arm: _arm(comparison, arm) for arm in comparison.costs},
        "targets": targets,
    }


def rows(results: Mapping[str, Any]) -> list[Row]:
    """The rows of results.json."""
    return [
        Row(
            *(entry[key] for key in ("name", "backend", "device", "effort")),
            results["environments"][entry["environment"]],
            entry["baseline"],
            entry["disturbed"],
            entry["width"],
            {arm: _ratio(of["ratio"]) for arm, of in entry["arms"].items()},
            {key: _ratio(of) for key, of in entry["targets"].items()},
        )
        for entry in results["rows"]
    ]


def merged(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    """Results of an earlier run, with those of a backend's run put in.

    Args:
        old: Content of results.json.
        new: What `benchmarks.worker` wrote.
    """
    found = {}
    for entry in old["rows"]:
        environment = old["environments"][entry["environment"]]
        found[_key(entry)] = (environment, entry)
    for entry in new["rows"]:
        found[_key(entry)] = (new["environment"], entry)
    environments = []
    for environment, _ in found.values():
        if environment not in environments:
            environments.append(environment)
    return {
        "environments": environments,
        "rows": [
            {**entry, "environment": environments.index(environment)}
            for environment, entry in found.values()
        ],
    }


def to_json(results: Mapping[str, Any]) -> str:
    """The text of results.json: each entry of its parts on a line."""
    parts = []
    for key, entries in results.items():
        start, end, names = "[", "]", [""] * len(entries)
        if isinstance(entries, Mapping):
            start, end = "{", "}"
            names = [f"{json.dumps(name)}: " for name in entries]
            entries = entries.values()
        lines = ",\n".join(
            f"  {name}{json.dumps(entry, allow_nan=False)}"
            for name, entry in zip(names, entries, strict=True)
        )
        parts.append(f' "{key}": {start}\n{lines}\n {end}')
    return "{\n" + ",\n".join(parts) + "\n}\n"


def _key(entry: Mapping[str, Any]) -> tuple[str, ...]:
    return tuple(entry[key] for key in _KEYS)


def _arm(comparison: Comparison, arm: str) -> dict[str, Any]:
    costs = comparison.costs[arm]
    return {
        "quartiles": [*map(_rounded, np.quantile(costs, (0.25, 0.5, 0.75)))],
        "first_seconds": _rounded(comparison.first_seconds[arm]),
        "ratio": _ratio_entry(comparison.ratio(arm)),
    }


def _ratio_entry(ratio: Ratio) -> list[float | None]:
    return [_rounded(v) for v in (ratio.median, ratio.low, ratio.high)]


def _rounded(value: float) -> float | None:
    """Infinity, which JSON has not, is None."""
    return float(f"{value:.{DIGITS}g}") if math.isfinite(value) else None


def _ratio(found: Sequence[float | None]) -> Ratio:
    return Ratio(*(math.inf if value is None else value for value in found))
