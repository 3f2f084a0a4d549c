"""The HParams page: a row for each training, with what it ended with.

Rows and their metrics are in a run of their own, and no run says which columns
there are: TensorBoard would take the columns of the first that it finds for
all. Without, it shows every hyperparameter of every row, and as metrics the
curves of the rows' own runs, which therefore hold nothing else.

TensorBoard's own `hparams.api` and `hparams.summary` import TensorFlow where
it is installed, so they are not used.
"""

import hashlib
import math
import os
import socket
import time
from collections.abc import Iterator, Mapping
from typing import Any

from tensorboard.plugins.hparams import api_pb2, plugin_data_pb2, summary_v2
from tensorboard.plugins.hparams import metadata as hparams_metadata

from keras_actpen.attach.penalized_layer import PenalizedLayer
from keras_actpen.statistics.snapshot import DEFINITIONS
from keras_actpen.tensorboard import tags
from keras_actpen.tensorboard.epoch_data import Recorded, numbers
from keras_actpen.tensorboard.events import Value, scalar
from keras_actpen.tensorboard.numerals import shortest


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
    layers: Mapping[str, PenalizedLayer],
    trial: str,
    others: Mapping[str, Any] | None = None,
) -> Iterator[Value]:
    """The start of a row: the coefficients, how many there are, and others.

    Args:
        layers: The penalized and watched layers by path.
        trial: Name of the row.
        others: Other hyperparameters by name.
    """
    coefficients = {
        name: shortest(value)
        for name, value in tags.coefficients(layers).items()
    }
    # A training that is only watched has a row too.
    hparams = {"penalty terms": float(len(coefficients)), **coefficients}
    for name, value in (others or {}).items():
        is_kept = isinstance(value, bool | int | float | str)
        hparams.setdefault(name, value if is_kept else str(value))
    yield summary_v2.hparams_pb(hparams, trial_id=trial).value[0]


def metrics(
    layers: Mapping[str, PenalizedLayer],
    reported: Mapping[str, Mapping[str, Any]],
    recorded: Recorded,
) -> Iterator[Value]:
    """The metrics of a row as they are after an epoch.

    Args:
        layers: The penalized and watched layers by path.
        reported: Losses and metrics by phase.
        recorded: What has been recorded in training.
    """
    # The page shows no more than five metrics at first.
    phase, prefix = ("train", "")
    if reported["validation"]:
        phase, prefix = ("validation", "val_")
    for _, name, value in numbers(reported[phase]):
        if name != "learning_rate":
            yield _metric(f"{prefix}{name}", value, f"{phase}: {name}")
    if recorded.means:
        total = sum(recorded.in_loss.values())
        yield _metric("penalty_total", total, tags.OVERVIEW["penalty_total"])
    for path, layer in layers.items():
        snapshot = recorded.snapshots.get((path, layer.actpen.specs[0]))
        zeros = snapshot.value("zero_fraction") if snapshot else math.nan
        if not math.isnan(zeros):
            name = f"zeros {path}"
            yield _metric(name, zeros, DEFINITIONS["zero_fraction"])


def _metric(name: str, value: float, description: str) -> Value:
    # Titles are short: in parallel coordinates long ones overlap.
    return scalar(f"hparams/{name}", value, description)


def session_end() -> Iterator[Value]:
    """The end of a row."""
    # tensorboard.plugins.hparams.summary has this one, and needs TensorFlow.
    end = plugin_data_pb2.SessionEndInfo(
        status=api_pb2.STATUS_SUCCESS, end_time_secs=time.time()
    )
    content = plugin_data_pb2.HParamsPluginData(session_end_info=end)
    yield Value(
        tag=hparams_metadata.SESSION_END_INFO_TAG,
        metadata=hparams_metadata.create_summary_metadata(content),
        tensor=hparams_metadata.NULL_TENSOR,
    )
