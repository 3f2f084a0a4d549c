"""How often PenaltyMonitor does things: its arguments, checked."""

from typing import Any

from keras_actpen.penalties.validation import check_number

STATISTICS_FREQ = 50


def check_frequency(
    argument: str, value: Any, expected: str, least: int
) -> None:
    """Refuse what is no number of steps or epochs.

    Args:
        argument: Name of the argument, for the message.
        value: What was passed for it.
        expected: What may be written, for the message.
        least: The smallest number.

    Raises:
        TypeError: If `value` is neither an integer nor a string.
        ValueError: If it is a string or too small.
    """
    expected = f"Expected {expected} >= {least}."
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise TypeError(
            f"Invalid type received for argument `{argument}`. {expected} "
            f"Received: {argument}={value!r} (of type {type(value).__name__})"
        )
    if isinstance(value, str) or value < least:
        raise ValueError(
            f"Invalid value received for argument `{argument}`. {expected} "
            f"Received: {argument}={value!r}"
        )


def check_update_freq(value: Any) -> str | int:
    """`"epoch"`, or the steps from one point over batches to the next.

    Raises:
        TypeError: If `value` is neither an integer nor a string.
        ValueError: If it is another string or below 1.
    """
    if value == "batch":
        return 1
    if value != "epoch":
        expected = "'epoch', 'batch' or an integer"
        check_frequency("update_freq", value, expected, 1)
    return value


def check_overhead(value: Any, statistics_freq: int) -> float | None:
    """A share between 0 and 1, or `None`, as it was passed.

    Raises:
        TypeError: If `value` is no number.
        ValueError: If it is out of range, or `statistics_freq` is set too.
    """
    if value is None:
        return None
    value = check_number(
        "max_overhead",
        value,
        "a share between 0 and 1, for example max_overhead=0.01, or None",
        lambda share: 0 < share < 1,
    )
    if statistics_freq != STATISTICS_FREQ:
        raise ValueError(
            "Invalid values received for arguments `max_overhead` and "
            "`statistics_freq`. Expected one of them only: `max_overhead` "
            "chooses the steps by itself. Received: "
            f"max_overhead={value!r}, statistics_freq={statistics_freq!r}"
        )
    return value
