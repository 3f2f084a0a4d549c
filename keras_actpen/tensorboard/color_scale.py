"""Which value of a heat map has which color."""

import numpy as np

_NO_VALUE = (208, 208, 208)
# Matplotlib's viridis at nine equal steps: equal steps of the value look
# equal, and lightness alone tells them apart.
_COLORS = np.array(
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


class ColorScale:
    """A scale on which equal differences are equal steps.

    NaN is light gray, infinities have the colors of the ends.

    Args:
        values: What is to be shown.
        low: Value of the darkest color, `None` for the lowest finite one.
        high: Value of the brightest color, `None` for the highest.
    """

    def __init__(
        self,
        values: np.ndarray,
        low: float | None = None,
        high: float | None = None,
    ):
        known = [limit for limit in (low, high) if limit is not None]
        seen = np.append(values[np.isfinite(values)], known)
        # Both ends are NaN where nothing tells them.
        self.low: float = np.nan
        self.high: float = np.nan
        if seen.size:
            self.low = float(seen.min()) if low is None else low
            self.high = float(seen.max()) if high is None else high

    def colors(self, values: np.ndarray) -> np.ndarray:
        """Colors of values, uint8 of shape `(*values.shape, 3)`."""
        if self.low == self.high:
            # One value has no place on a scale: the middle.
            scaled = np.where(np.isnan(values), np.nan, 0.5)
        else:
            scaled = self._places(values)
        return _colors(scaled)

    def bar(self, width: int) -> np.ndarray:
        """All colors, from low to high, of shape `(width, 3)`."""
        if self.low == self.high:
            return _colors(np.full(width, 0.5))
        return _colors(np.linspace(0, 1, width))

    def _places(self, values: np.ndarray) -> np.ndarray:
        """Places from 0 to 1."""
        return np.interp(values, (self.low, self.high), (0, 1))


class LogColorScale(ColorScale):
    """A scale on which equal ratios are equal steps.

    It spans a tenth of the highest value at least, so that small differences
    look small; what is not above 0 has the darkest color.

    Args:
        values: What is to be shown.
    """

    def __init__(self, values: np.ndarray):
        super().__init__(values)
        if self.high > 0:
            positive = values[np.isfinite(values) & (values > 0)]
            self.low: float = min(float(positive.min()), self.high / 10)

    def _places(self, values: np.ndarray) -> np.ndarray:
        if not self.high > 0:
            return super()._places(values)
        logs = np.full(np.shape(values), -np.inf)
        # NaN is none of these, and stays NaN.
        np.log(values, out=logs, where=~(values <= 0))
        return np.interp(logs, np.log((self.low, self.high)), (0, 1))


def _colors(places: np.ndarray) -> np.ndarray:
    """Colors of places from 0 to 1."""
    steps = np.linspace(0, 1, len(_COLORS))
    channels = [np.interp(places, steps, channel) for channel in _COLORS.T]
    colors = np.stack(channels, axis=-1).round()
    missing = np.isnan(places)[..., None]
    return np.where(missing, _NO_VALUE, colors).astype(np.uint8)
