"""Rules that say in plain words what is wrong with a layer.

Everything here is pure: numbers in, findings out.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from keras_actpen.attach.capture import ActivationSpec
from keras_actpen.penalties.validation import check_number
from keras_actpen.statistics.saturated_fraction import (
    BOUNDS,
    SATURATED_BEYOND,
)
from keras_actpen.statistics.snapshot import StatisticsSnapshot

# From which value on there is a finding, by kind; for "negligible" below
# which, for "nonfinite" above which. In the order in which they are told.
THRESHOLDS: dict[str, float] = {
    # Number of elements: NaN never goes away by itself.
    "nonfinite": 0.0,
    # Root mean square of the activations. Initialisers keep it near 1 (He,
    # Zhang, Ren, Sun 2015, "Delving Deep into Rectifiers").
    "exploding": 1000.0,
    # Share of the units: `threshold_layer` of the rule DeadRelu of SageMaker
    # Debugger.
    "dead": 0.5,
    # Share of the activations: `threshold_layer` of its SaturatedActivation.
    "saturated": 0.5,
    # Share of a layer's penalty in the loss: more than all the rest.
    "dominating": 0.5,
    # The same: 1 % of the share of the gradient, 0.01, from which on a
    # penalty usually matters, see `penalty_gradient_share`.
    "negligible": 1e-4,
}

# Kinds whose threshold is a share.
SHARES = ("dead", "saturated", "dominating", "negligible")

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
        kind: `"nonfinite"`, `"exploding"`, `"dead"`, `"saturated"`,
            `"dominating"` or `"negligible"`.
        path: Path of the layer.
        value: What was measured: for `"nonfinite"` the number of NaN and
            infinite activations, or the term that is one; for `"exploding"`
            the root mean square of the activations; else a share from 0 to 1.
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
    """

    path: str
    terms: Mapping[str, float] = field(default_factory=dict)
    loss: float = math.nan
    statistics: Mapping[ActivationSpec, StatisticsSnapshot] = field(
        default_factory=dict
    )
    activation: str = ""


def judge(evidence: Evidence, thresholds: Mapping[str, float]) -> list[Finding]:
    """Find what is wrong with a layer.

    The penalty of a layer is not called negligible where its units seem dead,
    be it by too few samples to say so.

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
        # What a dead layer needs is not a larger coefficient.
        and not (kind == "negligible" and _seems_dead(evidence, thresholds))
    ]
    return sorted(found, key=lambda one: list(THRESHOLDS).index(one.kind))


def sentence(findings: Sequence[Finding]) -> str:
    """The findings of one layer in one sentence."""
    messages = "; ".join(finding.message for finding in findings)
    return f"{findings[0].path}: {messages}"


def thresholds_from(
    argument: str, given: Any, defaults: Mapping[str, float]
) -> dict[str, float]:
    """Threshold of every kind that is looked for.

    Args:
        argument: Name of the argument that was given.
        given: A sequence of the kinds, or a mapping from kinds to thresholds
            other than the default ones, `None` to leave a kind out.
        defaults: The default thresholds.

    Raises:
        TypeError: If `given` or a threshold has another type.
        ValueError: If a kind is unknown or a threshold out of range.
    """
    if isinstance(given, str) or not isinstance(given, Mapping | Sequence):
        raise TypeError(
            f"Invalid type received for argument `{argument}`. Expected a "
            "sequence of kinds, () for none, or a mapping from kinds to "
            f"thresholds. Received: {argument}={given!r} (of type "
            f"{type(given).__name__})"
        )
    for kind in given:
        if kind not in THRESHOLDS:
            raise ValueError(
                f"Invalid value received for argument `{argument}`. Expected "
                f"kinds among {list(THRESHOLDS)}. Received: {kind!r}"
            )
    if not isinstance(given, Mapping):
        return {kind: defaults[kind] for kind in given}
    chosen = {**defaults, **given}
    return {
        kind: check_number(
            f"{argument}[{kind!r}]",
            value,
            *_range(kind),
        )
        for kind, value in chosen.items()
        if value is not None
    }


def _range(kind: str) -> tuple[str, Callable[[float], bool]]:
    """What a threshold of a kind may be: in words, and as a test."""
    otherwise = "or None to leave this kind out"
    if kind in SHARES:
        expected = f"a share from 0 to 1, 0.5 for 50 %, {otherwise}"
        return expected, lambda number: 0 <= number <= 1
    return f"a finite number >= 0, {otherwise}", lambda number: number >= 0


def _seems_dead(evidence: Evidence, thresholds: Mapping[str, float]) -> bool:
    return "dead" in thresholds and any(
        _exceeds("dead", one.values()["dead_fraction"], thresholds["dead"])
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
    for place, snapshot in evidence.statistics.items():
        yield from _of_activations(place, snapshot, evidence.activation)
        yield from _of_units(place, snapshot)
    for name, value in evidence.terms.items():
        if not math.isfinite(value):
            yield "nonfinite", value, f"the penalty {name} is {value:g}"
    if not evidence.terms or not 0 < evidence.loss < math.inf:
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
    place: ActivationSpec, snapshot: StatisticsSnapshot, activation: str
) -> Iterator[tuple[str, float, str]]:
    before = "pre-" if place.on == "preactivation" else ""
    what = f"{before}activations{_of_output(place)}"
    count = snapshot.nonfinite
    yield "nonfinite", float(count), f"{count} {what} are NaN or infinite"
    rms = snapshot.values()["rms"]
    yield "exploding", rms, f"the {what} have a root mean square of {rms:.3g}"
    if place.on == "output":
        saturated = saturated_share(snapshot, activation)
        message = f"{percent(saturated)} of {what} are saturated"
        yield "saturated", saturated, message


def _of_units(
    place: ActivationSpec, snapshot: StatisticsSnapshot
) -> Iterator[tuple[str, float, str]]:
    if not has_enough_samples(snapshot):
        return
    dead = snapshot.values()["dead_fraction"]
    # The activation turns pre-activations that are 0 into something else.
    state = "have no input" if place.on == "preactivation" else "are dead"
    yield "dead", dead, f"{percent(dead)} of units{_of_output(place)} {state}"


def _of_output(place: ActivationSpec) -> str:
    return f" of output {place.output}" if place.output != 0 else ""


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
