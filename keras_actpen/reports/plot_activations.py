"""plot_activations: figures for papers, of a log directory or a report."""

import fnmatch
import importlib
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from keras_actpen.penalties.validation import invalid_type, invalid_value
from keras_actpen.reports.layer_report import (
    LayerReport,
    PenaltyReport,
    TermReport,
)
from keras_actpen.tensorboard.curves import (
    Series,
    layer_paths,
    read_series,
    statistic_tags,
    term_tags,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

_SHARES = {"zero_fraction": "zeros", "dead_fraction": "dead units"}
_WIDTH = 10.0  # inches
_STYLES = ("-", "--", ":", "-.")  # of the places of one layer
# Points of a curve up to which each is marked.
_MARKED = 20


def plot_activations(
    source: str | os.PathLike[str] | PenaltyReport,
    *,
    layers: str = "*",
    run: str | None = None,
) -> "Figure":
    """Draw the penalty terms and the statistics of the activations.

    For a log directory of `PenaltyMonitor`: three charts per layer over the
    epochs of the training, with its terms (coefficient times value), the
    shares of zeros and of dead units, and the mean in a band of one standard
    deviation. For a report: the same as bars, one per layer, with the terms
    as shares of the loss, or as values where the loss is not known.

    Needs matplotlib: `pip install "keras-actpen[plot]"`. pyplot and its state
    are left alone: save the figure with `figure.savefig("activations.pdf")`.
    A notebook shows it when the call is the last line of a cell.

    Example:
    ```python
    plot_activations(penalty_report(model, x, y)).savefig("report.pdf")
    ```

    Args:
        source: A log directory, or what `penalty_report` returned.
        layers: Glob for the paths of the layers; `*` matches slashes too.
        run: Which run of a log directory, such as `"actpen-2"`. Default: the
            last one.

    Returns:
        A `matplotlib.figure.Figure`.

    Raises:
        ImportError: If matplotlib is not installed.
        TypeError: If `source` is neither a path nor a report.
        ValueError: If there is nothing to draw.
    """
    try:
        importlib.import_module("matplotlib.figure")
    except ImportError as error:
        raise ImportError(
            "plot_activations needs matplotlib: "
            'pip install "keras-actpen[plot]"'
        ) from error
    from keras_actpen.reports.notebook_figure import NotebookFigure

    if isinstance(source, PenaltyReport):
        found = {layer.path: layer for layer in source.layers}
        paths = _matching(layers, list(found))
        bars = [bar for path in paths for bar in _bars(found[path])]
        figure = NotebookFigure(_WIDTH, 1.4 + 0.35 * len(bars))
        _draw_bars(figure, bars)
        return figure
    if not isinstance(source, str | os.PathLike):
        raise invalid_type(
            "source",
            "a log directory, or the report that `penalty_report` returns",
            source,
        )
    series = read_series(source, run)
    paths = _matching(layers, layer_paths(series))
    figure = NotebookFigure(_WIDTH, 0.4 + 2.2 * len(paths))
    rows = figure.subplots(len(paths), 3, sharex=True, squeeze=False)
    for path, row in zip(paths, rows, strict=True):
        _draw_curves(row, path, series)
    for axes in rows[-1]:
        axes.set_xlabel("epoch")
        axes.xaxis.get_major_locator().set_params(integer=True)
    return figure


def _matching(pattern: str, paths: Sequence[str]) -> list[str]:
    found = [path for path in paths if fnmatch.fnmatchcase(path, pattern)]
    if not found:
        raise invalid_value(
            "layers",
            f"a glob that matches some of {list(paths)}",
            f"layers={pattern!r}",
        )
    return found


def _draw_curves(row: Sequence["Axes"], path: str, series: Series) -> None:
    """Draw the three charts of one layer."""
    terms, shares, means = row
    terms.set_title(path, loc="left", fontsize="medium", fontweight="bold")
    terms.set_ylabel("penalty")
    tags = term_tags(series, path)
    for name, tag in tags.items():
        _plot(terms, series[tag], label=name)
    if not tags:
        terms.set_yticks([])
        terms.text(
            0.5,
            0.5,
            "only watched",
            ha="center",
            va="center",
            transform=terms.transAxes,
        )
    shares.set_ylabel("share")
    shares.set_ylim(-0.03, 1.03)
    for color, (name, label) in enumerate(_SHARES.items()):
        tags = statistic_tags(series, path, name)
        for (place, tag), style in zip(tags.items(), _STYLES, strict=False):
            if len(tags) > 1:
                label = f"{_SHARES[name]}, {place}"
            _plot(shares, series[tag], label, color=f"C{color}", ls=style)
    tags = statistic_tags(series, path, "mean")
    spreads = statistic_tags(series, path, "std")
    means.set_ylabel("mean ± std")
    for (place, tag), style in zip(tags.items(), _STYLES, strict=False):
        steps, values = series[tag]
        line = _plot(means, series[tag], place, ls=style)
        spread = dict(zip(*series[spreads[place]], strict=True))
        edges = [
            [
                v + sign * spread[step]
                for step, v in zip(steps, values, strict=True)
            ]
            for sign in (-1, 1)
        ]
        means.fill_between(
            steps, *edges, color=line.get_color(), alpha=0.2, linewidth=0
        )
    for axes in row:
        _finish(axes)
        if axes.get_legend_handles_labels()[0]:
            axes.legend(fontsize="small", frameon=False)


def _plot(
    axes: "Axes",
    points: tuple[list[int], list[float]],
    label: str,
    **style: str,
) -> "Line2D":
    marker = "o" if len(points[0]) <= _MARKED else None
    return axes.plot(*points, label=label, marker=marker, ms=3, **style)[0]


def _draw_bars(figure: "Figure", bars: Sequence["_Bar"]) -> None:
    """Draw the three charts of a report."""
    terms, shares, means = figure.subplots(1, 3, sharey=True)
    rows = range(len(bars))
    known = not any(
        math.isnan(term.loss_share) for bar in bars for term in bar.terms
    )
    terms.set_xlabel("share of the loss" if known else "penalty")
    left = [0.0] * len(bars)
    for name in dict.fromkeys(term.name for bar in bars for term in bar.terms):
        sizes = [bar.size(name, known) for bar in bars]
        terms.barh(rows, sizes, left=left, label=name)
        left = [a + b for a, b in zip(left, sizes, strict=True)]
    shares.set_xlabel("share")
    shares.set_xlim(0, 1)
    for offset, (name, label) in zip((-0.2, 0.2), _SHARES.items(), strict=True):
        shares.barh(
            [row + offset for row in rows],
            [bar.statistics[name] for bar in bars],
            height=0.4,
            label=label,
        )
    means.set_xlabel("mean ± std")
    means.errorbar(
        [bar.statistics["mean"] for bar in bars],
        rows,
        xerr=[bar.statistics["std"] for bar in bars],
        fmt="o",
        capsize=3,
    )
    terms.set_yticks(rows, [bar.label for bar in bars])
    terms.invert_yaxis()
    for axes in (terms, shares, means):
        _finish(axes)
        if axes.get_legend_handles_labels()[0]:
            axes.legend(
                loc="lower center",
                bbox_to_anchor=(0.5, 1.0),
                ncols=3,
                fontsize="small",
                frameon=False,
            )


@dataclass(frozen=True)
class _Bar:
    """What one row of bars shows: a place of a layer."""

    label: str
    terms: Sequence[TermReport]
    statistics: Mapping[str, float]

    def size(self, name: str, known: bool) -> float:
        return sum(
            term.loss_share if known else term.value
            for term in self.terms
            if term.name == name
        )


def _bars(layer: LayerReport) -> Iterator[_Bar]:
    for on, statistics in layer.statistics.items():
        label = layer.path if on == "output" else f"{layer.path} ({on})"
        terms = [term for term in layer.terms if term.on == on]
        yield _Bar(label, terms, statistics)


def _finish(axes: "Axes") -> None:
    axes.spines[["top", "right"]].set_visible(False)
