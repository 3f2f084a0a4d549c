"""The images of single units: units by epochs."""

import math
from collections.abc import Sequence

import numpy as np

from keras_actpen.tensorboard.drawing import (
    LINE,
    MARGIN,
    Map,
    text_width,
    ticks,
)

# All units together want this height; a row is even, as TensorBoard halves it.
_UNITS_HEIGHT = 480
_ROW_HEIGHTS = (2, 48)
_TICK = 2


def unit_map(
    title: str,
    columns: Sequence[int],
    values: np.ndarray,
    *,
    low: float | None = None,
    high: float | None = None,
) -> np.ndarray:
    """Draw a map of units by epochs, labels included.

    Units are in their own order, the first one at the top. Where there are
    more than 240, each row is the mean of as many neighbours as it takes,
    which a line below the map says. Unit and epoch numbers are thinned out to
    round ones and the last.

    Args:
        title: One line above the map; shortened in the middle if too long.
        columns: Epochs, from left to right.
        values: Array of shape `(units, len(columns))`. NaN is drawn as light
            grey and does not count in a mean.
        low: Value of the darkest colour; defaults to the lowest finite one.
        high: Value of the brightest colour; defaults to the highest.

    Returns:
        A uint8 array of shape `(height, 700, 3)`.

    Raises:
        ValueError: If there is no unit or no column, `values` has another
            shape, or `low` and `high` are not finite and in order.

    Example:
        >>> unit_map("firing rate", [0], np.full((512, 1), 0.1)).shape
        (498, 700, 3)
    """
    values = np.asarray(values, dtype=np.float64)
    if values.size == 0 or values.shape[1:] != (len(columns),):
        raise ValueError(
            "Invalid value received for argument `values`. Expected an array "
            "of shape (units, columns), at least one of each, here "
            f"(units, {len(columns)}). Received: an array of shape "
            f"{values.shape}"
        )
    units = len(values)
    together = math.ceil(units * _ROW_HEIGHTS[0] / _UNITS_HEIGHT)
    first_units = range(0, units, together)
    rows = _means_of_neighbours(values, together)
    height = np.clip(_UNITS_HEIGHT // len(rows) // 2 * 2, *_ROW_HEIGHTS)
    footnote = f"a row: the mean of {together} units" if together > 1 else ""
    drawn = Map(
        title,
        rows,
        columns,
        label_width=max(text_width("unit"), text_width(str(units))),
        height=int(height) * len(rows),
        low=low,
        high=high,
        footnote=footnote,
    )
    drawn.text((drawn.left - MARGIN, drawn.top - LINE // 2), "unit", "rm")
    # The last label keeps clear of "epoch" below it.
    places = drawn.row_centres.clip(drawn.top, drawn.bottom - LINE // 4)
    for index in ticks(first_units, places, LINE):
        label = str(first_units[index])
        drawn.text((drawn.left - MARGIN, places[index]), label, "rm")
        y = drawn.row_centres[index] - _TICK // 2
        drawn.mark(drawn.left - MARGIN // 2, y, MARGIN // 2, _TICK)
    return drawn.pixels()


def _means_of_neighbours(values: np.ndarray, together: int) -> np.ndarray:
    """Means of so many rows at a time, those that are not NaN."""
    starts = np.arange(0, len(values), together)
    known = ~np.isnan(values)
    counts = np.add.reduceat(known.astype(int), starts)
    sums = np.add.reduceat(np.where(known, values, 0.0), starts)
    return np.where(counts, sums / np.maximum(counts, 1), np.nan)
