"""Rules that say in plain words what is wrong with a layer.

Everything here is pure: numbers in, findings out.
"""

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from keras_actpen.attach.activation_spec import ActivationSpec
from keras_actpen.statistics.saturated_fraction import (
    BOUNDS,
    SATURATED_BEYOND,
)
from keras_actpen.statistics.snapshot import StatisticsSnapshot
from keras_actpen.statistics.thresholds import FACTS, SHARES, THRESHOLDS

# A unit that did not fire in 100 samples has a rate below 3 % (95 %
# confidence, 3/n). With fewer nobody can call it dead.
SAMPLES_TO_BE_DEAD = 100


@dataclass(frozen=True)
class Finding:
    """Something that is wrong with a layer.

    Example:
    ```python
    def stop(finding, model):
        model.stop_training = finding.kind == "nonfinite"

    PenaltyMonitor("logs", on_finding=stop)
    ```

    Attributes:
        kind: `"unused"`, `"not_called"`, `"frozen"`, `"nonfinite"`,
            `"exploding"`, `"dead"`, `"saturated"`, `"dominating"` or
            `"negligible"`.
        path: Path of the layer.
        value: What was measured: for `"nonfinite"` the number of NaN and
            infinite activations, or the term that is one; for `"exploding"`
            the root mean square of the activations; 1 for the first three
            kinds, which are true or not; otherwise a share from 0 to 1.
        threshold: What it was compared with.
        message: What is wrong, in plain words, without the layer's path.
    """

    kind: str
    path: str
    value: float
    threshold: float
    message: str


@dataclass(frozen=True)
class Evidence:
    """What is known of a layer over a period.

    Attributes:
        path: Path of the layer.
        terms: Coefficient times value of every term, by its name.
        loss: The loss of the period, NaN if it is not known.
        statistics: Statistics of the activations by place.
        activation: Name of the layer's own activation function, or `""`.
        facts: The kinds among `FACTS` that are the case.
    """

    path: str
    terms: Mapping[str, float] = field(default_factory=dict)
    loss: float = math.nan
    statistics: Mapping[ActivationSpec, StatisticsSnapshot] = field(
        default_factory=dict
    )
    activation: str = ""
    facts: Collection[str] = ()


def judge(evidence: Evidence, thresholds: Mapping[str, float]) -> list[Finding]:
    """Find what is wrong with a layer.

    The penalty of a layer is not called negligible where its units seem dead,
    even if there were too few samples to be sure.

    Args:
        evidence: What is known of it.
        thresholds: Threshold of every kind that is looked for.

    Returns:
        The findings, in the order of `THRESHOLDS`.
    """
    found = [
        Finding(kind, evidence.path, value, thresholds[kind], message)
        for kind, value, message in _measured(evidence)
        if kind in thresholds
        and _exceeds(kind, value, thresholds[kind])
        # A larger coefficient does not help a dead layer.
        and not (kind == "negligible" and _seems_dead(evidence, thresholds))
    ]
    return sorted(found, key=lambda one: list(THRESHOLDS).index(one.kind))


def sentence(findings: Sequence[Finding]) -> str:
    """The findings of one layer in one sentence."""
    messages = "; ".join(finding.message for finding in findings)
    return f"{findings[0].path}: {messages}"


def sentence_of_kind(findings: Sequence[Finding], layers: int) -> str:
    """The findings of one kind in one sentence.

    Args:
        findings: At most one per layer.
        layers: Number of layers that were looked at.
    """
    worst = max(findings, key=severity)
    if len(findings) == 1:
        return sentence(findings)
    paths = [one.path for one in findings if one is not worst]
    others = ", ".join(paths[:5])
    if len(paths) > 5:
        others += f" and {len(paths) - 5} more"
    subject = f"{len(findings)} of {layers} layers"
    if worst.kind in FACTS:
        return f"{subject}: {worst.message}. They are {worst.path}, {others}"
    return (
        f"{subject}, worst {worst.path}: {worst.message}. The others are "
        f"{others}"
    )


def severity(finding: Finding) -> float:
    """How bad a finding is, among those of its kind.

    It grows by 1 if what is wrong doubles: the number of bad values, the
    activations, or the ratio of bad to good units.
    """
    value = abs(finding.value)
    if not math.isfinite(value):
        return math.inf
    if finding.kind == "negligible":
        return -math.log2(value)
    if finding.kind in SHARES:
        value /= max(1 - value, 1e-9)
    return math.log2(value) if value else -math.inf


def _seems_dead(evidence: Evidence, thresholds: Mapping[str, float]) -> bool:
    return "dead" in thresholds and any(
        _exceeds("dead", one.value("dead_fraction"), thresholds["dead"])
        for one in evidence.statistics.values()
    )


def _exceeds(kind: str, value: float, threshold: float) -> bool:
    if kind == "negligible":
        return value < threshold
    if kind == "nonfinite":
        return not value <= threshold
    return value >= threshold


def _measured(evidence: Evidence) -> Iterator[tuple[str, float, str]]:
    """Kind, value and message of all that can be measured."""
    for kind in evidence.facts:
        yield kind, 1.0, FACTS[kind]
    for spec, snapshot in evidence.statistics.items():
        yield from _of_activations(spec, snapshot, evidence.activation)
        yield from _of_units(spec, snapshot)
    for name, value in evidence.terms.items():
        if not math.isfinite(value):
            yield "nonfinite", value, f"the penalty {name} is {value:g}"
    if not evidence.terms or not 0 < evidence.loss < math.inf:
        return
    if "unused" in evidence.facts:  # a penalty that is not in the loss
        return
    share = sum(evidence.terms.values()) / evidence.loss
    message = f"the penalty is {percent(share)} of the loss"
    if math.isfinite(share):
        yield "dominating", share, message
    # A penalty of exactly 0 has its goal reached or its coefficient at 0.
    if share and math.isfinite(share):
        advice = "raise its coefficient, `suggest_coefficient` finds one"
        yield "negligible", abs(share), f"{message} ({advice})"


def _of_activations(
    spec: ActivationSpec, snapshot: StatisticsSnapshot, activation: str
) -> Iterator[tuple[str, float, str]]:
    before = "pre-" if spec.on == "preactivation" else ""
    what = f"{before}activations{_of_output(spec)}"
    count = snapshot.nonfinite
    yield "nonfinite", float(count), f"{count} {what} are NaN or infinite"
    rms = snapshot.value("rms")
    yield "exploding", rms, f"the {what} have a root mean square of {rms:.3g}"
    if spec.on == "output":
        saturated = saturated_share(snapshot, activation)
        message = f"about {percent(saturated)} of {what} are saturated"
        yield "saturated", saturated, message


def _of_units(
    spec: ActivationSpec, snapshot: StatisticsSnapshot
) -> Iterator[tuple[str, float, str]]:
    if not has_enough_samples(snapshot):
        return
    dead = snapshot.value("dead_fraction")
    # The activation turns pre-activations that are 0 into something else.
    state = "have no input" if spec.on == "preactivation" else "are dead"
    yield "dead", dead, f"{percent(dead)} of units{_of_output(spec)} {state}"


def _of_output(spec: ActivationSpec) -> str:
    return f" of output {spec.output}" if spec.output != 0 else ""


def has_enough_samples(snapshot: StatisticsSnapshot) -> bool:
    """Whether units can be called dead by what was seen of them."""
    return snapshot.dead_window >= SAMPLES_TO_BE_DEAD


def saturated_share(snapshot: StatisticsSnapshot, activation: str) -> float:
    """Share of activations close to a bound of their range.

    Close as in the statistic `saturated_fraction`: `abs(h) > 0.9` for tanh.
    It is estimated from the histogram, which is there anyway: of a bucket
    that is partly close to a bound, that part of its values counts. Exact
    zeros, which are not in it, count as the share of zeros says.

    Args:
        snapshot: The statistics.
        activation: Name of the layer's activation function.

    Returns:
        The share, NaN if nothing has been seen or the activation has no two
        bounds.
    """
    if activation not in BOUNDS or not snapshot.count:
        return math.nan
    low, high = BOUNDS[activation]
    margin = (1 - SATURATED_BEYOND) * (high - low) / 2
    low, high = low + margin, high - margin
    zeros = snapshot.zeros / snapshot.count
    of_zeros = float(not low <= 0 <= high)
    if not len(snapshot.histogram):
        return zeros * of_zeros
    left, right, counts = snapshot.histogram.T
    if left[0] == right[-1]:  # all values are equal
        of_others = float(not low <= left[0] <= high)
    else:
        between = np.clip(right, low, high) - np.clip(left, low, high)
        share = (counts * between / (right - left)).sum() / counts.sum()
        of_others = 1 - float(share)
    return zeros * of_zeros + (1 - zeros) * of_others


def percent(share: float) -> str:
    """A share as percentage that is as short as it can be: `84 %`."""
    if math.isnan(share):
        return "-"
    number = 100 * share
    return f"{number:.0f} %" if abs(number) >= 1 else f"{number:.2g} %"
