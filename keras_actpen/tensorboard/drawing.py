"""A map of coloured cells: title, colour bar, epochs, and room for rows.

Everything here is pure: numbers in, pixels out. Neither Keras nor TensorBoard
is imported. The text is drawn in the scalable font that Pillow carries, which
is a dependency of TensorBoard too, so that the pixels are the same everywhere.
"""

import bisect
import functools
from collections.abc import Sequence

import numpy as np
import PIL.Image
import PIL.ImageDraw
import PIL.ImageFont

# TensorBoard's Images page shows an image 350 pixels wide until it is clicked,
# and leaves out pixels to do so: at exactly two to one, letters stay whole.
WIDTH = 700
MARGIN = 10
LINE = 34
_FONT_SIZE = 22
# Even, as the gaps between cells and the ticks are halved too.
_STROKE = 2
_GAPS_FROM = 12

BACKGROUND = (255, 255, 255)
INK = (0, 0, 0)
_NO_VALUE = (208, 208, 208)
# Matplotlib's viridis at nine equal steps: equal steps of the value look
# equal, and lightness alone tells them apart.
_COLOURS = np.array(
    [
        (68, 1, 84),
        (71, 44, 122),
        (59, 81, 139),
        (44, 113, 142),
        (33, 144, 141),
        (39, 173, 129),
        (92, 200, 99),
        (170, 220, 50),
        (253, 231, 37),
    ]
)


class Map:
    """A canvas with cells, and what every map has around them.

    Args:
        title: One line above the map; shortened in the middle if too long.
        values: Array of shape `(rows, columns)`. NaN is drawn as light grey,
            infinities as the ends of the scale.
        columns: Epochs, from left to right, numbered below the cells.
        label_width: Room for the labels of the rows.
        height: Height of all cells together.
        low: Value of the darkest colour, `None` for the lowest finite one.
        high: Value of the brightest colour, `None` for the highest.
        footnote: One more line at the bottom, if not empty.

    Raises:
        ValueError: If `low` and `high` are not finite and in order.
    """

    def __init__(
        self,
        title: str,
        values: np.ndarray,
        columns: Sequence[int],
        *,
        label_width: int,
        height: int,
        low: float | None,
        high: float | None,
        footnote: str = "",
    ):
        low, high = _limits(values, low, high)
        self.left: int = MARGIN * 2 + max(label_width, text_width("epoch"))
        self.right = WIDTH - MARGIN
        self.top = MARGIN + 2 * LINE
        self.bottom: int = self.top + height
        self.row_centres: np.ndarray = centres(
            self.top, self.bottom, len(values)
        )
        self.column_centres: np.ndarray = centres(
            self.left, self.right, len(columns)
        )
        full = self.bottom + LINE * (2 if footnote else 1) + MARGIN
        self.cells: np.ndarray = _colours(values, low, high)
        grid = _grid(self.cells, height, self.right - self.left)
        self._canvas = PIL.Image.new("RGB", (WIDTH, full), BACKGROUND)
        self._canvas.paste(PIL.Image.fromarray(grid), (self.left, self.top))
        self._draw = PIL.ImageDraw.Draw(self._canvas)
        line = MARGIN + LINE // 2
        self.text((MARGIN, line), shorten(title, self.right - MARGIN), "lm")
        if np.isfinite(low):
            self._draw_bar(low, high, line + LINE)
        self._draw_columns(columns)
        if footnote:
            self.text((self.left, full - LINE // 2), footnote, "lm")

    def text(
        self,
        place: tuple[float, float],
        text: str,
        anchor: str,
        ink: tuple[int, int, int] = INK,
    ) -> None:
        """Write a text; `anchor` is Pillow's, such as `"lm"`."""
        self._draw.text(place, text, ink, anchor=anchor, font=_font())

    def mark(self, x: float, y: float, width: int, height: int) -> None:
        """Draw a tick with its upper left corner there."""
        x, y = int(x), int(y)
        self._canvas.paste(INK, (x, y, x + width, y + height))

    def pixels(self) -> np.ndarray:
        """What has been drawn: uint8, of shape `(height, 700, 3)`."""
        return np.array(self._canvas)

    def _draw_bar(self, low: float, high: float, line: int) -> None:
        ends = number(low), number(high)
        self.text((self.left, line), ends[0], "lm")
        self.text((self.right, line), ends[1], "rm")
        left = self.left + text_width(ends[0]) + MARGIN
        right = self.right - text_width(ends[1]) - MARGIN
        bar = _colours(np.linspace(low, high, right - left), low, high)
        bar = PIL.Image.fromarray(np.repeat(bar[None], LINE // 2, axis=0))
        self._canvas.paste(bar, (left, line - (LINE // 2 + 1) // 2))

    def _draw_columns(self, columns: Sequence[int]) -> None:
        line = self.bottom + MARGIN + LINE // 2
        self.text((self.left - MARGIN, line), "epoch", "rm")
        widths = np.array([text_width(str(column)) for column in columns])
        places = self.column_centres.clip(
            self.left + widths / 2, self.right - widths / 2
        )
        for index in ticks(columns, places, widths.max() + MARGIN):
            self.text((places[index], line), str(columns[index]), "mm")
            x = int(self.column_centres[index]) - _STROKE // 2
            self.mark(x, self.bottom, _STROKE, MARGIN // 2)


def _limits(
    values: np.ndarray, low: float | None, high: float | None
) -> tuple[float, float]:
    """Both ends of the scale; NaN where nothing tells them."""
    known = [limit for limit in (low, high) if limit is not None]
    if not np.isfinite(known).all() or known != sorted(known):
        raise ValueError(
            "Invalid values received for arguments `low` and `high`. Expected "
            "finite numbers or None, low <= high. Received: "
            f"low={low}, high={high}"
        )
    seen = np.append(values[np.isfinite(values)], known)
    if seen.size == 0:
        return np.nan, np.nan
    return (
        float(seen.min()) if low is None else low,
        float(seen.max()) if high is None else high,
    )


def _colours(values: np.ndarray, low: float, high: float) -> np.ndarray:
    """Colours of values, of shape `(*values.shape, 3)`."""
    if low == high:
        # One value has no place on a scale: the middle.
        scaled = np.where(np.isnan(values), np.nan, 0.5)
    else:
        scaled = np.interp(values, (low, high), (0, 1))
    places = np.linspace(0, 1, len(_COLOURS))
    channels = [np.interp(scaled, places, channel) for channel in _COLOURS.T]
    colours = np.stack(channels, axis=-1)
    missing = np.isnan(scaled)[..., None]
    return np.where(missing, _NO_VALUE, colours.round()).astype(np.uint8)


def _grid(cells: np.ndarray, height: int, width: int) -> np.ndarray:
    """Blow cells up to a size, with gaps where they are big enough."""
    for axis, size in enumerate((height, width)):
        count = cells.shape[axis]
        nearest = ((np.arange(size) + 0.5) * count / size).astype(int)
        cells = cells.take(nearest, axis=axis)
        if size >= count * _GAPS_FROM:
            starts = np.flatnonzero(np.diff(nearest)) + 1
            for offset in range(_STROKE):
                gap = starts - offset
                np.moveaxis(cells, axis, 0)[gap] = BACKGROUND
    return cells


def centres(start: int, stop: int, count: int) -> np.ndarray:
    """Centres of equal parts of a range."""
    return start + (np.arange(count) + 0.5) * (stop - start) / count


def ticks(
    numbers: Sequence[int], places: np.ndarray, distance: float
) -> list[int]:
    """Numbers to show: the last and round ones, this far apart."""
    for step in (base * 10**power for power in range(9) for base in (1, 2, 5)):
        round_ones = [i for i, c in enumerate(numbers) if c % step == 0]
        if (np.diff(places[round_ones]) >= distance).all():
            break
    chosen = [len(numbers) - 1]
    for index in reversed(round_ones):
        if places[chosen[-1]] - places[index] >= distance:
            chosen.append(index)
    return chosen


def shorten(text: str, width: float) -> str:
    """Replace the middle of a text by … until it fits."""
    text = " ".join(text.split())
    if text_width(text) <= width:
        return text

    def keep(count: int) -> str:
        # More of the end: there is the name of the layer itself.
        head = count // 3
        return f"{text[:head]}…{text[len(text) - count + head :]}"

    counts = range(len(text))
    too_long = bisect.bisect(
        counts, width, key=lambda count: text_width(keep(count))
    )
    return keep(too_long - 1)


def number(value: float) -> str:
    """Three significant digits: 0.123, 1.5e-7, 2e6, nan."""
    mantissa, _, exponent = f"{value:.3g}".partition("e")
    return f"{mantissa}e{int(exponent)}" if exponent else mantissa


def text_width(text: str) -> int:
    """Width of a text in pixels."""
    return int(np.ceil(_font().getlength(text)))


@functools.cache
def _font() -> PIL.ImageFont.FreeTypeFont:
    return PIL.ImageFont.load_default(_FONT_SIZE)
