"""Arguments of a controller that are checked one by one."""

from typing import Any

from keras_actpen.penalties.validation import check_number


def check_bounds(bounds: Any) -> tuple[float, float]:
    """Return the smallest and the largest coefficient.

    Raises:
        TypeError: If these are not two numbers.
        ValueError: If they are not `0 < low < high`.
    """
    expected = "two finite numbers, 0 < low < high"
    try:
        low, high = bounds
    except (TypeError, ValueError):
        raise TypeError(
            "Invalid type received for argument `bounds`. Expected "
            f"{expected}. Received: bounds={bounds!r}"
        ) from None
    low = check_number("bounds[0]", low, expected, lambda value: value > 0)
    high = check_number("bounds[1]", high, expected, lambda value: value > low)
    return low, high


def check_count(argument: str, value: Any, least: int = 1) -> int:
    """Return a number of steps or moves.

    Raises:
        TypeError: If it is no integer.
        ValueError: If it is too small.
    """
    expected = f"an integer >= {least}"
    if argument == "update_freq":
        expected = f"'epoch' or {expected}"
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(
            f"Invalid type received for argument `{argument}`. Expected "
            f"{expected}. Received: {argument}={value!r} (of type "
            f"{type(value).__name__})"
        )
    if value < least:
        raise ValueError(
            f"Invalid value received for argument `{argument}`. Expected "
            f"{expected}. Received: {argument}={value!r}"
        )
    return value


def check_term(term: Any) -> str:
    """Return what names a term.

    Raises:
        TypeError: If it is no string.
    """
    if isinstance(term, str):
        return term
    raise TypeError(
        "Invalid type received for argument `term`. Expected 'path/term' or "
        "the name of a term, for example 'dense_4/l1'. Received: "
        f"term={term!r} (of type {type(term).__name__})"
    )
