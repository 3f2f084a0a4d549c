"""Heat maps of layers or units by epochs, drawn as one image.

Everything here is pure: numbers in, pixels out. Neither Keras nor TensorBoard
is imported.
"""

import math
from collections.abc import Sequence

import numpy as np
import PIL.Image
import PIL.ImageDraw

from keras_actpen.tensorboard.color_scale import ColorScale
from keras_actpen.tensorboard.image_text import (
    font,
    number,
    shorten,
    text_width,
    ticks,
)

# TensorBoard's Images page shows an image 350 pixels wide until it is clicked,
# and leaves out pixels to do so: at exactly two to one, letters stay whole.
_WIDTH = 700
_MARGIN = 10
_LINE = 34
# Even, as ticks are halved too.
_TICK = 2
_LABEL_WIDTH = 250
# All rows together want this height, within these limits a row.
_LAYERS_HEIGHT, _LAYER_HEIGHTS = 400, (26, 48)
_UNITS_HEIGHT, _UNIT_HEIGHTS = 480, (2, 48)

_WHITE, _BLACK = (255, 255, 255), (0, 0, 0)
_LUMINANCE = np.array([0.299, 0.587, 0.114])
# There black and white text stand out alike.
_DARK_BELOW = 103


def layer_map(
    title: str,
    paths: Sequence[str],
    epochs: Sequence[int],
    values: np.ndarray,
    scale: ColorScale | None = None,
) -> np.ndarray:
    """Draw layers by epochs; cells show their value where all values fit.

    Args:
        title: One line above the map; shortened in the middle if too long.
        paths: Paths of the layers, from top to bottom, at least one.
        epochs: Epochs, from left to right, at least one; round ones and the
            last are numbered.
        values: Array of shape `(len(paths), len(epochs))`.
        scale: Their colors, `None` for those from the lowest to the highest.

    Returns:
        A uint8 array of shape `(height, 700, 3)`.

    Example:
        >>> layer_map("dead share", ["dense"], [0], np.array([[0.1]])).shape
        (170, 700, 3)
    """
    labels = [shorten(path, _LABEL_WIDTH) for path in paths]
    height = np.clip(_LAYERS_HEIGHT // len(paths), *_LAYER_HEIGHTS)
    width = max(map(text_width, labels))
    drawn = _Map(title, values, epochs, width, int(height), scale)
    for label, y in zip(labels, drawn.row_centers, strict=True):
        drawn.text((drawn.left - _MARGIN, y), label, "rm")
    room = (drawn.right - drawn.left) / len(epochs) - _MARGIN
    if all(text_width(number(value)) <= room for value in values.flat):
        for (row, column), value in np.ndenumerate(values):
            dark = drawn.cells[row, column] @ _LUMINANCE < _DARK_BELOW
            place = drawn.column_centers[column], drawn.row_centers[row]
            drawn.text(place, number(value), "mm", _WHITE if dark else _BLACK)
    return drawn.pixels()


def unit_map(
    title: str,
    units: int,
    epochs: Sequence[int],
    rows: np.ndarray,
    scale: ColorScale | None = None,
) -> np.ndarray:
    """Draw units by epochs, in their own order, the first one at the top.

    Args:
        title: As in `layer_map`.
        units: How many units there are.
        epochs: As in `layer_map`.
        rows: Array of shape `(rows, len(epochs))`: `unit_rows` of each epoch.
            A line below the map says of how many units a row is the mean.
        scale: As in `layer_map`.

    Returns:
        A uint8 array of shape `(height, 700, 3)`.

    Example:
        >>> unit_map("rate", 512, [0], unit_rows(np.ones(512))[:, None]).shape
        (498, 700, 3)
    """
    together = _units_a_row(units)
    height = np.clip(_UNITS_HEIGHT // len(rows) // 2 * 2, *_UNIT_HEIGHTS)
    footnote = (
        f"each row is the mean of {together} units" if together > 1 else ""
    )
    width = max(text_width("unit"), text_width(str(units)))
    drawn = _Map(title, rows, epochs, width, int(height), scale, footnote)
    x = drawn.left - _MARGIN
    drawn.text((x, drawn.top - _LINE // 2), "unit", "rm")
    # The last label keeps clear of "epoch" below it.
    y = drawn.row_centers.clip(drawn.top, drawn.bottom - _LINE // 4)
    first_units = range(0, units, together)
    for index in ticks(first_units, y, _LINE):
        drawn.text((x, y[index]), str(first_units[index]), "rm")
        tick = drawn.row_centers[index] - _TICK // 2
        drawn.mark(x + _MARGIN // 2, tick, _MARGIN // 2, _TICK)
    return drawn.pixels()


def unit_rows(values: np.ndarray) -> np.ndarray:
    """Values of units as at most 240 rows, means of neighbors without NaN.

    Args:
        values: Array of shape `(units,)`.
    """
    starts = np.arange(0, len(values), _units_a_row(len(values)))
    known = ~np.isnan(values)
    counts = np.add.reduceat(known.astype(int), starts)
    sums = np.add.reduceat(np.where(known, values, 0.0), starts)
    return np.where(counts, sums / np.maximum(counts, 1), np.nan)


def _units_a_row(units: int) -> int:
    """How many units share a row."""
    return math.ceil(units * _UNIT_HEIGHTS[0] / _UNITS_HEIGHT)


class _Map:
    """Cells, and what every map has around them."""

    def __init__(
        self,
        title: str,
        values: np.ndarray,
        epochs: Sequence[int],
        label_width: int,
        row_height: int,
        scale: ColorScale | None,
        footnote: str = "",
    ):
        height = row_height * len(values)
        self.left: int = _MARGIN * 2 + max(label_width, text_width("epoch"))
        self.right = _WIDTH - _MARGIN
        self.top = _MARGIN + 2 * _LINE
        self.bottom: int = self.top + height
        self.row_centers: np.ndarray = _centers(
            self.top, self.bottom, len(values)
        )
        self.column_centers: np.ndarray = _centers(
            self.left, self.right, len(epochs)
        )
        full = self.bottom + _LINE * (2 if footnote else 1) + _MARGIN
        scale = ColorScale(values) if scale is None else scale
        self.cells: np.ndarray = scale.colors(values)
        self._canvas = PIL.Image.new("RGB", (_WIDTH, full), _WHITE)
        grid = PIL.Image.fromarray(self.cells).resize(
            (self.right - self.left, height), PIL.Image.Resampling.NEAREST
        )
        self._canvas.paste(grid, (self.left, self.top))
        self._draw = PIL.ImageDraw.Draw(self._canvas)
        line = _MARGIN + _LINE // 2
        self.text((_MARGIN, line), shorten(title, self.right - _MARGIN), "lm")
        if np.isfinite(scale.low):
            self._draw_bar(scale, line + _LINE)
        self._draw_epochs(epochs)
        if footnote:
            self.text((self.left, full - _LINE // 2), footnote, "lm")

    def text(
        self,
        place: tuple[float, float],
        text: str,
        anchor: str,
        ink: tuple[int, int, int] = _BLACK,
    ) -> None:
        """Write a text; `anchor` is Pillow's, such as `"lm"`."""
        self._draw.text(place, text, ink, anchor=anchor, font=font())

    def mark(self, x: float, y: float, width: int, height: int) -> None:
        """Draw a tick with its upper left corner there."""
        x, y = int(x), int(y)
        self._canvas.paste(_BLACK, (x, y, x + width, y + height))

    def pixels(self) -> np.ndarray:
        """What has been drawn: uint8, of shape `(height, 700, 3)`."""
        return np.array(self._canvas)

    def _draw_bar(self, scale: ColorScale, line: int) -> None:
        """Draw the scale and write its ends."""
        ends = number(scale.low), number(scale.high)
        self.text((self.left, line), ends[0], "lm")
        self.text((self.right, line), ends[1], "rm")
        left = self.left + text_width(ends[0]) + _MARGIN
        right = self.right - text_width(ends[1]) - _MARGIN
        colors = scale.bar(right - left)
        bar = PIL.Image.fromarray(np.repeat(colors[None], _LINE // 2, axis=0))
        self._canvas.paste(bar, (left, line - (_LINE // 2 + 1) // 2))

    def _draw_epochs(self, epochs: Sequence[int]) -> None:
        """Number some epochs below the cells."""
        line = self.bottom + _MARGIN + _LINE // 2
        self.text((self.left - _MARGIN, line), "epoch", "rm")
        widths = np.array([text_width(str(epoch)) for epoch in epochs])
        x = self.column_centers.clip(
            self.left + widths / 2, self.right - widths / 2
        )
        for index in ticks(epochs, x, widths.max() + _MARGIN):
            self.text((x[index], line), str(epochs[index]), "mm")
            tick = int(self.column_centers[index]) - _TICK // 2
            self.mark(tick, self.bottom, _TICK, _MARGIN // 2)


def _centers(start: int, stop: int, count: int) -> np.ndarray:
    """Centers of equal parts of a range."""
    return start + (np.arange(count) + 0.5) * (stop - start) / count
