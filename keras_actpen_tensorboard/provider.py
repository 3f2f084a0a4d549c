"""TensorBoard's data provider, asked in the few ways that the tab needs."""

import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from tensorboard.context import RequestContext
from tensorboard.data.provider import DataProvider, RunTagFilter

from keras_actpen_tensorboard import old_logs, schema

# Providers want a number of points; this is all that they have kept.
ALL = 10**6
# How long a list of tags counts as current.
_LISTED_SECONDS = 2.0
# Tells how far a training is; one of them is there whatever was penalized.
_PROGRESS = (
    "metric/loss",
    f"{schema.OVERVIEW}/task_loss",
    f"{old_logs.OVERVIEW}/task_loss",
)

# Until when a list of tags holds, and the list, by experiment and run.
Listed = dict[tuple[str, str], tuple[float, list[str]]]


class Provider:
    """A data provider with the context of one request.

    Args:
        provider: What TensorBoard reads logs with.
        ctx: Context of the request.
        experiment: Experiment of the request.
        listed: Tags that were listed a moment ago, kept between requests.
    """

    def __init__(
        self,
        provider: DataProvider,
        ctx: RequestContext,
        experiment: str,
        listed: Listed,
    ):
        self._provider = provider
        self._about = {"ctx": ctx, "experiment_id": experiment}
        self._listed = listed

    def runs(self) -> set[str]:
        """Names of all runs."""
        return {run.run_id for run in self._provider.list_runs(**self._about)}

    def progress(self) -> dict[str, tuple[int, float]]:
        """Last step of every run and its time."""
        listed = self._provider.list_scalars(
            **self._about,
            plugin_name="scalars",
            run_tag_filter=RunTagFilter(tags=_PROGRESS),
        )
        return {
            run: max(
                (series.max_step, series.max_wall_time)
                for series in tags.values()
            )
            for run, tags in listed.items()
            if tags
        }

    def times(
        self, plugin: str, tag: str, run: str | None = None
    ) -> dict[str, float]:
        """When the runs last wrote a tensor."""
        listed = self._provider.list_tensors(
            **self._about,
            plugin_name=plugin,
            run_tag_filter=RunTagFilter(
                runs=None if run is None else [run], tags=[tag]
            ),
        )
        return {
            run: tags[tag].max_wall_time
            for run, tags in listed.items()
            if tag in tags
        }

    def scalar_tags(self, run: str) -> list[str]:
        """Tags of all curves of a run, in no order."""
        key = (self._about["experiment_id"], run)
        until, tags = self._listed.get(key, (0.0, []))
        # Providers go through all points to list them, and a page asks for
        # several curves at once.
        if time.monotonic() >= until:
            listed = self._provider.list_scalars(
                **self._about,
                plugin_name="scalars",
                run_tag_filter=RunTagFilter(runs=[run]),
            )
            tags = list(listed.get(run, ()))
            self._listed[key] = (time.monotonic() + _LISTED_SECONDS, tags)
        return tags

    def scalars(
        self, runs: Sequence[str] | None, tags: Sequence[str], points: int
    ) -> Mapping[str, Mapping[str, Sequence[Any]]]:
        """Points of curves by run and tag; `None` for all runs."""
        if not tags:
            return {}
        return self._provider.read_scalars(
            **self._about,
            plugin_name="scalars",
            downsample=points,
            run_tag_filter=RunTagFilter(runs=runs, tags=tags),
        )

    def tensors(
        self, run: str, plugin: str, tag: str, after: int = 0
    ) -> dict[int, np.ndarray]:
        """The tensors of a tag by step; the last one of a step counts."""
        read = self._provider.read_tensors(
            **self._about,
            plugin_name=plugin,
            downsample=ALL,
            run_tag_filter=RunTagFilter(runs=[run], tags=[tag]),
        )
        data = read.get(run, {}).get(tag, ())
        return {d.step: d.numpy for d in data if d.step >= after}


def text_of(tensor: np.ndarray) -> bytes:
    """The text in a tensor of one string."""
    text = tensor.reshape(-1)[0] if tensor.size else b""
    return text if isinstance(text, bytes) else str(text).encode()
