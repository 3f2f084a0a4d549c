"""The rows of TensorBoard's HParams page, as its own backend makes them."""

from tensorboard.backend.event_processing import data_provider
from tensorboard.backend.event_processing.plugin_event_multiplexer import (
    EventMultiplexer,
)
from tensorboard.context import RequestContext
from tensorboard.plugins import base_plugin
from tensorboard.plugins.hparams import (
    api_pb2,
    backend_context,
    list_session_groups,
)

STATUSES = {
    api_pb2.STATUS_SUCCESS: "success",
    api_pb2.STATUS_FAILURE: "failure",
    api_pb2.STATUS_RUNNING: "running",
    api_pb2.STATUS_UNKNOWN: "unknown",
}


def rows(log_dir, sort_by=None, descending=False):
    """Hyperparameters, metrics by title, `name` and `status` of every row.

    Args:
        sort_by: Title of the metric to sort by.
        descending: Whether the largest comes first.
    """
    multiplexer = EventMultiplexer()
    multiplexer.AddRunsFromDirectory(str(log_dir)).Reload()
    provider = data_provider.MultiplexerDataProvider(multiplexer, str(log_dir))
    context = backend_context.Context(
        base_plugin.TBContext(data_provider=provider)
    )
    metadata = context.hparams_metadata(RequestContext(), "")
    experiment = context.experiment_from_metadata(
        RequestContext(), "", True, metadata, []
    )
    titles = {
        (info.name.group, info.name.tag): info.name.tag.removeprefix("hparams/")
        for info in experiment.metric_infos
    }
    request = api_pb2.ListSessionGroupsRequest(
        start_index=0,
        slice_size=100,
        allowed_statuses=list(STATUSES),
        include_metrics=True,
        col_params=[
            api_pb2.ColParams(
                metric={"group": group, "tag": tag},
                order=_order(title, sort_by, descending),
            )
            for (group, tag), title in titles.items()
        ],
    )
    answer = list_session_groups.Handler(
        RequestContext(), context, "", request
    ).run()
    return [_row(group, titles) for group in answer.session_groups]


def _order(title, sort_by, descending):
    if title != sort_by:
        return api_pb2.ORDER_UNSPECIFIED
    return api_pb2.ORDER_DESC if descending else api_pb2.ORDER_ASC


def _row(group, titles):
    (session,) = group.sessions
    return {
        "name": group.name,
        "status": STATUSES[session.status],
        **{
            name: getattr(value, value.WhichOneof("kind"))
            for name, value in group.hparams.items()
        },
        **{
            titles[metric.name.group, metric.name.tag]: metric.value
            for metric in group.metric_values
        },
    }
