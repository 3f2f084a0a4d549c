"""How it is shown: the Custom Scalars layout and the HParams table.

TensorBoard's own `custom_scalar.summary.pb`, `hparams.api` and
`hparams.summary` import TensorFlow where it is installed, so they are not
used.
"""

import hashlib
import os
import re
import socket
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

# A whole module: a name taken from an untyped one is unknown to type checkers.
import tensorboard.plugins.custom_scalar.layout_pb2 as layout_pb2
from tensorboard.compat.proto import summary_pb2
from tensorboard.plugins.custom_scalar import metadata as layout_metadata
from tensorboard.plugins.hparams import api_pb2, plugin_data_pb2, summary_v2
from tensorboard.plugins.hparams import metadata as hparams_metadata

from keras_actpen.tensorboard.events import Value, string_tensor

Chart = layout_pb2.Chart

_STATUSES = {
    "success": api_pb2.STATUS_SUCCESS,
    "failure": api_pb2.STATUS_FAILURE,
    "running": api_pb2.STATUS_RUNNING,
}


def multiline_chart(title: str, tags: Sequence[str]) -> Chart:
    """A Custom Scalars chart with one curve a tag.

    TensorBoard reads `tags` as regular expressions that match a tag's start;
    here they are whole tags. Colours go by run, dashes by tag.
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


def custom_scalars_layout(
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


class Column(NamedTuple):
    """Title and description of a metric's column of the HParams page."""

    title: str
    description: str


def hparams_config(
    hparams: Mapping[str, str], metrics: Mapping[tuple[str, str], Column]
) -> Value:
    """The columns of the HParams page; without it every scalar becomes one.

    TensorBoard reads the first one it finds in a log directory.

    Args:
        hparams: Names of the numeric hyperparameters and their descriptions.
        metrics: Columns by `(group, tag)`: the metric is the last value of
            `tag` in the run `<session>/<group>`, where `<session>` is the run
            that holds `session_start`. The group `""` is that run itself.

    Returns:
        A `Summary.Value` of TensorBoard's `hparams` plugin.
    """
    experiment = api_pb2.Experiment(
        hparam_infos=[
            # Without a type the page offers neither scales nor a filter.
            api_pb2.HParamInfo(
                name=name,
                description=description,
                type=api_pb2.DATA_TYPE_FLOAT64,
            )
            for name, description in hparams.items()
        ],
        metric_infos=[
            summary_v2.Metric(
                tag,
                group=group,
                display_name=column.title,
                description=column.description,
            ).as_proto()
            for (group, tag), column in metrics.items()
        ],
    )
    return _hparams_value(
        hparams_metadata.EXPERIMENT_TAG,
        plugin_data_pb2.HParamsPluginData(experiment=experiment),
    )


def trial_name(log_dir: str | os.PathLike[str], run: str) -> str:
    """Name of a run's row on the HParams page, readable and no other's.

    TensorBoard's own default is a hash of the hyperparameters, which puts the
    runs that differ in anything else into one row.

    Args:
        log_dir: The log directory, which TensorBoard may be shown by itself
            or with others.
        run: The run in it.
    """
    path = os.path.abspath(log_dir)
    where = f"{socket.gethostname()}:{path}"
    # Directories of the same name may be in different places.
    digest = hashlib.sha256(where.encode()).hexdigest()[:6]
    return f"{os.path.basename(path)}/{run} ({digest})"


def session_start(
    hparams: Mapping[str, float | str | bool], *, trial: str | None = None
) -> Value:
    """A row of the HParams page: the hyperparameters of one run.

    Args:
        hparams: Values by name: `bool`, numbers, strings, NumPy scalars.
        trial: Name of the row. Sessions with the same one share a row, their
            metrics averaged. Defaults to a hash of `hparams`.

    Returns:
        A `Summary.Value` of TensorBoard's `hparams` plugin.

    Raises:
        TypeError: If a value is of another type.
    """
    return summary_v2.hparams_pb(dict(hparams), trial_id=trial).value[0]


def session_end(status: str = "success") -> Value:
    """How the run of a `session_start` ended.

    Args:
        status: `"success"`, `"failure"` or `"running"`.

    Returns:
        A `Summary.Value` of TensorBoard's `hparams` plugin.

    Raises:
        ValueError: If `status` is another one.
    """
    if status not in _STATUSES:
        raise ValueError(
            "Invalid value received for argument `status`. Expected one of "
            f"{tuple(_STATUSES)}. Received: status={status!r}"
        )
    # tensorboard.plugins.hparams.summary has this one, and needs TensorFlow.
    end = plugin_data_pb2.SessionEndInfo(
        status=_STATUSES[status], end_time_secs=time.time()
    )
    return _hparams_value(
        hparams_metadata.SESSION_END_INFO_TAG,
        plugin_data_pb2.HParamsPluginData(session_end_info=end),
    )


def _hparams_value(
    tag: str, content: plugin_data_pb2.HParamsPluginData
) -> Value:
    return Value(
        tag=tag,
        metadata=hparams_metadata.create_summary_metadata(content),
        tensor=hparams_metadata.NULL_TENSOR,
    )
