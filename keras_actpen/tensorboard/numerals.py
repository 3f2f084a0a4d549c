"""Numbers as text, without the digits that only floating point makes."""

import re

import numpy as np

_FLOAT = re.compile(r"\d+\.\d+(?:e[-+]?\d+)?|\d+e-\d+")


def shortest(value: float) -> float:
    """The float of the fewest digits that is the same as a float32."""
    return float(str(np.float32(value)))


def without_noise(text: str) -> str:
    """A text in which `0.00030000000000000003` reads `0.0003`."""
    return _FLOAT.sub(
        lambda found: repr(float(f"{float(found[0]):.12g}")), text
    )
