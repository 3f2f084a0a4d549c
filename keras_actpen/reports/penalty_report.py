"""penalty_report: what the penalties do to a model, on data."""

# Annotations stay as written, so that `help()` shows short names of types.
from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from typing import Any

import keras

from keras_actpen.attach.frozen import frozen_layers
from keras_actpen.attach.layer_refs import output_shape
from keras_actpen.attach.penalized_layer import PenalizedLayer
from keras_actpen.attach.recording import log_key
from keras_actpen.reports.data import Data, Verbose
from keras_actpen.reports.evaluate import Measurement, measure
from keras_actpen.reports.gradient_share import gradient_shares
from keras_actpen.reports.layer_report import (
    LayerReport,
    PenaltyReport,
    TermReport,
)
from keras_actpen.reports.observed_layers import observed_layers
from keras_actpen.statistics.alerts import evidence
from keras_actpen.statistics.findings import has_enough_samples, judge
from keras_actpen.statistics.thresholds import (
    THRESHOLDS,
    AlertKinds,
    thresholds_from,
)

# Reports are explicit, so their thresholds are lower than those of warnings.
_THRESHOLDS = {**THRESHOLDS, "dead": 0.1}


def penalty_report(
    model: keras.Model,
    x: Any,
    y: Any = None,
    *,
    sample_weight: Any = None,
    batch_size: int | None = None,
    steps: int | None = None,
    training: bool = False,
    alerts: AlertKinds = tuple(THRESHOLDS),
    verbose: Verbose = "auto",
) -> PenaltyReport:
    """Report what the penalties of a model do, and what is wrong.

    For every term: coefficient times value, its share of the loss, and its
    share of the gradient (`penalty_gradient_share`) on the first batch. For
    every place that is penalized or watched: the statistics of the
    activations over all of `x`, of which the table shows the share of zeros
    and of dead units. Masked positions are left out. Then the findings, in
    plain words: "dense_4: 31 % of units are dead; the penalty is 84 % of the
    loss".

    Values and loss are means over the batches, weighted by their size: those
    of `model.evaluate`. The model is not changed.

    Example:
    >>> import numpy as np
    >>> from keras_actpen import attach_penalty
    >>> model = keras.Sequential([
    ...     keras.Input((2,)), keras.layers.Dense(
    ...         2, "relu", kernel_initializer="identity", name="hidden")])
    >>> model = attach_penalty(model, "hidden", l2=0.5)
    >>> model.compile("sgd", "mse")
    >>> x, y = np.array([[1.0, 2.0]]), np.array([[0.0, 0.0]])
    >>> report = penalty_report(model, x, y)
    >>> report.layers[0].terms[0].loss_share, report.findings[0].message
    (0.5, 'the penalty is 50 % of the loss')

    Args:
        model: A built model with penalized or watched layers.
        x: Inputs, as `model.evaluate` takes them: an array, lists and
            dictionaries of arrays, or what holds the targets too: a
            `tf.data.Dataset`, a `PyDataset`, a torch `DataLoader`, a
            generator of batches.
        y: Targets, as the loss takes them. Without them, or if the model is
            not compiled, no share is known.
        sample_weight: Weights of the samples, or `None`.
        batch_size: Samples in a batch of arrays; default: 32, or what makes
            `steps` batches.
        steps: How many batches at most.
        training: Whether layers such as Dropout behave as in training.
        alerts: The kinds of findings to look for, or a mapping that changes
            their thresholds, as in `PenaltyMonitor`, except that dead units
            are reported from 10 % on.
        verbose: `"auto"`, 0, 1 or 2, as in `model.evaluate`; `"auto"` shows a
            progress bar where there are several batches.

    Returns:
        A `PenaltyReport`, with `layers` and `findings`.

    Raises:
        TypeError: If an argument has the wrong type.
        ValueError: If the model is not built or has no penalized or watched
            layer, there are no samples, the data is not in a form that
            `evaluate` takes, or a kind of findings is unknown.
    """
    limits = thresholds_from("alerts", alerts, _THRESHOLDS)
    layers = observed_layers(model)
    data = Data(x, y, sample_weight, batch_size, steps, verbose).batches()
    first = next(data)
    batches = itertools.chain([first], data)
    measured = measure(model, layers, batches, training)
    pulls: dict[str, float] = {}
    if not math.isnan(measured.loss) and measured.means:
        pulls = gradient_shares(model, [first], training)
    penalized = {path: one for path, one in layers.items() if one.actpen.terms}
    frozen = frozen_layers(model, penalized)
    findings = [
        finding
        for path, layer in layers.items()
        for finding in judge(
            evidence(
                path,
                layer,
                measured.means,
                measured.loss,
                measured.snapshots,
                facts={"frozen": frozen},
            ),
            limits,
        )
    ]
    return PenaltyReport(
        model=model.name,
        samples=measured.samples,
        loss=measured.loss,
        layers=tuple(
            _layer_report(path, layer, measured, pulls)
            for path, layer in layers.items()
        ),
        findings=tuple(findings),
    )


def _layer_report(
    path: str,
    layer: PenalizedLayer,
    measured: Measurement,
    pulls: Mapping[str, float],
) -> LayerReport:
    def share(value: float) -> float:
        return value / measured.loss if measured.loss else math.nan

    values = {
        name: measured.means[log_key(path, name)] for name in layer.actpen.terms
    }
    return LayerReport(
        path=path,
        layer_class=type(layer).__name__,
        output_shape=output_shape(layer),
        terms=tuple(
            TermReport(
                name=name,
                on=str(term.spec),
                coefficient=layer.actpen.coefficients[name],
                value=values[name],
                loss_share=share(values[name]),
                gradient_share=pulls.get(f"{path}/{name}", math.nan),
            )
            for name, term in layer.actpen.terms.items()
        ),
        statistics={
            str(spec): measured.snapshots[path, spec].values()
            for spec in layer.actpen.specs
        },
        unjudged=tuple(
            str(spec)
            for spec in layer.actpen.specs
            if measured.snapshots[path, spec].fired is not None
            and not has_enough_samples(measured.snapshots[path, spec])
        ),
    )
