"""What PenaltyMonitor writes once: Custom Scalars, HParams, the text page."""

from collections.abc import Iterable, Iterator, Mapping

from keras_actpen import dashboards, events, tags
from keras_actpen.places import Place
from keras_actpen.snapshots import DEFINITIONS
from keras_actpen.wrapper import PenalizedLayer

_ATTACHED = (
    "What is penalised or watched in the model, and what the statistics mean."
)


def session_start(
    layers: Mapping[str, PenalizedLayer],
) -> Iterator[events.Value]:
    """A row of the HParams page, if there is a coefficient to compare."""
    if coefficients := tags.coefficients(layers):
        yield dashboards.session_start(coefficients)


def session_end(layers: Mapping[str, PenalizedLayer]) -> Iterator[events.Value]:
    """The end of what `session_start` has started."""
    if tags.coefficients(layers):
        yield dashboards.session_end()


def hparams_columns(
    layers: Mapping[str, PenalizedLayer], logs: Mapping[str, float]
) -> Iterator[events.Value]:
    """The columns of the HParams page: coefficients, metrics, sparsity."""
    coefficients = tags.coefficients(layers)
    if not coefficients:
        return
    metrics = _hparams_metrics("validation", logs)
    total = "actpen/penalty_total"
    metrics["train", total] = tags.OVERVIEW[total]
    for path, layer in layers.items():
        tag = tags.statistic_tag("zero_fraction", path, layer.places[0])
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
        for name in tags.metric_names(phase, logs).values()
    }


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
        for tag in tags.OVERVIEW
    ]


def _statistic_charts(path: str, place: Place):
    def tag(name):
        return tags.statistic_tag(name, path, place)

    return [
        dashboards.margin_chart(
            f"{place}: mean and standard deviation",
            tag("mean"),
            tags.band_tag("lower", path, place),
            tags.band_tag("upper", path, place),
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
    return events.text("actpen/attached", "\n".join(lines), _ATTACHED)


def _row(*cells: str) -> str:
    return "| " + " | ".join(_escaped(cells)) + " |"


def _escaped(cells: Iterable[str]) -> list[str]:
    return [cell.replace("|", "\\|") for cell in cells]
