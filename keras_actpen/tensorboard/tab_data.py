"""What PenaltyMonitor writes for the Activations tab.

The format is that of `keras_actpen_tensorboard.schema`, which documents it. It
is not imported: the tab is a package of its own, and a test compares both.
"""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from keras_actpen.attach.activation_spec import ActivationSpec
from keras_actpen.attach.layer_refs import output_shape
from keras_actpen.attach.penalized_layer import PenalizedLayer
from keras_actpen.penalties.formula import formula_of
from keras_actpen.statistics.findings import Finding
from keras_actpen.statistics.snapshot import Snapshots, StatisticsSnapshot
from keras_actpen.tensorboard import events, tags
from keras_actpen.tensorboard.numerals import shortest, without_noise

PLUGIN = "keras_actpen"
SCHEMA = 1
MODEL = f"{PLUGIN}/model"
FINDINGS = f"{PLUGIN}/findings"
POSITIONS = f"{PLUGIN}/positions"
# The smallest number above 0 of a float16.
SMALLEST_RATE = 2.0**-24


def units_tag(path: str, spec: ActivationSpec) -> str:
    """Tag of the firing rates of the units at a place."""
    return _tag("units", path, spec)


def values_tag(path: str, spec: ActivationSpec) -> str:
    """Tag of the histograms of the values at a place."""
    return _tag("values", path, spec)


def _tag(quantity: str, path: str, spec: ActivationSpec) -> str:
    if spec.on != "output":
        quantity = f"{tags.kind(spec)}.{quantity}"
    return f"{PLUGIN}/{quantity}/{tags.spec_path(path, spec)}"


def model(
    layers: Mapping[str, PenalizedLayer],
    name: str,
    version: str,
    asked: tuple[str, ...] = (),
) -> Iterator[events.Value]:
    """The model document.

    Args:
        layers: The penalized and watched layers by path.
        name: Name of the model.
        version: Version of this package.
        asked: Names of the optional statistics.
    """
    document = {
        "schema": SCHEMA,
        "version": version,
        "model": name,
        "statistics": tags.definitions(asked),
        "layers": [_layer(path, layer) for path, layer in layers.items()],
    }
    yield _json(MODEL, document, "What is attached, and where.")


def _layer(path: str, layer: PenalizedLayer) -> dict[str, Any]:
    return {
        "path": path,
        "class": type(layer).__name__,
        "output_shape": output_shape(layer),
        "places": [
            {
                "on": spec.on,
                "output": spec.output,
                "kind": tags.kind(spec),
                "path": tags.spec_path(path, spec),
            }
            for spec in layer.actpen.specs
        ],
        "terms": [
            {
                "name": name,
                "on": str(term.spec),
                "penalty": without_noise(repr(term.penalty)),
                "formula": formula_of(term.penalty),
                "coefficient": _number(
                    shortest(layer.actpen.coefficients[name])
                ),
            }
            for name, term in layer.actpen.terms.items()
        ],
    }


def findings(found: Sequence[Finding]) -> Iterator[events.Value]:
    """The findings of an epoch, if it has any."""
    if not found:
        return
    document = {
        "schema": SCHEMA,
        "findings": [
            {
                "kind": finding.kind,
                "path": finding.path,
                "term": getattr(finding, "term", None),
                "value": _number(finding.value),
                "threshold": _number(finding.threshold),
                "message": finding.message,
            }
            for finding in found
        ],
    }
    yield _json(FINDINGS, document, "What was wrong in the epoch.")


def units(
    path: str, spec: ActivationSpec, snapshot: StatisticsSnapshot
) -> Iterator[events.Value]:
    """The firing rates of the units at a place, if any were seen."""
    rates = snapshot.firing_rates
    if rates is not None:
        # A unit that fired at all must not look like one that never did.
        stored = np.where(rates > 0, np.maximum(rates, SMALLEST_RATE), 0.0)
        yield events.plugin_tensor(
            PLUGIN,
            units_tag(path, spec),
            stored.astype(np.float16),
            tags.FIRING_RATE,
        )


def positions(
    layers: Mapping[str, PenalizedLayer], snapshots: Snapshots
) -> Iterator[events.Value]:
    """By how many positions the units of each place were judged."""
    seen = [
        _positions(snapshots.get((path, spec)))
        for path, layer in layers.items()
        for spec in layer.actpen.specs
    ]
    yield events.plugin_tensor(
        PLUGIN,
        POSITIONS,
        np.array(seen, dtype=np.float64),
        "Positions by which units were judged, for each place of each layer.",
    )


def _positions(snapshot: StatisticsSnapshot | None) -> float:
    if snapshot is None or snapshot.fired is None:
        return 0.0
    return (snapshot.count + snapshot.nonfinite) / len(snapshot.fired)


def values(
    path: str, spec: ActivationSpec, snapshot: StatisticsSnapshot
) -> Iterator[events.Value]:
    """The histogram at a place, if anything has been counted."""
    if len(snapshot.histogram):
        yield events.plugin_tensor(
            PLUGIN,
            values_tag(path, spec),
            np.asarray(snapshot.histogram, dtype=np.float64),
            tags.HISTOGRAM,
        )


def _json(tag: str, document: Any, description: str) -> events.Value:
    text = json.dumps(document, allow_nan=False)
    return events.plugin_tensor(PLUGIN, tag, text, description)


def _number(value: float) -> float | str:
    """A number as strict JSON has it."""
    value = float(value)
    if math.isfinite(value):
        return value
    if math.isnan(value):
        return "NaN"
    return "Infinity" if value > 0 else "-Infinity"
