"""The plot: one panel an experiment, one point an arm and strength."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.effects.claims import chosen
from benchmarks.effects.report import Findings, loaded
from benchmarks.effects.trials import NONE

COLUMNS = 4
COLORS = {NONE: "black", "L2": "0.55"}


def plot(results: Mapping[str, Any], file: Path) -> None:
    """Draw the two measures of each experiment against each other.

    Args:
        results: Content of effects.json.
        file: PNG file to write.
    """
    import matplotlib as mpl

    mpl.use("agg")
    from matplotlib import pyplot

    panels = loaded(results)
    columns = min(COLUMNS, len(panels))
    lines = -(-len(panels) // columns)
    figure, axes = pyplot.subplots(
        lines,
        columns,
        figsize=(4 * columns, 3.8 * lines),
        squeeze=False,
        layout="constrained",
    )
    for ax, found in zip(axes.flat, panels, strict=False):
        _panel(ax, found)
    for ax in axes.flat[len(panels) :]:
        ax.remove()
    figure.suptitle(
        "Mean and standard deviation over the seeds; a line goes from weak "
        "to strong; ringed: the strength that is taken"
    )
    figure.savefig(file, dpi=100)
    pyplot.close(figure)


def _panel(ax: Any, found: Findings) -> None:
    experiment, axes = found.experiment, found.experiment.axes
    arms = list(dict.fromkeys(group.arm for group in found.groups))
    others = (f"C{index}" for index in range(len(arms)))
    for arm in arms:
        color = COLORS.get(arm) or next(others)
        groups = [group for group in found.groups if group.arm == arm]
        spreads = [[group.values[value] for group in groups] for value in axes]
        x, y = ([spread.mean for spread in of] for of in spreads)
        dx, dy = ([spread.deviation for spread in of] for of in spreads)
        marker = "s" if arm == NONE else "o"
        ax.errorbar(x, y, dy, dx, f"{marker}-", color=color, label=arm)
        taken = chosen(found.groups, arm, experiment.choose)
        if len(groups) > 1 and taken is not None:
            taken = [group.strength for group in groups].index(taken)
            ax.plot(x[taken], y[taken], "o", ms=13, mfc="none", mec=color)
    for guide in experiment.guides:
        ax.axvline(guide, color="0.8", linestyle="--", zorder=0)
    ax.set_title(experiment.name, pad=20)
    for name, value in zip("xy", axes, strict=True):
        getattr(ax, f"set_{name}label")(experiment.columns[value])
        values = [group.values[value].mean for group in found.groups]
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
