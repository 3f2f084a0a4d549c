"""Runs of a training, and what to call it.

PenaltyMonitor writes `<log_dir>/actpen/train` and `.../validation`, a further
training `actpen-2/...`; on Windows with backslashes.
"""

import math
import re
from collections.abc import Iterable

_TRAIN = re.compile(r"(^|[/\\])train$")
_ACTPEN = re.compile(r"(?:^|[/\\])actpen(?:-(\d+))?$")
_NUMBER = re.compile(r"(\d+(?:\.\d+)?(?:e[-+]?\d+)?)")


def training_run(run: str) -> str:
    """The run of the training to which a validation belongs."""
    return re.sub(r"(^|[/\\])validation$", r"\1train", run)


def validation_run(run: str, runs: Iterable[str]) -> str | None:
    """The run of a training's validation, if there is one."""
    beside = _TRAIN.sub(r"\1validation", run)
    return beside if beside != run and beside in runs else None


def short_names(runs: Iterable[str]) -> dict[str, str]:
    """Short names of the runs, or full ones where those are not unique."""
    names = {}
    for run in runs:
        directory = _TRAIN.sub("", run)
        inner = _ACTPEN.search(directory)
        name = directory[: inner.start()] if inner else directory
        # The log directory itself, whose name TensorBoard does not tell.
        name = name or "training"
        names[run] = f"{name} ({inner[1]})" if inner and inner[1] else name
    shown = list(names.values())
    return {
        run: run if shown.count(name) > 1 else name
        for run, name in names.items()
    }


def natural(name: str) -> tuple[list[tuple[float, str]], str]:
    """A key that sorts 10 behind 9, and 0.01 behind 1e-05."""
    parts = [
        (float(part), "") if index % 2 else (math.inf, part)
        for index, part in enumerate(_NUMBER.split(name))
    ]
    return parts, name
