"""What PenaltyMonitor writes of every epoch for the stock pages."""

import math
from collections.abc import Iterator, Mapping

import numpy as np

from keras_actpen.attach.activation_spec import ActivationSpec
from keras_actpen.attach.penalized_layer import PenalizedLayer
from keras_actpen.statistics import optional
from keras_actpen.statistics.histograms import histogram_of
from keras_actpen.statistics.snapshot import DEFINITIONS, StatisticsSnapshot
from keras_actpen.tensorboard import events, tags
from keras_actpen.tensorboard.epoch_data import Recorded, numbers


def metric_points(reported: Mapping[str, float]) -> Iterator[events.Value]:
    """Points of the loss and the metrics that Keras reports."""
    for key, name, value in numbers(reported):
        yield events.scalar(
            f"metric/{name}", value, f"`{key}` as Keras reports it."
        )


def batch_points(means: Mapping[str, float]) -> Iterator[events.Value]:
    """Points of the terms over batches."""
    for tag, value in means.items():
        yield events.scalar(
            tag.replace("penalty/", "penalty.batch/", 1),
            value,
            "Coefficient times value, mean since the epoch began. The step "
            "is the number of batches trained on.",
        )


def loss_points(
    recorded: Recorded, loss: float | None
) -> Iterator[events.Value]:
    """Points of every term, of their shares and of the overview.

    Args:
        recorded: What was recorded of the epoch.
        loss: The loss of the epoch, or `None` if it is not known.
    """
    means = recorded.means
    if not means:  # layers that are only watched
        return
    in_loss = recorded.in_loss
    total = sum(in_loss.values())
    overview = {"penalty_total": total}
    if loss is not None:
        overview["task_loss"] = loss - total
        if loss:
            overview["penalty_share"] = total / loss
    for name, value in overview.items():
        for group in tags.OVERVIEW_GROUPS:
            yield events.scalar(f"{group}/{name}", value, tags.OVERVIEW[name])
    for tag, value in means.items():
        yield events.scalar(tag, value, "Coefficient times value of the term.")
        if loss:
            yield events.scalar(
                tag.replace("penalty/", "penalty.share/", 1),
                in_loss[tag] / loss,
                "Share of the term in the loss.",
            )


def coefficient_points(
    layers: Mapping[str, PenalizedLayer],
) -> Iterator[events.Value]:
    """Points of the coefficient of every term."""
    for name, coefficient in tags.coefficients(layers).items():
        yield events.scalar(
            f"penalty.coefficient/{name}",
            coefficient,
            "Coefficient of the term at the end of the epoch.",
        )


def cost_points(costs: Mapping[str, float]) -> Iterator[events.Value]:
    """Points of what the monitor itself costs."""
    for name, value in costs.items():
        yield events.scalar(f"monitor/{name}", value, tags.COSTS[name])


def optional_points(
    path: str, spec: ActivationSpec, values: optional.Values
) -> Iterator[events.Value]:
    """Points of the optional statistics that have been seen."""
    for name, value in values.items():
        if isinstance(value, float) and not math.isnan(value):
            tag = tags.statistic_tag(name, path, spec)
            yield events.scalar(tag, value, optional.DEFINITIONS[name])


def statistic_points(
    path: str, spec: ActivationSpec, snapshot: StatisticsSnapshot
) -> Iterator[events.Value]:
    """Points of every statistic that has been seen, and of the band."""
    values = {
        name: value
        for name, value in snapshot.values().items()
        if not math.isnan(value)
    }
    for name, value in values.items():
        tag = tags.statistic_tag(name, path, spec)
        yield events.scalar(tag, value, DEFINITIONS[name])
    if "std" in values:
        for edge, sign in (("lower", -1), ("upper", 1)):
            value = values["mean"] + sign * values["std"]
            tag = tags.band_tag(edge, path, spec)
            yield events.scalar(tag, value, tags.BAND[edge])


def histogram(
    path: str, spec: ActivationSpec, snapshot: StatisticsSnapshot
) -> Iterator[events.Value]:
    """The histogram, if anything has been counted."""
    if len(snapshot.histogram):
        tag = tags.statistic_tag("values", path, spec)
        yield events.histogram(tag, snapshot.histogram, tags.HISTOGRAM)


def rate_histogram(
    path: str, spec: ActivationSpec, snapshot: StatisticsSnapshot
) -> Iterator[events.Value]:
    """The histogram of the units' firing rates, if any unit has fired."""
    rates = snapshot.firing_rates
    if rates is not None and (rates > 0).any():
        tag = tags.statistic_tag("log10_firing_rate", path, spec)
        buckets = histogram_of(np.log10(rates[rates > 0]))
        yield events.histogram(tag, buckets, tags.LOG_RATES)
