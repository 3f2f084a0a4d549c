"""Plots of the ratios."""

from collections.abc import Sequence
from pathlib import Path

from benchmarks.harness import AGAIN, Comparison


def plot(comparisons: Sequence[Comparison], file: Path) -> None:
    """Draw the ratios of one measurement on all backends, with the noise.

    Args:
        comparisons: The measurement, one a backend.
        file: PNG file to write.
    """
    import matplotlib as mpl

    mpl.use("agg")
    from matplotlib import pyplot, ticker

    figure, axes = pyplot.subplots(
        1,
        len(comparisons),
        figsize=(1 + 4 * len(comparisons), 4),
        sharey=True,
        squeeze=False,
        layout="constrained",
    )
    names = dict.fromkeys(
        arm
        for comparison in comparisons
        for arm in comparison.costs
        if not arm.endswith(AGAIN) and arm != comparison.baseline
    )
    rows = {arm: -index for index, arm in enumerate(names)}
    for ax, comparison in zip(axes[0], comparisons, strict=True):
        again = comparison.ratio(comparison.baseline + AGAIN)
        ax.axvspan(
            again.low, again.high, color="0.85", label="A/A, 95 % interval"
        )
        ax.axvline(1.0, color="0.4", linewidth=1)
        for arm in comparison.costs:
            if arm not in rows:
                continue
            ratio = comparison.ratio(arm)
            quartiles = ratio.lower_quartile, ratio.upper_quartile
            y = rows[arm]
            ax.plot(quartiles, (y, y), color="C0", linewidth=1)
            ax.plot((ratio.low, ratio.high), (y, y), color="C0", linewidth=4)
            ax.plot(ratio.median, y, "o", color="C0")
        ax.set_title(comparison.backend)
        ax.set_xlabel(f"ratio to {comparison.baseline}")
        if ax.get_xlim()[1] > 3:
            ax.set_xscale("log")
            ax.xaxis.set_major_locator(ticker.LogLocator(subs=(1, 2, 5)))
            ax.xaxis.set_major_formatter("{x:g}")
            ax.xaxis.set_minor_locator(ticker.NullLocator())
    axes[0][0].set_yticks(list(rows.values()), list(rows))
    figure.legend(
        *axes[0][0].get_legend_handles_labels(),
        loc="outside lower center",
        fontsize="small",
    )
    figure.suptitle(comparisons[0].name)
    figure.savefig(file, dpi=100)
    pyplot.close(figure)


def plots(
    comparisons: Sequence[tuple[str, Comparison]], directory: Path
) -> None:
    """A plot for each measurement that has more than two arms.

    Args:
        comparisons: The measurements, each with its device.
        directory: Where to write the plots.
    """
    groups: dict[str, list[Comparison]] = {}
    for device, comparison in comparisons:
        if len(comparison.costs) > 3:
            name = f"{comparison.name}-{device}".replace("/", "-")
            groups.setdefault(name, []).append(comparison)
    for name, comparisons in groups.items():
        plot(comparisons, directory / f"{name}.png")
