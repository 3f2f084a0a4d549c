"""Text in images: its font, numbers, what fits.

The font is the scalable one that Pillow carries, which is a dependency of
TensorBoard too, so that the pixels are the same everywhere.
"""

import bisect
import functools
from collections.abc import Sequence

import numpy as np
import PIL.ImageFont

_FONT_SIZE = 22


@functools.cache
def font() -> PIL.ImageFont.FreeTypeFont:
    """The font of all texts."""
    return PIL.ImageFont.load_default(_FONT_SIZE)


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

    too_long = bisect.bisect(
        range(len(text)), width, key=lambda count: text_width(keep(count))
    )
    return keep(too_long - 1)


def number(value: float) -> str:
    """Three significant digits: 0.123, 1.5e-7, 2e6, nan."""
    mantissa, _, exponent = f"{value:.3g}".partition("e")
    return f"{mantissa}e{int(exponent)}" if exponent else mantissa


def text_width(text: str) -> int:
    """Width of a text in pixels."""
    return int(np.ceil(font().getlength(text)))
