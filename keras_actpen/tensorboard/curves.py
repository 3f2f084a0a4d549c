"""What a monitor has written of a training, read back."""

import glob
import os
import re
from collections.abc import Mapping

# Points of a curve by tag: steps and values.
Series = Mapping[str, tuple[list[int], list[float]]]

# Kind of the place, statistic, path and output: `activation.mean/dense_4`.
_STATISTIC = re.compile(r"(?!penalty\.)(\w+)\.(\w+)/(.+)")
# The last brackets name the output: the path itself may end in some.
_OUTPUT = re.compile(r"(.+)\[[^/\[\]]+\]")


def read_series(log_dir: str | os.PathLike[str], run: str | None) -> Series:
    """Read all scalars of a training, by tag in the order of writing.

    Args:
        log_dir: A log directory of `PenaltyMonitor`.
        run: Which run in it; default: the last one.

    Raises:
        ValueError: If there are none.
    """
    # Not at the top: importing the package must not import tensorboard.
    from tensorboard.backend.event_processing.event_accumulator import (
        EventAccumulator,
    )
    from tensorboard.util import tensor_util

    from keras_actpen.tensorboard.log_directory import last_run

    log_dir = os.fspath(log_dir)
    directory = os.path.join(log_dir, run or last_run(log_dir), "train")
    if not os.path.isdir(directory):
        pattern = os.path.join(glob.escape(log_dir), "**", "actpen*", "train")
        others = [
            os.path.dirname(os.path.dirname(one))
            for one in sorted(glob.glob(pattern, recursive=True))
        ]
        there = ""
        if others:
            found = ", ".join(map(repr, dict.fromkeys(others)))
            there = f". There are trainings in {found}"
        raise ValueError(
            "Invalid value received for argument `source`. Expected the log "
            "directory of a training with PenaltyMonitor. Received: "
            f"{log_dir!r}, in which there is no "
            f"{os.path.relpath(directory, log_dir)!r}{there}"
        )
    # 0: all points, not a sample of them.
    accumulator = EventAccumulator(directory, size_guidance={"tensors": 0})
    accumulator.Reload()
    series = {}
    for tag in accumulator.Tags()["tensors"]:
        metadata = accumulator.SummaryMetadata(tag)
        if metadata.plugin_data.plugin_name == "scalars":
            events = accumulator.Tensors(tag)
            values = [tensor_util.make_ndarray(e.tensor_proto) for e in events]
            series[tag] = [e.step for e in events], [float(v) for v in values]
    return series


def layer_paths(series: Series) -> list[str]:
    """Paths of the layers, in model order."""
    # First those with statistics: if there are any, all layers have them.
    paths = [
        _OUTPUT.sub(r"\1", match[3])
        for match in map(_STATISTIC.fullmatch, series)
        if match and match[2] == "mean"
    ]
    terms = (tag for tag in series if tag.startswith("penalty/"))
    paths += [tag.split("/", 1)[1].rpartition("/")[0] for tag in terms]
    return list(dict.fromkeys(paths))


def term_tags(series: Series, path: str) -> dict[str, str]:
    """Tags of a layer's terms by their names."""
    names = {tag: tag.removeprefix(f"penalty/{path}/") for tag in series}
    return {
        name: tag
        for tag, name in names.items()
        if name != tag and "/" not in name
    }


def statistic_tags(series: Series, path: str, name: str) -> dict[str, str]:
    """Tags of a statistic of a layer by the place: `activation`."""
    tags = {}
    for tag in series:
        match = _STATISTIC.fullmatch(tag)
        if match and match[2] == name and _OUTPUT.sub(r"\1", match[3]) == path:
            tags[match[1] + match[3].removeprefix(path)] = tag
    return tags
