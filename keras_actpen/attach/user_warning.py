"""Warnings that point at the line of the user's that caused them."""

import inspect
import warnings

# Lines of these libraries tell the reader of a warning nothing.
_LIBRARIES = ("keras", "keras_actpen")


def warn_user(message: str) -> None:
    """Warn, with the user's call of `fit` or of this package as the place.

    Args:
        message: What is wrong.
    """
    # From Python 3.12 on, `skip_file_prefixes` of `warnings.warn` does this.
    level, frame = 1, inspect.currentframe()
    while frame is not None and _library(frame.f_globals) in _LIBRARIES:
        level, frame = level + 1, frame.f_back
    warnings.warn(message, stacklevel=level)


def _library(module: dict[str, object]) -> str:
    return str(module.get("__name__", "")).partition(".")[0]
