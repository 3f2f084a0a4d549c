"""The Custom Scalars page: which charts it shows, in which order.

TensorBoard's own `custom_scalar.summary.pb` imports TensorFlow where it is
installed, so it is not used.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence

# A whole module: a name taken from an untyped one is unknown to type checkers.
import tensorboard.plugins.custom_scalar.layout_pb2 as layout_pb2
from tensorboard.compat.proto import summary_pb2
from tensorboard.plugins.custom_scalar import metadata as layout_metadata

from keras_actpen.attach.activation_spec import ActivationSpec
from keras_actpen.attach.penalized_layer import PenalizedLayer
from keras_actpen.statistics.optional import CURVES, IMAGES, STATES
from keras_actpen.tensorboard import tags
from keras_actpen.tensorboard.events import Value, string_tensor

Chart = layout_pb2.Chart


def layout(
    layers: Mapping[str, PenalizedLayer], optional: Sequence[str] = ()
) -> Iterator[Value]:
    """The Custom Scalars page: one category per layer, in model order.

    Args:
        layers: The penalized and watched layers by path.
        optional: Names of the optional statistics.
    """
    categories = []
    if any(layer.actpen.terms for layer in layers.values()):
        categories.append(("overview", _overview_charts()))
    for path, layer in layers.items():
        charts = []
        if layer.actpen.terms:
            charts = [
                _terms_chart("penalty terms", f"penalty/{path}/"),
                _terms_chart("share of the loss", f"penalty.share/{path}/"),
            ]
        for spec in layer.actpen.specs:
            charts += _statistic_charts(path, spec)
            units = layer.actpen.spec_units.get(spec)
            charts += _optional_charts(
                path,
                spec,
                [
                    name
                    for name in optional
                    if name not in IMAGES
                    and STATES[name].applies_to(layer, spec, units)
                ],
            )
        categories.append((path, charts))
    yield layout_of(categories, unfolded=4)


def _overview_charts() -> list[Chart]:
    return [
        multiline_chart(name, [f"{tags.OVERVIEW_GROUPS[0]}/{name}"])
        for name in tags.OVERVIEW
    ]


def _terms_chart(title: str, prefix: str) -> Chart:
    """A chart of the tags with this prefix and the name of a term.

    It names no term: TensorBoard puts the layouts of all runs together, and
    models with other terms would have a chart of the same title each.
    """
    content = layout_pb2.MultilineChartContent(
        tag=[re.escape(prefix) + "[^/]+$"]
    )
    return Chart(title=title, multiline=content)


def _statistic_charts(path: str, spec: ActivationSpec) -> list[Chart]:
    def tag(name: str) -> str:
        return tags.statistic_tag(name, path, spec)

    return [
        margin_chart(
            f"{spec}: mean and standard deviation",
            tag("mean"),
            tags.band_tag("lower", path, spec),
            tags.band_tag("upper", path, spec),
        ),
        multiline_chart(
            f"{spec}: zeros and dead units",
            [tag("zero_fraction"), tag("dead_fraction")],
        ),
    ]


def _optional_charts(
    path: str, spec: ActivationSpec, optional: Sequence[str]
) -> Iterator[Chart]:
    for name in optional:
        curves = [tags.statistic_tag(c, path, spec) for c in CURVES[name]]
        title = f"{spec}: {name.replace('_', ' ')}"
        yield multiline_chart(title, curves)


def multiline_chart(title: str, tags: Sequence[str]) -> Chart:
    """A Custom Scalars chart with one curve per tag.

    TensorBoard reads `tags` as regular expressions that match a tag's start;
    here they are whole tags. Colors go by run, dashes by tag.
    """
    content = layout_pb2.MultilineChartContent(
        tag=[re.escape(tag) + "$" for tag in tags]
    )
    return Chart(title=title, multiline=content)


def margin_chart(title: str, value: str, lower: str, upper: str) -> Chart:
    """A Custom Scalars chart of one tag's curve in the band of two others."""
    series = layout_pb2.MarginChartContent.Series(
        value=value, lower=lower, upper=upper
    )
    content = layout_pb2.MarginChartContent(series=[series])
    return Chart(title=title, margin=content)


def layout_of(
    categories: Iterable[tuple[str, Sequence[Chart]]],
    *,
    unfolded: int | None = None,
) -> Value:
    """Which charts the Custom Scalars page shows, in which order.

    The last layout of a run wins.

    Args:
        categories: Pairs of a title and its charts, see `multiline_chart` and
            `margin_chart`.
        unfolded: How many categories, from the first on, are shown unfolded;
            `None` for all.

    Returns:
        A `Summary.Value` of TensorBoard's `custom_scalars` plugin.
    """
    layout = layout_pb2.Layout()
    for index, (title, charts) in enumerate(categories):
        folded = unfolded is not None and index >= unfolded
        layout.category.add(title=title, chart=charts, closed=folded)
    metadata = layout_metadata.create_summary_metadata()
    metadata.data_class = summary_pb2.DATA_CLASS_TENSOR
    return Value(
        tag=layout_metadata.CONFIG_SUMMARY_TAG,
        metadata=metadata,
        tensor=string_tensor(layout.SerializeToString()),
    )
