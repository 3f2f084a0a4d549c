"""Checks of arguments, and the errors that all of them raise.

An error names the argument, says what was expected and what was received,
and, where that is not plain from the two, what to write instead.
"""

import math
import numbers
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np

FLOAT32_MAX = float(np.finfo("float32").max)

Choice = TypeVar("Choice")


def printable(value: Any) -> str:
    """Return the repr of `value`, of an array its shape and dtype instead."""
    if isinstance(value, list | tuple) and any(map(_is_array, value)):
        return f"[{', '.join(map(printable, value))}]"
    if isinstance(value, dict) and any(map(_is_array, value.values())):
        items = (f"{key!r}: {printable(one)}" for key, one in value.items())
        return f"{{{', '.join(items)}}}"
    if not _is_array(value):
        return repr(value)
    dtype = getattr(value, "dtype", type(value).__name__)
    return f"<array of shape {tuple(value.shape)} and dtype {dtype}>"


def _is_array(value: Any) -> bool:
    # A number of NumPy's is an array too, without axes.
    return hasattr(value, "__array__") and bool(getattr(value, "shape", ()))


def invalid_value(
    argument: str, expected: str, received: str, advice: str = ""
) -> ValueError:
    """Return the error of an argument whose value does not suit."""
    return ValueError(
        f"Invalid value received for argument `{argument}`. Expected "
        f"{expected}. Received: {received}{advice and f'. {advice}'}"
    )


def invalid_values(expected: str, **received: Any) -> ValueError:
    """Return the error of arguments that do not go together, by name."""
    several = "s" if len(received) > 1 else ""
    return ValueError(
        f"Invalid value{several} received for argument{several} "
        f"{' and '.join(f'`{argument}`' for argument in received)}. Expected "
        f"{expected}. Received: "
        + ", ".join(
            f"{name}={printable(value)}" for name, value in received.items()
        )
    )


def invalid_type(
    argument: str, expected: str, value: Any, advice: str = ""
) -> TypeError:
    """Return the error of an argument of the wrong type."""
    return TypeError(
        f"Invalid type received for argument `{argument}`. Expected "
        f"{expected}. Received: {argument}={printable(value)} (of type "
        f"{type(value).__name__}){advice and f'. {advice}'}"
    )


def is_number(value: Any) -> bool:
    """Whether `value` is a real number, which `True` is not."""
    return isinstance(value, numbers.Real) and not isinstance(value, bool)


def check_number(
    argument: str,
    value: Any,
    expected: str,
    suits: Callable[[float], bool] = lambda value: True,
) -> float:
    """Return `value` as a float if it is finite and `suits(value)`."""
    if not is_number(value):
        raise invalid_type(argument, expected, value)
    try:
        number = float(value)
    except OverflowError:  # of a long integer
        number = math.inf
    if not math.isfinite(number) or not suits(number):
        raise invalid_value(argument, expected, f"{argument}={value!r}")
    return number


def check_integer(
    argument: str,
    value: Any,
    expected: str,
    least: int,
    most: float = math.inf,
) -> int:
    """Return `value` if it is an integer from `least` to `most`."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise invalid_type(argument, expected, value)
    if not least <= value <= most:
        raise invalid_value(argument, expected, f"{argument}={value!r}")
    return value


def check_above(
    argument: str, value: Any, limit: float, example: float
) -> float:
    """Return `value` as a float if it is a finite number above `limit`."""
    expected = f"a finite number > {limit:g}, for example {argument}={example}"
    return check_number(argument, value, expected, lambda one: one > limit)


def check_coefficient(argument: str, value: Any) -> float:
    """Return `value` as a float if it is >= 0 and finite, in float32 too."""
    example = f"for example {argument}=0.01"
    number = check_number(
        argument, value, f"a finite number >= 0, {example}", lambda x: x >= 0
    )
    return check_number(
        argument,
        number,
        f"a number that float32 can hold, {example}",
        lambda x: x <= FLOAT32_MAX,
    )


def check_choice(
    argument: str, value: Choice, choices: tuple[Any, ...]
) -> Choice:
    """Return `value` if it is one of `choices`."""
    if not any(value is choice or value == choice for choice in choices):
        raise invalid_value(
            argument, f"one of {choices}", f"{argument}={printable(value)}"
        )
    return value


def check_term_name(name: Any) -> str:
    """Return `name` if it can name a term in logs and in TensorBoard tags."""
    example = "for example name='sparsity'"
    if not isinstance(name, str):
        raise invalid_type("name", f"a string, {example}", name)
    if not name or "/" in name:
        raise invalid_value(
            "name",
            f"a non-empty string without '/', {example}",
            f"name={name!r}",
        )
    return name
