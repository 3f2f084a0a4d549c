"""Histograms on the host: rows of left edge, right edge and count."""

import numpy as np

BUCKETS = 30  # TensorBoard's own number.


def histogram(low: float, high: float, counts: np.ndarray) -> np.ndarray:
    """Rows of equal buckets from `low` to `high`, none if nothing is counted.

    Returns:
        An array of shape `(BUCKETS, 3)` or `(0, 3)`.
    """
    if not counts.any():
        return np.zeros((0, 3))
    rows = np.empty((BUCKETS, 3))
    edges = np.linspace(low, high, BUCKETS + 1)
    rows[:, 0], rows[:, 1], rows[:, 2] = edges[:-1], edges[1:], counts
    return rows


def histogram_of(values: np.ndarray) -> np.ndarray:
    """Rows of the histogram of at least one finite value.

    `np.histogram` takes more than twice as long, which counts at the end of
    an epoch with many layers.
    """
    low, high = float(values.min()), float(values.max())
    # The largest value is in the last bucket, and equal values are too, as
    # TensorBoard has it.
    places = np.full(values.shape, BUCKETS - 1.0)
    if low < high:
        width = (high - low) / BUCKETS
        places = np.minimum((values - low) / width, places)
    counts = np.bincount(places.astype(np.intp), minlength=BUCKETS)
    return histogram(low, high, counts)
