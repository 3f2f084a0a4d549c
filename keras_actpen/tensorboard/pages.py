"""What PenaltyMonitor writes once: Custom Scalars, HParams, the text page."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence

from keras_actpen.attach.capture import ActivationSpec
from keras_actpen.attach.penalized_layer import PenalizedLayer
from keras_actpen.statistics.optional import CURVES, IMAGES, STATES
from keras_actpen.statistics.optional import (
    DEFINITIONS as OPTIONAL_DEFINITIONS,
)
from keras_actpen.statistics.snapshot import DEFINITIONS
from keras_actpen.tensorboard import dashboards, events, tags

_ATTACHED = (
    "What is penalised or watched in the model, and what the statistics mean."
)
_FINDINGS = "What was wrong in an epoch; the step is its number."


def session_start(
    layers: Mapping[str, PenalizedLayer], trial: str
) -> Iterator[events.Value]:
    """A row of the HParams page, if there is a coefficient to compare."""
    if coefficients := tags.coefficients(layers):
        yield dashboards.session_start(coefficients, trial=trial)


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
    # Titles are short: in parallel coordinates long ones overlap.
    metrics["train", "actpen/penalty_total"] = dashboards.Column(
        "penalty_total", tags.OVERVIEW["actpen/penalty_total"]
    )
    for path, layer in layers.items():
        tag = tags.statistic_tag("zero_fraction", path, layer.actpen.places[0])
        metrics["train", tag] = dashboards.Column(
            f"zeros {path}", DEFINITIONS["zero_fraction"]
        )
    # Last, because TensorBoard shows five metrics until it is told to.
    metrics |= _hparams_metrics("train", logs)
    yield dashboards.hparams_config(
        {name: f"Coefficient of {name}." for name in coefficients}, metrics
    )


def _hparams_metrics(
    phase: str, logs: Mapping[str, float]
) -> dict[tuple[str, str], dashboards.Column]:
    return {
        (phase, f"metric/{name}"): dashboards.Column(key, f"{phase}: {name}")
        for key, name in tags.metric_names(phase, logs).items()
    }


def layout(
    layers: Mapping[str, PenalizedLayer], optional: Sequence[str] = ()
) -> events.Value:
    """The Custom Scalars page: one category a layer, in model order.

    Args:
        layers: The penalised and watched layers by path.
        optional: Names of the optional statistics.
    """
    categories = []
    if any(layer.actpen.terms for layer in layers.values()):
        categories.append(("overview", _overview_charts()))
    for path, layer in layers.items():
        charts = []
        if layer.actpen.terms:
            names = list(layer.actpen.terms)
            charts = [
                dashboards.multiline_chart(
                    title, [f"{group}/{path}/{name}" for name in names]
                )
                for title, group in (
                    ("penalty terms", "penalty"),
                    ("share of the loss", "penalty.share"),
                )
            ]
        for place in layer.actpen.places:
            charts += _statistic_charts(path, place)
            units = layer.actpen.place_units.get(place)
            charts += _optional_charts(
                path,
                place,
                [
                    name
                    for name in optional
                    if name not in IMAGES
                    and STATES[name].applies_to(layer, place, units)
                ],
            )
        categories.append((path, charts))
    return dashboards.custom_scalars_layout(categories, unfolded=4)


def _overview_charts() -> list[dashboards.Chart]:
    return [
        dashboards.multiline_chart(tag.partition("/")[2], [tag])
        for tag in tags.OVERVIEW
    ]


def _statistic_charts(
    path: str, place: ActivationSpec
) -> list[dashboards.Chart]:
    def tag(name: str) -> str:
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


def _optional_charts(
    path: str, place: ActivationSpec, optional: Sequence[str]
) -> Iterator[dashboards.Chart]:
    for name in optional:
        curves = [tags.statistic_tag(c, path, place) for c in CURVES[name]]
        title = f"{place}: {name.replace('_', ' ')}"
        yield dashboards.multiline_chart(title, curves)


def text_page(
    layers: Mapping[str, PenalizedLayer],
    shapes: Mapping[str, str],
    version: str,
    optional: Sequence[str] = (),
) -> events.Value:
    """The text page: what is attached, and what the statistics mean.

    Args:
        layers: The penalised and watched layers by path.
        shapes: Their output shapes.
        version: Version of this package.
        optional: Names of the optional statistics.
    """
    lines = [
        f"keras_actpen {version}",
        "",
        # The coefficient may have been moved since.
        "| layer | class | output shape | on | term | as attached "
        "| coefficient |",
        "|---|---|---|---|---|---|---|",
    ]
    for path, layer in layers.items():
        about = (path, type(layer).__name__, shapes[path])
        for name, term in layer.actpen.terms.items():
            lines.append(
                _row(
                    *about,
                    str(term.place),
                    name,
                    repr(term.penalty),
                    f"{layer.actpen.coefficients[name]:g}",
                )
            )
        if not layer.actpen.terms:
            lines.append(
                _row(*about, str(layer.actpen.places[0]), "watched", "", "")
            )
    # A list: TensorBoard breaks long words in narrow columns of a table.
    lines += ["", "Statistics of the activations:", ""]
    definitions = {**DEFINITIONS, "firing_rate": tags.FIRING_RATE}
    for name in optional:
        for curve in CURVES[name]:
            definitions[curve] = OPTIONAL_DEFINITIONS[curve]
    lines += [f"- **{name}**: {text}" for name, text in definitions.items()]
    return events.text("actpen/attached", "\n".join(lines), _ATTACHED)


def findings_page(sentences: Iterable[str]) -> events.Value:
    """The text page of an epoch in which something was wrong."""
    lines = [f"- {_escaped(sentence)}" for sentence in sentences]
    return events.text("actpen/findings", "\n".join(lines), _FINDINGS)


def _row(*cells: str) -> str:
    return "| " + " | ".join(map(_escaped, cells)) + " |"


# All that can be markup; `_` is none within a word.
_MARKUP = re.compile(r"""[^\w .,:;/()='"+-]|(?<![^\W_])_|_(?![^\W_])""")


def _escaped(cell: str) -> str:
    """Markdown that shows a cell as it is: names may hold any character."""
    shown = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in cell)
    return _MARKUP.sub(lambda found: f"&#{ord(found[0])};", shown)
