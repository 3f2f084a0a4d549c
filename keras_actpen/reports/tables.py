"""Tables of layers: what `penalty_summary` and its like print."""

import io
from collections.abc import Iterator, Sequence
from typing import Literal

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderableType
from rich.measure import Measurement
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

# Without rich's own colors: a notebook may be dark.
_HTML = (
    '<pre style="white-space:pre;overflow-x:auto;line-height:normal;'
    'font-family:monospace">{code}</pre>'
)
# Wide enough for any row on one line; a notebook scrolls sideways.
_HTML_WIDTH = 240
_UNLIMITED = 100_000
_INDENT = 2

Align = Literal["left", "right"]


class LayerTable:
    """A table whose first column holds the paths of layers.

    Where it is too wide for the console, each path stands on a line of its
    own above its rows: a path that is folded in the middle can be neither
    read nor copied.

    It prints with `print` and with rich, and is HTML in notebooks.

    Args:
        title: Line above the table.
        columns: Titles of the columns behind the path, each with its
            alignment.
    """

    def __init__(self, title: str, columns: Sequence[tuple[str, Align]]):
        self.title = title
        self.columns = columns
        self.rows: list[tuple[str, tuple[str, ...]]] = []
        self.notes: list[str] = []

    def add_row(self, path: str, *cells: str) -> None:
        """Add a row, with a cell for every column behind the path."""
        self.rows.append((path, cells))

    def __rich_console__(
        self, console: Console, options: ConsoleOptions
    ) -> Iterator[RenderableType]:
        """Lay the table out for the width of a console."""
        yield Text(self.title, "italic")
        wide = self._wide()
        unlimited = options.update_width(_UNLIMITED)
        if (
            Measurement.get(console, unlimited, wide).maximum
            > options.max_width
        ):
            yield from self._stacked(options.max_width)
        else:
            yield wide
        for note in self.notes:
            yield Text(note)

    def __str__(self) -> str:
        """The table as plain text, of the terminal's width."""
        return self.text()

    def text(self, width: int | None = None) -> str:
        """The table as plain text, of this width or of the terminal's."""
        console = Console(file=io.StringIO(), color_system=None, width=width)
        with console.capture() as capture:
            console.print(self)
        return capture.get().rstrip("\n")

    def _repr_html_(self) -> str:
        """The table in a notebook."""
        console = Console(
            file=io.StringIO(),
            record=True,
            width=_HTML_WIDTH,
            force_jupyter=False,
        )
        console.print(self)
        return console.export_html(inline_styles=True, code_format=_HTML)

    def _wide(self) -> Table:
        # Text everywhere: in a string `output[mean]` would be read as markup.
        table = Table()
        table.add_column(Text("Layer"), no_wrap=True)
        for title, align in self.columns:
            table.add_column(Text(title), justify=align, no_wrap=True)
        for path, cells in self.rows:
            table.add_row(*map(Text, (path, *cells)))
        return table

    def _stacked(self, width: int) -> Iterator[RenderableType]:
        """Grids of equal column widths, each below its path."""
        widths, gap = self._widths(width - _INDENT)

        def grid(rows: Sequence[tuple[str, ...]], style: str) -> Padding:
            table = Table.grid(padding=(0, gap, 0, 0), pad_edge=False)
            for (_, align), size in zip(self.columns, widths, strict=True):
                table.add_column(
                    justify=align, width=size, style=style, overflow="fold"
                )
            for cells in rows:
                table.add_row(*map(Text, cells))
            return Padding(table, (0, 0, 0, _INDENT), expand=False)

        yield grid([tuple(title for title, _ in self.columns)], "bold")
        previous = None
        for path, cells in self.rows:
            if path != previous:
                yield Text(path, overflow="fold")
            previous = path
            yield grid([cells], "")

    def _widths(self, available: int) -> tuple[list[int], int]:
        """Widths of the columns behind the path, and the gap between two."""
        titles = [title for title, _ in self.columns]
        cells = [
            max((cell_len(cells[index]) for _, cells in self.rows), default=0)
            for index in range(len(titles))
        ]
        gaps = len(titles) - 1
        both = list(zip(titles, cells, strict=True))
        whole = [max(cell_len(title), cell) for title, cell in both]
        if sum(whole) + 2 * gaps <= available:
            return whole, 2
        # A title may be broken between its words.
        widths = [
            max(cell, *map(cell_len, title.split())) for title, cell in both
        ]
        gap = 2 if sum(widths) + 2 * gaps <= available else 1
        while sum(widths) + gap * gaps > available and max(widths) > 1:
            widths[widths.index(max(widths))] -= 1
        return widths, gap
