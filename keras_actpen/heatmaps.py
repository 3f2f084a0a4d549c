"""What the overview images show: heat maps of layers by epochs.

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
_WIDTH = 700
_FONT_SIZE = 22
_MARGIN = 10
_LINE = 34
_ROW_LABEL_WIDTH = 250
# All rows together want this height, within these limits a row.
_ROWS_HEIGHT = 400
_ROW_HEIGHTS = (26, 48)
# Even, as the gaps between cells and the ticks are halved too.
_STROKE = 2
_GAPS_FROM = 12

_BACKGROUND = (255, 255, 255)
_INK = (0, 0, 0)
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
_LUMINANCE = np.array([0.299, 0.587, 0.114])
# There black and white text stand out alike.
_DARK_BELOW = 103


def heat_map(
    title: str,
    rows: Sequence[str],
    columns: Sequence[int],
    values: np.ndarray,
    *,
    low: float | None = None,
    high: float | None = None,
) -> np.ndarray:
    """Draw a heat map of layers by epochs, labels included.

    The image is always 700 pixels wide, so that it stays in place while
    epochs are added. Where there are more columns than pixels, each pixel
    shows the nearest column. Epoch numbers are thinned out to round ones and
    the last; cells show their value where all values fit.

    Args:
        title: One line above the map; shortened in the middle if too long.
        rows: Paths of the layers, from top to bottom; long ones are shortened
            in the middle.
        columns: Epochs, from left to right.
        values: Array of shape `(len(rows), len(columns))`. NaN is drawn as
            light grey, infinities as the ends of the scale.
        low: Value of the darkest colour; values below it look the same.
            Defaults to the lowest finite value.
        high: Value of the brightest colour; values above it look the same.
            Defaults to the highest finite value.

    Returns:
        A uint8 array of shape `(height, 700, 3)`.

    Raises:
        ValueError: If there is no row or no column, `values` has another
            shape, or `low` and `high` are not finite and in order.

    Example:
        >>> heat_map("dead share", ["dense"], [0], np.array([[0.1]])).shape
        (170, 700, 3)
    """
    values = np.asarray(values, dtype=np.float64)
    if values.size == 0 or values.shape != (len(rows), len(columns)):
        raise ValueError(
            "Invalid value received for argument `values`. Expected an array "
            "of shape (rows, columns), at least one of each, here "
            f"{(len(rows), len(columns))}. Received: an array of shape "
            f"{values.shape}"
        )
    low, high = _limits(values, low, high)
    labels = [_shorten(row, _ROW_LABEL_WIDTH) for row in rows]
    left = _MARGIN * 2 + max(map(_text_width, [*labels, "epoch"]))
    right = _WIDTH - _MARGIN
    top = _MARGIN + 2 * _LINE
    row_height = np.clip(_ROWS_HEIGHT // len(rows), *_ROW_HEIGHTS)
    bottom = top + int(row_height) * len(rows)
    row_centres = _centres(top, bottom, len(rows))
    column_centres = _centres(left, right, len(columns))

    pixels = np.full((bottom + _LINE + _MARGIN, _WIDTH, 3), _BACKGROUND, "u1")
    cells = _colours(values, low, high)
    pixels[top:bottom, left:right] = _grid(cells, bottom - top, right - left)
    canvas = PIL.Image.fromarray(pixels)
    draw = functools.partial(PIL.ImageDraw.Draw(canvas).text, font=_font())

    line = _MARGIN + _LINE // 2
    shown_title = _shorten(title, right - _MARGIN)
    draw((_MARGIN, line), shown_title, _INK, anchor="lm")
    for label, y in zip(labels, row_centres, strict=True):
        draw((left - _MARGIN, y), label, _INK, anchor="rm")
    if np.isfinite(low):
        ends = _number(low), _number(high)
        draw((left, line + _LINE), ends[0], _INK, anchor="lm")
        draw((right, line + _LINE), ends[1], _INK, anchor="rm")
        bar_left = left + _text_width(ends[0]) + _MARGIN
        bar_right = right - _text_width(ends[1]) - _MARGIN
        bar = _colours(np.linspace(low, high, bar_right - bar_left), low, high)
        bar = PIL.Image.fromarray(np.repeat(bar[None], _LINE // 2, axis=0))
        canvas.paste(bar, (bar_left, line + _LINE * 3 // 4))

    line = bottom + _MARGIN + _LINE // 2
    draw((left - _MARGIN, line), "epoch", _INK, anchor="rm")
    widths = np.array([_text_width(str(column)) for column in columns])
    places = column_centres.clip(left + widths / 2, right - widths / 2)
    for index in _ticks(columns, places, widths.max() + _MARGIN):
        draw((places[index], line), str(columns[index]), _INK, anchor="mm")
        x = int(column_centres[index]) - _STROKE // 2
        canvas.paste(_INK, (x, bottom, x + _STROKE, bottom + _MARGIN // 2))

    room = (right - left) / len(columns) - _MARGIN
    if all(_text_width(_number(value)) <= room for value in values.flat):
        for (row, column), value in np.ndenumerate(values):
            dark = cells[row, column] @ _LUMINANCE < _DARK_BELOW
            place = column_centres[column], row_centres[row]
            ink = _BACKGROUND if dark else _INK
            draw(place, _number(value), ink, anchor="mm")
    return np.array(canvas)


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
                np.moveaxis(cells, axis, 0)[gap] = _BACKGROUND
    return cells


def _centres(start: int, stop: int, count: int) -> np.ndarray:
    return start + (np.arange(count) + 0.5) * (stop - start) / count


def _ticks(
    columns: Sequence[int], centres: np.ndarray, distance: float
) -> list[int]:
    """Columns to number: the last and round ones, this far apart."""
    for step in (base * 10**power for power in range(9) for base in (1, 2, 5)):
        round_ones = [i for i, c in enumerate(columns) if c % step == 0]
        if (np.diff(centres[round_ones]) >= distance).all():
            break
    chosen = [len(columns) - 1]
    for index in reversed(round_ones):
        if centres[chosen[-1]] - centres[index] >= distance:
            chosen.append(index)
    return chosen


def _shorten(text: str, width: float) -> str:
    """Replace the middle of a text by … until it fits."""
    text = " ".join(text.split())
    if _text_width(text) <= width:
        return text

    def keep(count: int) -> str:
        # More of the end: there is the name of the layer itself.
        head = count // 3
        return f"{text[:head]}…{text[len(text) - count + head :]}"

    counts = range(len(text))
    too_long = bisect.bisect(
        counts, width, key=lambda count: _text_width(keep(count))
    )
    return keep(too_long - 1)


def _number(value: float) -> str:
    """Three significant digits: 0.123, 1.5e-7, 2e6, nan."""
    mantissa, _, exponent = f"{value:.3g}".partition("e")
    return f"{mantissa}e{int(exponent)}" if exponent else mantissa


def _text_width(text: str) -> int:
    return int(np.ceil(_font().getlength(text)))


@functools.cache
def _font() -> PIL.ImageFont.FreeTypeFont:
    return PIL.ImageFont.load_default(_FONT_SIZE)
