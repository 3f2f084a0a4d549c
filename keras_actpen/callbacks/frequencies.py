"""What PenaltyMonitor does and how often: its arguments, checked."""

from typing import Any

from keras_actpen.penalties.validation import (
    check_integer,
    check_number,
    invalid_value,
    invalid_values,
)
from keras_actpen.statistics.optional import check_names
from keras_actpen.statistics.snapshot import STATISTICS

STATISTICS_FREQ = 50


def check_update_freq(value: Any) -> str | int:
    """`"epoch"`, or the steps from one point over batches to the next.

    Raises:
        TypeError: If `value` is neither an integer nor a string.
        ValueError: If it is another string or below 1.
    """
    if value == "batch":
        return 1
    if value != "epoch":
        expected = "'epoch', 'batch' or an integer >= 1"
        if isinstance(value, str):
            raise invalid_value(
                "update_freq", expected, f"update_freq={value!r}"
            )
        check_integer("update_freq", value, expected, 1)
    return value


def check_overhead(value: Any, statistics_freq: int) -> float | None:
    """A share between 0 and 1, or `None`, as it was passed.

    Raises:
        TypeError: If `value` is not a number.
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
        raise invalid_values(
            "one of them only: `max_overhead` chooses the steps by itself",
            max_overhead=value,
            statistics_freq=statistics_freq,
        )
    return value


def check_statistics_in_logs(
    names: Any, statistics_freq: int
) -> tuple[str, ...]:
    """Names of statistics that are always taken, as a tuple.

    Raises:
        TypeError: If `names` is not a sequence of strings.
        ValueError: If there is no statistic of a name, or none is taken.
    """
    names = check_names(names, "statistics_in_logs", STATISTICS)
    if names and not statistics_freq:
        raise invalid_values(
            "statistics_freq above 0, or statistics_in_logs=()",
            statistics_in_logs=names,
            statistics_freq=statistics_freq,
        )
    return names
