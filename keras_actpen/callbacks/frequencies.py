"""What PenaltyMonitor does and how often: its arguments, checked."""

from collections.abc import Mapping
from typing import Any

from keras_actpen.penalties.validation import (
    check_integer,
    check_number,
    invalid_value,
    invalid_values,
)

STATISTICS_FREQ = 50

# Arguments that are about the steps that take statistics, or about files.
_OF_STATISTICS = (
    "statistics_in_logs",
    "statistics",
    "validation_statistics",
    "dead_after",
    "on_dead_units",
)
_OF_FILES = ("images", "hparams", "update_freq")

# What these are where nothing was asked for.
_WITHOUT_EFFECT = ((), {}, False, None, "epoch")


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


def check_takes_effect(arguments: Mapping[str, Any]) -> None:
    """Refuse arguments of `PenaltyMonitor` that would do nothing.

    Args:
        arguments: All of them, by name.

    Raises:
        ValueError: If there is one without what it needs.
    """
    needs = {
        "statistics_freq": (_OF_STATISTICS, "statistics_freq above 0"),
        "log_dir": (_OF_FILES, "a directory as log_dir"),
    }
    for needed, (names, expected) in needs.items():
        given = [
            name for name in names if arguments[name] not in _WITHOUT_EFFECT
        ]
        if given and not arguments[needed]:
            raise invalid_values(
                f"{expected}, or no {given[0]}",
                **{name: arguments[name] for name in (given[0], needed)},
            )
