"""Findings while a model trains: warnings, and a callback of the user's."""

import itertools
import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras

from keras_actpen.attach.capture import ActivationSpec
from keras_actpen.attach.penalized_layer import PenalizedLayer
from keras_actpen.attach.recording import log_key
from keras_actpen.statistics.findings import (
    THRESHOLDS,
    Evidence,
    Finding,
    judge,
    sentence,
    thresholds_from,
)
from keras_actpen.statistics.snapshot import Snapshots, StatisticsSnapshot

OnFinding = Callable[[Finding, keras.Model], Any]


class Alerts:
    """Tells of what is wrong, once a layer and epoch.

    A penalty is not called negligible in the first epoch of a training, in
    which the task's own loss is still that of an untrained model.

    Args:
        alerts: The kinds of findings, or a mapping from kinds to thresholds.
        on_finding: Called with every finding and the model, or `None`.

    Raises:
        TypeError: If an argument has the wrong type.
        ValueError: If a kind is unknown or a threshold out of range.
    """

    def __init__(
        self,
        alerts: Sequence[str] | Mapping[str, float | None],
        on_finding: OnFinding | None,
    ):
        self.thresholds: dict[str, float] = thresholds_from(
            "alerts", alerts, THRESHOLDS
        )
        if not (on_finding is None or callable(on_finding)):
            raise TypeError(
                "Invalid type received for argument `on_finding`. Expected "
                "a function f(finding, model), or None. Received: "
                f"on_finding={on_finding!r} (of type "
                f"{type(on_finding).__name__})"
            )
        self.on_finding = on_finding
        self.start()

    def start(self) -> None:
        """A training begins."""
        self._epochs = 0

    def findings(
        self,
        layers: Mapping[str, PenalizedLayer],
        means: Mapping[str, float],
        loss: float | None,
        snapshots: Snapshots,
    ) -> list[Finding]:
        """What is wrong at the end of an epoch, in model order.

        Args:
            layers: The penalised layers by path.
            means: Coefficient times value of every term, by `penalty/...`.
            loss: The loss of the epoch, or `None` if it is not known.
            snapshots: Activation statistics by path and place.
        """
        self._epochs += 1
        thresholds = dict(self.thresholds)
        if self._epochs == 1:
            thresholds.pop("negligible", None)
        return [
            finding
            for path, layer in layers.items()
            for finding in judge(
                evidence(path, layer, means, loss, snapshots),
                thresholds,
            )
        ]

    def announce(self, findings: Sequence[Finding], model: keras.Model) -> None:
        """Warn of findings, and hand them to `on_finding`."""
        for text in sentences(findings):
            warnings.warn(text, stacklevel=2)
        if self.on_finding is not None:
            for finding in findings:
                self.on_finding(finding, model)


def evidence(
    path: str,
    layer: PenalizedLayer,
    means: Mapping[str, float],
    loss: float | None,
    snapshots: Snapshots,
) -> Evidence:
    """What is known of one layer.

    Args:
        path: Path of the layer.
        layer: The layer.
        means: As in `Alerts.findings`.
        loss: The same.
        snapshots: The same.
    """
    activation = getattr(layer.wrapped_layer, "activation", None)
    return Evidence(
        path=path,
        terms={name: means[log_key(path, name)] for name in layer.actpen.terms},
        loss=math.nan if loss is None else float(loss),
        statistics=_of_layer(path, layer, snapshots),
        activation=getattr(activation, "__name__", ""),
    )


def _of_layer(
    path: str, layer: PenalizedLayer, snapshots: Snapshots
) -> dict[ActivationSpec, StatisticsSnapshot]:
    return {
        place: snapshots[path, place]
        for place in layer.actpen.places
        if (path, place) in snapshots
    }


def sentences(findings: Sequence[Finding]) -> list[str]:
    """One sentence for every layer."""
    grouped = itertools.groupby(findings, key=lambda finding: finding.path)
    return [sentence(list(group)) for _, group in grouped]
