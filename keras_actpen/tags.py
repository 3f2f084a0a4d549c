"""What PenaltyMonitor writes: tags, descriptions, layout and text page."""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np

from keras_actpen import dashboards, events, heatmaps
from keras_actpen.snapshots import DEFINITIONS, StatisticsSnapshot
from keras_actpen.wrapper import PenalizedLayer, Place

# TensorBoard sorts groups as ASCII does and opens the first two: a capital
# letter puts the overview there, before `activation.dead_fraction`.
_OVERVIEW = {
    "Overview/penalty_total": "Sum of all penalty terms of the epoch.",
    "Overview/penalty_share": "Share of all penalty terms in the loss.",
    "Overview/task_loss": (
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
_ATTACHED = (
    "What is penalised or watched in the model, and what the statistics mean."
)
_HEAT_MAPS = {
    "dead_fraction": "Share of dead units, layers by epochs.",
    "penalty": "Sum of the penalty terms, layers by epochs.",
}


def place_path(path: str, place: Place) -> str:
    """Path of a layer with the output, where it is not the first."""
    return path if place.output == 0 else f"{path}[{place.output}]"


def statistic_tag(name: str, path: str, place: Place) -> str:
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
    for key, name in _metrics(phase, logs).items():
        yield events.scalar(
            f"metric/{name}", logs[key], f"`{key}` as Keras reports it."
        )


def _metrics(phase: str, logs: Mapping[str, float]) -> dict[str, str]:
    """Keys of the phase's loss and metrics in `logs`, with their names."""
    validation = phase == "validation"
    return {
        key: key.removeprefix("val_")
        for key in logs
        if key.startswith("val_") == validation
        and not key.removeprefix("val_").startswith("penalty/")
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
    means: Mapping[str, float], loss: float | None
) -> Iterator[events.Value]:
    """Points of every term, of their shares and of the overview.

    Args:
        means: Coefficient times value of every term, by `penalty/...`.
        loss: The loss of the epoch, or `None` if it is not known.
    """
    if not means:  # layers that are only watched
        return
    total = sum(means.values())
    overview = {"Overview/penalty_total": total}
    if loss is not None:
        overview["Overview/task_loss"] = loss - total
        if loss:
            overview["Overview/penalty_share"] = total / loss
    for tag, value in overview.items():
        yield events.scalar(tag, value, _OVERVIEW[tag])
    for tag, value in means.items():
        yield events.scalar(tag, value, "Coefficient times value of the term.")
        if loss:
            yield events.scalar(
                tag.replace("penalty/", "penalty.share/", 1),
                value / loss,
                "Share of the term in the loss.",
            )


def coefficient_values(
    layers: Mapping[str, PenalizedLayer],
) -> Iterator[events.Value]:
    """Points of the coefficient of every term."""
    for name, coefficient in _coefficients(layers).items():
        yield events.scalar(
            f"penalty.coefficient/{name}",
            coefficient,
            "Coefficient of the term at the end of the epoch.",
        )


def statistic_values(
    path: str, place: Place, snapshot: StatisticsSnapshot
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
            tag = _band_tag(edge, path, place)
            yield events.scalar(tag, value, _BAND[edge])


def _band_tag(edge: str, path: str, place: Place) -> str:
    # One group for both edges, that no page opens by itself.
    return f"{statistic_tag('std_band', path, place)}/{edge}"


def histogram_value(
    path: str, place: Place, snapshot: StatisticsSnapshot
) -> Iterator[events.Value]:
    """The histogram, if anything has been counted."""
    if len(snapshot.histogram):
        tag = statistic_tag("values", path, place)
        yield events.histogram(tag, snapshot.histogram, _HISTOGRAM)


def session_start(
    layers: Mapping[str, PenalizedLayer],
) -> Iterator[events.Value]:
    """A row of the HParams page, if there is a coefficient to compare."""
    if coefficients := _coefficients(layers):
        yield dashboards.session_start(coefficients)


def session_end(layers: Mapping[str, PenalizedLayer]) -> Iterator[events.Value]:
    """The end of what `session_start` has started."""
    if _coefficients(layers):
        yield dashboards.session_end()


def hparams_columns(
    layers: Mapping[str, PenalizedLayer], logs: Mapping[str, float]
) -> Iterator[events.Value]:
    """The columns of the HParams page: coefficients, metrics, sparsity."""
    coefficients = _coefficients(layers)
    if not coefficients:
        return
    metrics = _hparams_metrics("validation", logs)
    total = "Overview/penalty_total"
    metrics["train", total] = _OVERVIEW[total]
    for path, layer in layers.items():
        tag = statistic_tag("zero_fraction", path, layer.places[0])
        metrics["train", tag] = DEFINITIONS["zero_fraction"]
    # Last, because TensorBoard shows five metrics until it is told to.
    metrics |= _hparams_metrics("train", logs)
    yield dashboards.hparams_config(
        {name: f"Coefficient of {name}." for name in coefficients}, metrics
    )


def _hparams_metrics(
    phase: str, logs: Mapping[str, float]
) -> dict[tuple[str, str], str]:
    return {
        (phase, f"metric/{name}"): f"{phase}: {name}"
        for name in _metrics(phase, logs).values()
    }


def _coefficients(layers: Mapping[str, PenalizedLayer]) -> dict[str, float]:
    """Coefficients by `path/term`."""
    return {
        f"{path}/{name}": layer.coefficients[name]
        for path, layer in layers.items()
        for name in layer.terms
    }


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
    return events.image(f"Overview/{name}_by_layer", pixels, _HEAT_MAPS[name])


def layout(layers: Mapping[str, PenalizedLayer]) -> events.Value:
    """The Custom Scalars page: one category a layer, in model order."""
    categories = []
    if any(layer.terms for layer in layers.values()):
        categories.append(("overview", _overview_charts()))
    for path, layer in layers.items():
        charts = []
        if layer.terms:
            names = list(layer.terms)
            charts = [
                dashboards.multiline_chart(
                    title, [f"{group}/{path}/{name}" for name in names]
                )
                for title, group in (
                    ("penalty terms", "penalty"),
                    ("share of the loss", "penalty.share"),
                )
            ]
        for place in layer.places:
            charts += _statistic_charts(path, place)
        categories.append((path, charts))
    return dashboards.custom_scalars_layout(categories, unfolded=4)


def _overview_charts():
    return [
        dashboards.multiline_chart(tag.partition("/")[2], [tag])
        for tag in _OVERVIEW
    ]


def _statistic_charts(path: str, place: Place):
    def tag(name):
        return statistic_tag(name, path, place)

    return [
        dashboards.margin_chart(
            f"{place}: mean and standard deviation",
            tag("mean"),
            _band_tag("lower", path, place),
            _band_tag("upper", path, place),
        ),
        dashboards.multiline_chart(
            f"{place}: zeros and dead units",
            [tag("zero_fraction"), tag("dead_fraction")],
        ),
    ]


def text_page(
    layers: Mapping[str, PenalizedLayer],
    shapes: Mapping[str, str],
    version: str,
) -> events.Value:
    """The text page: what is attached, and what the statistics mean."""
    lines = [
        f"keras_actpen {version}",
        "",
        "| layer | class | output shape | on | term | penalty | coefficient |",
        "|---|---|---|---|---|---|---|",
    ]
    for path, layer in layers.items():
        about = (path, type(layer).__name__, shapes[path])
        for name, term in layer.terms.items():
            lines.append(
                _row(
                    *about,
                    str(term.place),
                    name,
                    repr(term.penalty),
                    f"{layer.coefficients[name]:g}",
                )
            )
        if not layer.terms:
            lines.append(_row(*about, str(layer.places[0]), "watched", "", ""))
    # A list: TensorBoard breaks long words in narrow columns of a table.
    lines += ["", "Statistics of the activations:", ""]
    lines += [f"- **{name}**: {text}" for name, text in DEFINITIONS.items()]
    return events.text("Overview/attached", "\n".join(lines), _ATTACHED)


def _row(*cells: str) -> str:
    return "| " + " | ".join(_escaped(cells)) + " |"


def _escaped(cells: Iterable[str]) -> list[str]:
    return [cell.replace("|", "\\|") for cell in cells]
