"""Arguments of a controller or a scheduler that are checked one by one."""

from collections.abc import Sequence
from typing import Any, Literal

from keras_actpen.penalties.validation import (
    check_integer,
    check_number,
    invalid_type,
    invalid_value,
)


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


def check_terms(terms: str | Sequence[str]) -> tuple[str, ...]:
    """Return the names or globs of terms.

    Raises:
        TypeError: If one is not a string.
        ValueError: If there is none.
    """
    checked = (terms,) if isinstance(terms, str) else tuple(terms)
    if not checked:
        raise invalid_value(
            "terms",
            "at least one name or glob of terms, for example terms='l2'",
            f"terms={terms!r}",
        )
    for term in checked:
        if not isinstance(term, str):
            raise TypeError(
                "Invalid type received for argument `terms`. Expected "
                "names or globs of terms, for example terms='l2'. "
                f"Received: terms={terms!r}"
            )
    return checked


def check_move_freq(value: Any) -> Literal["epoch"] | int:
    """Return `"epoch"`, or the steps from one move to the next.

    Raises:
        TypeError: If it is neither.
        ValueError: If it is below 1.
    """
    if value != "epoch":
        check_integer("update_freq", value, "'epoch' or an integer >= 1", 1)
    return value
