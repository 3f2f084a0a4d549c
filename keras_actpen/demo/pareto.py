"""What a sweep shows: accuracy against sparsity, as a table and as a plot."""

import os
from collections.abc import Mapping

from rich.table import Table

from keras_actpen.demo.sweep import Measured

# Their names in the table and the plot.
TITLES = {
    "accuracy": "test accuracy",
    "task_loss": "task loss",
    "penalty": "penalty",
    "zero_fraction": "share of zeros",
    "mean_square": "mean square",
}


def pareto_front(points: Mapping[float, Measured], measure: str) -> set[float]:
    """The coefficients that no other one beats.

    Args:
        points: What each coefficient of a sweep led to.
        measure: What is to be had besides accuracy: `"zero_fraction"`, of
            which more is better, or `"mean_square"`, of which less is.

    Returns:
        Those for which no other one is at least as good in both and better in
        one.
    """
    sign = -1 if measure == "mean_square" else 1
    goals = {
        coefficient: (point.accuracy, sign * getattr(point, measure))
        for coefficient, point in points.items()
    }
    return {
        coefficient
        for coefficient, (accuracy, sparsity) in goals.items()
        if not any(
            other[0] >= accuracy
            and other[1] >= sparsity
            and other != (accuracy, sparsity)
            for other in goals.values()
        )
    }


def pareto_table(
    points: Mapping[float, Measured], layer: str, term: str, measure: str
) -> Table:
    """A table with a row per coefficient, the Pareto front marked."""
    front = pareto_front(points, measure)
    table = Table(
        title=f"Test set; activations of {layer}",
        caption=f"* {TITLES['accuracy']} against {TITLES[measure]}",
    )
    for title in (term, *TITLES.values()):
        table.add_column(title, justify="right")
    table.add_column("Pareto front *", justify="center")
    for coefficient, point in points.items():
        table.add_row(
            f"{coefficient:g}",
            *(f"{getattr(point, name):.4f}" for name in TITLES),
            "*" if coefficient in front else "",
        )
    return table


def plot_pareto(
    points: Mapping[float, Measured],
    layer: str,
    term: str,
    measure: str,
    path: str | os.PathLike[str],
) -> None:
    """Plot accuracy against `measure` into a PNG file.

    Raises:
        ImportError: If matplotlib is not installed.
    """
    # Not at the top: only the demo's extra installs it. Not pyplot: it would
    # choose a backend for the whole process.
    from matplotlib.figure import Figure

    front = pareto_front(points, measure)
    along = {c: getattr(point, measure) for c, point in points.items()}
    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes = figure.add_subplot()
    line = sorted(front, key=along.__getitem__)
    axes.plot(
        [along[coefficient] for coefficient in line],
        [points[coefficient].accuracy for coefficient in line],
        color="tab:blue",
        label="Pareto front",
    )
    axes.scatter(
        list(along.values()),
        [point.accuracy for point in points.values()],
        color=["tab:blue" if c in front else "tab:gray" for c in points],
        zorder=2,
    )
    for index, coefficient in enumerate(sorted(points, key=along.__getitem__)):
        axes.annotate(
            f"{coefficient:g}",
            (along[coefficient], points[coefficient].accuracy),
            # Above and below in turn: neighbors are often close.
            xytext=(0, 9 if index % 2 == 0 else -18),
            textcoords="offset points",
            ha="center",
        )
    if measure == "mean_square":
        axes.set_xscale("log")
    axes.margins(0.15)
    axes.grid(alpha=0.3)
    axes.set_xlabel(f"{TITLES[measure]} of the activations of {layer}")
    axes.set_ylabel(TITLES["accuracy"])
    axes.set_title(f"{layer}, by coefficient of {term}")
    axes.legend()
    figure.savefig(path, dpi=120)
