"""The one table that a user wants: what a penalty and watching it cost."""

from collections.abc import Iterable

from benchmarks import names
from benchmarks.harness import Comparison
from benchmarks.tables import table

# Of each measurement, what is timed and the arms to show.
_PARTS = {
    "steps/mnist_cnn-128": (
        "step",
        (
            names.BUILT_IN,
            names.CUSTOM_LOSS,
            names.ADD_LOSS,
            names.ATTACHED,
        ),
    ),
    "peers/mnist_cnn-128": (
        "training",
        (
            names.SUMMARY_IN_CALL,
            names.HOST_PULLS,
            names.TENSORBOARD,
            names.EVERY_STEP,
            names.MONITOR,
        ),
    ),
}


def overview(comparisons: Iterable[tuple[str, Comparison]]) -> str:
    """The table, a column for each backend that has been measured.

    Args:
        comparisons: The measurements, each with its device.
    """
    found = {
        (comparison.name, comparison.backend): comparison
        for device, comparison in comparisons
        if device == "cpu" and comparison.name in _PARTS
    }
    backends = list(dict.fromkeys(backend for _, backend in found))
    rows = []
    for name, (what, arms) in _PARTS.items():
        of_name = [found.get((name, backend)) for backend in backends]
        for arm in arms:
            cells = [_cell(comparison, arm) for comparison in of_name]
            if any(cells):
                rows.append([f"{what}: {arm}", *cells])
    return table(["with / without", *backends], rows)


def _cell(comparison: Comparison | None, arm: str) -> str:
    if comparison is None or arm not in comparison.costs:
        return ""
    return f"{comparison.ratio(arm).median:.2f}"
