"""Arguments of a controller that are checked one by one."""

from typing import Any

from keras_actpen.penalties.validation import check_number, invalid_type


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


def check_term(term: Any) -> str:
    """Return what names a term.

    Raises:
        TypeError: If it is not a string.
    """
    if isinstance(term, str):
        return term
    raise invalid_type(
        "term",
        "'path/term' or the name of a term, for example 'dense_4/l1'",
        term,
    )
