"""A progress bar that shows the sum of all penalty terms, not each."""

import functools
from collections.abc import Callable, Mapping
from typing import Any

import keras

_HOOKS = ("on_train_batch_end", "on_test_batch_end", "on_epoch_end")
_HOOKS += ("on_test_end",)

# What is summed up, and what is left out, by the beginning of its key.
_TOTALS = {"penalty/": "penalty_total", "val_penalty/": "val_penalty_total"}
_COEFFICIENTS = "penalty.coefficient/"


def shorten(bar: keras.callbacks.ProgbarLogger) -> None:
    """Let a progress bar show `penalty_total` in place of single terms.

    Only the bar's own hooks are changed, for as long as it lives, which is
    one `fit` or `evaluate`: `logs` and the history keep everything.
    """
    hooks = vars(bar)
    for name in _HOOKS:
        if name not in hooks:
            hooks[name] = functools.partial(_with_total, getattr(bar, name))


def _with_total(
    hook: Callable[..., None], *args: Any, logs: Any = None
) -> None:
    *args, logs = args if logs is None else (*args, logs)
    hook(*args, with_total(logs) if isinstance(logs, Mapping) else logs)


def with_total(logs: Mapping[str, Any]) -> dict[str, Any]:
    """Logs with the sums of the penalty terms in place of the terms."""
    shown: dict[str, Any] = {}
    for key, value in logs.items():
        start = str(key).partition("/")[0] + "/"
        if start in _TOTALS:
            total = _TOTALS[start]
            shown[total] = shown.get(total, 0.0) + value
        elif start != _COEFFICIENTS:
            shown[key] = value
    return shown
