"""Findings while a model trains: warnings, and a callback of the user's."""

import itertools
import math
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import keras

from keras_actpen.attach.activation_spec import ActivationSpec
from keras_actpen.attach.penalized_layer import PenalizedLayer
from keras_actpen.attach.recording import log_key
from keras_actpen.attach.user_warning import warn_user
from keras_actpen.penalties.validation import invalid_type
from keras_actpen.statistics.findings import (
    Evidence,
    Finding,
    judge,
    sentence,
    sentence_of_kind,
    severity,
)
from keras_actpen.statistics.snapshot import Snapshots, StatisticsSnapshot
from keras_actpen.statistics.thresholds import (
    FACTS,
    THRESHOLDS,
    AlertKinds,
    thresholds_from,
)

OnFinding = Callable[[Finding, keras.Model], Any]

# Paths of the layers of which a fact is true, by its kind in `FACTS`.
Facts = Mapping[str, Collection[str]]


class Alerts:
    """Reports what is wrong: a warning per kind, again if it grows worse.

    It has grown worse if more layers are concerned, or if the worst value is
    twice as bad (see `severity`). Facts are reported in the step that shows
    them, everything else at the end of an epoch.

    A penalty is not called negligible in the first epoch of a training, in
    which the task's own loss is still that of an untrained model.

    Args:
        alerts: The kinds of findings, a mapping from kinds to thresholds, or
            `"sparse"`.
        on_finding: Called with every finding and the model, or `None`.

    Raises:
        TypeError: If an argument has the wrong type.
        ValueError: If a kind is unknown or a threshold out of range.
    """

    def __init__(
        self,
        alerts: AlertKinds,
        on_finding: OnFinding | None,
    ):
        self.thresholds: dict[str, float] = thresholds_from(
            "alerts", alerts, THRESHOLDS
        )
        if not (on_finding is None or callable(on_finding)):
            raise invalid_type(
                "on_finding",
                "a function f(finding, model), or None",
                on_finding,
            )
        self.on_finding = on_finding
        self.start()

    def start(self) -> None:
        """A training begins."""
        self._epochs = 0
        # Number of layers and severity of what was warned of, by kind.
        self._warned: dict[str, tuple[int, float]] = {}
        self._told_facts: set[tuple[str, str]] = set()

    def new_facts(self, facts: Facts) -> list[Finding]:
        """Facts that have not been reported, once each.

        Args:
            facts: What is true now.
        """
        return [
            Finding(kind, path, 1.0, self.thresholds[kind], FACTS[kind])
            for kind in FACTS
            if kind in self.thresholds
            for path in facts.get(kind, ())
            if (kind, path) not in self._told_facts
        ]

    def findings(
        self,
        layers: Mapping[str, PenalizedLayer],
        means: Mapping[str, float],
        loss: float | None,
        snapshots: Snapshots,
        facts: Facts,
    ) -> list[Finding]:
        """What is wrong at the end of an epoch, in model order.

        Args:
            layers: The penalized layers by path.
            means: Coefficient times value of every term, by `penalty/...`.
            loss: The loss of the epoch, or `None` if it is not known.
            snapshots: Activation statistics by path and place.
            facts: What is true of the layers.
        """
        self._epochs += 1
        thresholds = dict(self.thresholds)
        if self._epochs == 1:
            thresholds.pop("negligible", None)
        return [
            finding
            for path, layer in layers.items()
            for finding in judge(
                evidence(path, layer, means, loss, snapshots, facts),
                thresholds,
            )
        ]

    def announce(
        self, findings: Sequence[Finding], model: keras.Model, layers: int
    ) -> None:
        """Warn of findings, and hand them to `on_finding`.

        Args:
            findings: What was found.
            model: The model that is trained.
            layers: Number of layers that were looked at.
        """
        untold = [
            one
            for one in findings
            if (one.kind, one.path) not in self._told_facts
        ]
        self._told_facts.update(
            (one.kind, one.path) for one in untold if one.kind in FACTS
        )
        # `on_finding` first: a warning may be an error.
        if self.on_finding is not None:
            for finding in untold:
                self.on_finding(finding, model)
        for kind in THRESHOLDS:
            if of_kind := _worst_of_each_layer(untold, kind):
                self._warn(of_kind, layers)

    def _warn(self, findings: Sequence[Finding], layers: int) -> None:
        """Warn of findings of one kind, unless it was done before."""
        kind, count = findings[0].kind, len(findings)
        worst = max(map(severity, findings))
        before = self._warned.get(kind)
        if before is not None:
            grown = count > before[0] or worst >= before[1] + 1
            if kind not in FACTS and not grown:
                return
            count, worst = max(count, before[0]), max(worst, before[1])
        self._warned[kind] = count, worst
        warn_user(sentence_of_kind(findings, layers))


def _worst_of_each_layer(
    findings: Sequence[Finding], kind: str
) -> list[Finding]:
    """Findings of a kind, one per layer, in the order they came in."""
    worst: dict[str, Finding] = {}
    for one in findings:
        if one.kind == kind:
            other = worst.get(one.path, one)
            worst[one.path] = max(other, one, key=severity)
    return list(worst.values())


def evidence(
    path: str,
    layer: PenalizedLayer,
    means: Mapping[str, float],
    loss: float | None,
    snapshots: Snapshots,
    facts: Facts,
) -> Evidence:
    """What is known of one layer.

    Args:
        path: Path of the layer.
        layer: The layer.
        means: As in `Alerts.findings`; none if no step ran in the epoch.
        loss: The same.
        snapshots: The same.
        facts: As in `Alerts.findings`.
    """
    activation = getattr(layer.wrapped_layer, "activation", None)
    keys = {name: log_key(path, name) for name in layer.actpen.terms}
    return Evidence(
        path=path,
        terms={name: means[key] for name, key in keys.items() if key in means},
        loss=math.nan if loss is None else float(loss),
        statistics=_of_layer(path, layer, snapshots),
        activation=getattr(activation, "__name__", ""),
        facts=[kind for kind in FACTS if path in facts.get(kind, ())],
    )


def _of_layer(
    path: str, layer: PenalizedLayer, snapshots: Snapshots
) -> dict[ActivationSpec, StatisticsSnapshot]:
    return {
        spec: snapshots[path, spec]
        for spec in layer.actpen.specs
        if (path, spec) in snapshots
    }


def sentences(findings: Sequence[Finding]) -> list[str]:
    """One sentence for every layer."""
    grouped = itertools.groupby(findings, key=lambda finding: finding.path)
    return [sentence(list(group)) for _, group in grouped]
