"""The plot: one panel an experiment, one point an arm and strength."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.effects.claims import chosen
from benchmarks.effects.experiments import Experiment
from benchmarks.effects.report import groups, loaded
from benchmarks.effects.trials import NONE, Row

COLUMNS = 4
COLOURS = {NONE: "black", "L2": "0.55"}


def plot(results: Mapping[str, Any], file: Path) -> None:
    """Draw the two measures of each experiment against each other.

    Args:
        results: Content of effects.json.
        file: PNG file to write.
    """
    import matplotlib as mpl

    mpl.use("agg")
    from matplotlib import pyplot

    experiments = loaded(results)
    columns = min(COLUMNS, len(experiments))
    lines = -(-len(experiments) // columns)
    figure, axes = pyplot.subplots(
        lines,
        columns,
        figsize=(4 * columns, 3.8 * lines),
        squeeze=False,
        layout="constrained",
    )
    for ax, (experiment, rows) in zip(axes.flat, experiments, strict=False):
        _panel(ax, experiment, rows)
    for ax in axes.flat[len(experiments) :]:
        ax.remove()
    figure.suptitle(
        "Mean and standard deviation over the seeds; a line goes from weak "
        "to strong; ringed: the strength that is taken"
    )
    figure.savefig(file, dpi=100)
    pyplot.close(figure)


def _panel(ax: Any, experiment: Experiment, rows: Sequence[Row]) -> None:
    found, axes = groups(rows), experiment.axes
    arms = list(dict.fromkeys(arm for arm, _ in found))
    others = (f"C{index}" for index in range(len(arms)))
    for arm in arms:
        colour = COLOURS.get(arm) or next(others)
        strengths = [s for name, s in found if name == arm]
        points = np.array(
            [[_values(found[arm, s], v) for s in strengths] for v in axes]
        )
        (x, y), (dx, dy) = points.mean(2), points.std(2, ddof=1)
        marker = "s" if arm == NONE else "o"
        ax.errorbar(x, y, dy, dx, f"{marker}-", color=colour, label=arm)
        taken = chosen(rows, arm, experiment.choose)
        if len(strengths) > 1 and taken is not None:
            taken = strengths.index(taken)
            ax.plot(x[taken], y[taken], "o", ms=13, mfc="none", mec=colour)
    for guide in experiment.guides:
        ax.axvline(guide, color="0.8", linestyle="--", zorder=0)
    ax.set_title(experiment.name, pad=20)
    for name, value in zip("xy", axes, strict=True):
        getattr(ax, f"set_{name}label")(experiment.columns[value])
        values = _values(rows, value)
        if min(values) > 0 and max(values) / min(values) > 20:
            getattr(ax, f"set_{name}scale")("log")
    # Above the panel, where it hides no point.
    ax.legend(
        loc="lower center",
        bbox_to_anchor=(0.5, 1.0),
        ncols=len(arms),
        fontsize="small",
        handlelength=1.0,
        columnspacing=0.8,
        frameon=False,
    )


def _values(rows: Sequence[Row], value: str) -> list[float]:
    return [row.values[value] for row in rows]
