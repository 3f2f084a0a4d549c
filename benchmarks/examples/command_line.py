"""The command line that every example has."""

import argparse
from collections.abc import Callable, Mapping
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

# What was measured of the plain and of the penalized training, by name.
Rows = Mapping[str, Mapping[str, float]]


def main(
    run: Callable[..., Rows],
    description: str,
    full: Mapping[str, Any],
    quick: Mapping[str, Any],
) -> None:
    """Run an example and print what it returns, as a table of Markdown.

    Args:
        run: The example.
        description: First line of the help.
        full: Arguments of `run`.
        quick: Those with `--quick`.
    """
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument(
        "--quick",
        dest="sizes",
        action="store_const",
        const=quick,
        default=full,
        help="few data and steps, to see that it runs",
    )
    rows = run(**parser.parse_args().sizes)
    table = Table("", *rows, box=box.MARKDOWN)
    for measure in next(iter(rows.values())):
        table.add_row(
            measure, *(f"{row[measure]:.4g}" for row in rows.values())
        )
    Console().print(table)
