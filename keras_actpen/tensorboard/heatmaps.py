"""The overview images: heat maps of layers by epochs."""

from collections.abc import Sequence

import numpy as np

from keras_actpen.tensorboard.drawing import (
    BACKGROUND,
    INK,
    MARGIN,
    Map,
    number,
    shorten,
    text_width,
)

_ROW_LABEL_WIDTH = 250
# All rows together want this height, within these limits a row.
_ROWS_HEIGHT = 400
_ROW_HEIGHTS = (26, 48)

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
    labels = [shorten(row, _ROW_LABEL_WIDTH) for row in rows]
    row_height = np.clip(_ROWS_HEIGHT // len(rows), *_ROW_HEIGHTS)
    drawn = Map(
        title,
        values,
        columns,
        label_width=max(map(text_width, labels)),
        height=int(row_height) * len(rows),
        low=low,
        high=high,
    )
    for label, y in zip(labels, drawn.row_centres, strict=True):
        drawn.text((drawn.left - MARGIN, y), label, "rm")
    room = (drawn.right - drawn.left) / len(columns) - MARGIN
    if all(text_width(number(value)) <= room for value in values.flat):
        for (row, column), value in np.ndenumerate(values):
            dark = drawn.cells[row, column] @ _LUMINANCE < _DARK_BELOW
            place = drawn.column_centres[column], drawn.row_centres[row]
            ink = BACKGROUND if dark else INK
            drawn.text(place, number(value), "mm", ink)
    return drawn.pixels()
