"""What PenaltyMonitor writes of every epoch: tags, values, descriptions."""

import math
from collections.abc import Collection, Iterator, Mapping, Sequence

import numpy as np

from keras_actpen.attach.capture import ActivationSpec
from keras_actpen.attach.penalized_layer import PenalizedLayer
from keras_actpen.statistics.optional import (
    DEFINITIONS as OPTIONAL_DEFINITIONS,
)
from keras_actpen.statistics.optional import Values
from keras_actpen.statistics.snapshot import DEFINITIONS, StatisticsSnapshot
from keras_actpen.tensorboard import events, heatmaps, unit_maps

OVERVIEW = {
    "actpen/penalty_total": "Sum of all penalty terms of the epoch.",
    "actpen/penalty_share": "Share of all penalty terms in the loss.",
    "actpen/task_loss": (
        "Loss without the penalty terms; weight regularisers are in it."
    ),
}
_BAND = {
    "lower": "Mean minus standard deviation of the activations.",
    "upper": "Mean plus standard deviation of the activations.",
}
_HISTOGRAM = (
    "The values of the last instrumented batch of the epoch. Zeros are left "
    "out (`zero_fraction` counts them), and so are NaN and infinities "
    "(`nonfinite` counts them)."
)
COSTS = {
    "overhead": (
        "Extra time of the epoch's instrumented steps, as a share of what all "
        "its steps would take plain."
    ),
    "statistics_freq": (
        "Steps from one instrumented step to the next, in the long run."
    ),
    "step_ratio": (
        "Time of an instrumented step divided by that of a plain one: medians "
        "of the last few that were timed."
    ),
    "writing_share": (
        "Share of the epoch's time in which the monitor read the device and "
        "wrote to `log_dir`."
    ),
}
FIRING_RATE = (
    "Share of the positions in which each unit is not 0, an image of units by "
    "epochs. There is none for a layer whose units never are 0."
)
_DEFINITIONS = {
    **DEFINITIONS,
    **OPTIONAL_DEFINITIONS,
    "firing_rate": FIRING_RATE,
}
_HEAT_MAPS = {
    "dead_fraction": "Share of dead units, layers by epochs.",
    "penalty": "Sum of the penalty terms, layers by epochs.",
}


def place_path(path: str, place: ActivationSpec) -> str:
    """Path of a layer with the output, where it is not the first."""
    return path if place.output == 0 else f"{path}[{place.output}]"


def statistic_tag(name: str, path: str, place: ActivationSpec) -> str:
    """Tag of a statistic of the activations at a place of a layer."""
    kind = "activation" if place.on == "output" else "preactivation"
    return f"{kind}.{name}/{place_path(path, place)}"


def loss(phase: str, logs: Mapping[str, float]) -> float | None:
    """The loss that Keras reports for training or validation, if any."""
    return logs.get("loss" if phase == "train" else "val_loss")


def metric_values(
    phase: str, logs: Mapping[str, float]
) -> Iterator[events.Value]:
    """Points of the loss and the metrics that Keras reports."""
    for key, name in metric_names(phase, logs).items():
        yield events.scalar(
            f"metric/{name}", logs[key], f"`{key}` as Keras reports it."
        )


def metric_names(phase: str, logs: Mapping[str, float]) -> dict[str, str]:
    """Keys of the phase's loss and metrics in `logs`, with their names."""
    validation = phase == "validation"
    return {
        key: key.removeprefix("val_")
        for key in logs
        if key.startswith("val_") == validation
        # The coefficients, which a scheduler logs, have tags of their own.
        and not key.removeprefix("val_").startswith(
            ("penalty/", "penalty.coefficient/")
        )
    }


def batch_values(means: Mapping[str, float]) -> Iterator[events.Value]:
    """Points of the terms over batches."""
    for tag, value in means.items():
        yield events.scalar(
            tag.replace("penalty/", "penalty.batch/", 1),
            value,
            "Coefficient times value, mean since the epoch began. The step "
            "is the number of batches trained on.",
        )


def loss_values(
    means: Mapping[str, float], loss: float | None, unused: Collection[str]
) -> Iterator[events.Value]:
    """Points of every term, of their shares and of the overview.

    Args:
        means: Coefficient times value of every term, by `penalty/...`.
        unused: The keys of those that are not in the loss.
        loss: The loss of the epoch, or `None` if it is not known.
    """
    if not means:  # layers that are only watched
        return
    in_loss = {k: 0.0 if k in unused else v for k, v in means.items()}
    total = sum(in_loss.values())
    overview = {"actpen/penalty_total": total}
    if loss is not None:
        overview["actpen/task_loss"] = loss - total
        if loss:
            overview["actpen/penalty_share"] = total / loss
    for tag, value in overview.items():
        yield events.scalar(tag, value, OVERVIEW[tag])
    for tag, value in means.items():
        yield events.scalar(tag, value, "Coefficient times value of the term.")
        if loss:
            yield events.scalar(
                tag.replace("penalty/", "penalty.share/", 1),
                in_loss[tag] / loss,
                "Share of the term in the loss.",
            )


def coefficient_values(
    layers: Mapping[str, PenalizedLayer],
) -> Iterator[events.Value]:
    """Points of the coefficient of every term."""
    for name, coefficient in coefficients(layers).items():
        yield events.scalar(
            f"penalty.coefficient/{name}",
            coefficient,
            "Coefficient of the term at the end of the epoch.",
        )


def cost_values(costs: Mapping[str, float]) -> Iterator[events.Value]:
    """Points of what the monitor itself costs."""
    for name, value in costs.items():
        yield events.scalar(f"monitor/{name}", value, COSTS[name])


def optional_values(
    path: str, place: ActivationSpec, values: Values
) -> Iterator[events.Value]:
    """Points of the optional statistics that have been seen."""
    for name, value in values.items():
        if isinstance(value, float) and not math.isnan(value):
            tag = statistic_tag(name, path, place)
            yield events.scalar(tag, value, _DEFINITIONS[name])


def statistic_values(
    path: str, place: ActivationSpec, snapshot: StatisticsSnapshot
) -> Iterator[events.Value]:
    """Points of every statistic that has been seen, and of the band."""
    values = {
        name: value
        for name, value in snapshot.values().items()
        if not math.isnan(value)
    }
    for name, value in values.items():
        tag = statistic_tag(name, path, place)
        yield events.scalar(tag, value, DEFINITIONS[name])
    if "std" in values:
        for edge, sign in (("lower", -1), ("upper", 1)):
            value = values["mean"] + sign * values["std"]
            tag = band_tag(edge, path, place)
            yield events.scalar(tag, value, _BAND[edge])


def band_tag(edge: str, path: str, place: ActivationSpec) -> str:
    """Tag of an edge, `"lower"` or `"upper"`, of the mean's band.

    Both edges are in one group, which no page opens by itself.
    """
    return f"{statistic_tag('std_band', path, place)}/{edge}"


def histogram_value(
    path: str, place: ActivationSpec, snapshot: StatisticsSnapshot
) -> Iterator[events.Value]:
    """The histogram, if anything has been counted."""
    if len(snapshot.histogram):
        tag = statistic_tag("values", path, place)
        yield events.histogram(tag, snapshot.histogram, _HISTOGRAM)


def coefficients(layers: Mapping[str, PenalizedLayer]) -> dict[str, float]:
    """Coefficients by `path/term`."""
    return {
        f"{path}/{name}": layer.coefficients[name]
        for path, layer in layers.items()
        for name in layer.terms
    }


def unit_image(
    name: str,
    path: str,
    place: ActivationSpec,
    columns: Sequence[np.ndarray],
    epochs: Sequence[int],
) -> events.Value:
    """An image of a layer's units by epochs.

    Args:
        name: `"firing_rate"` or the name of an optional statistic.
        path: Path of the layer.
        place: The place.
        columns: For each epoch an array of one value a unit.
        epochs: Numbers of the epochs.
    """
    tag = statistic_tag(name, path, place)
    pixels = unit_maps.unit_map(
        f"{name.replace('_', ' ')}: {tag.partition('/')[2]}",
        epochs,
        np.stack(columns, axis=1),
        low=0.0,
        high=1.0 if name == "firing_rate" else None,
    )
    return events.image(tag, pixels, _DEFINITIONS[name])


def heat_map(
    name: str,
    columns: Sequence[Mapping[str, float]],
    epochs: Sequence[int],
) -> events.Value:
    """An overview image, layers by epochs.

    Args:
        name: `"penalty"` or `"dead_fraction"`.
        columns: The values of every epoch by path, always the same paths.
        epochs: Numbers of the epochs.
    """
    pixels = heatmaps.heat_map(
        _HEAT_MAPS[name],
        list(columns[0]),
        epochs,
        np.array([list(column.values()) for column in columns]).T,
        low=0.0,
        high=1.0 if name == "dead_fraction" else None,
    )
    return events.image(f"actpen/{name}_by_layer", pixels, _HEAT_MAPS[name])
