"""Reads a log directory back as TensorBoard does."""

import dataclasses
import os
from typing import Any

from tensorboard.backend.event_processing.plugin_event_multiplexer import (
    EventMultiplexer,
)
from tensorboard.util import tensor_util

SCALARS, HISTOGRAMS, IMAGES = "scalars", "histograms", "images"


@dataclasses.dataclass
class Series:
    """All that is in a log under one tag of one run."""

    plugin: str
    description: str
    steps: list[int]
    values: list[Any]


def read(log_dir) -> dict[str, dict[str, Series]]:
    """Series by run and tag, nothing left out."""
    everything = dict.fromkeys(("tensors", "images", "scalars"), 0)
    multiplexer = EventMultiplexer(size_guidance=everything)
    multiplexer.AddRunsFromDirectory(os.fspath(log_dir)).Reload()
    return {
        run: {tag: series(multiplexer, run, tag) for tag in content["tensors"]}
        for run, content in multiplexer.Runs().items()
    }


def series(multiplexer, run, tag):
    metadata = multiplexer.SummaryMetadata(run, tag)
    events = multiplexer.Tensors(run, tag)
    return Series(
        plugin=metadata.plugin_data.plugin_name,
        description=metadata.summary_description,
        steps=[event.step for event in events],
        values=[tensor_util.make_ndarray(e.tensor_proto) for e in events],
    )


def scalars(run: dict[str, Series]) -> dict[str, list[float]]:
    """Values by tag of all scalars of a run."""
    return {
        tag: [float(value) for value in one.values]
        for tag, one in run.items()
        if one.plugin == SCALARS
    }
