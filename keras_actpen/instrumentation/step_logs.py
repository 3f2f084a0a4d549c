"""Terms in the logs of a step, which are rarely read."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from keras import ops

from keras_actpen import backend
from keras_actpen.backend.tensors import Tensor

# Key of what a recorded step returns beside its own logs.
TOTALS = "keras_actpen/totals"


class _Totals:
    """Sums of terms over samples, read from the device once, if at all."""

    __slots__ = ("_means", "_sums")

    def __init__(self, sums: Tensor):
        self._sums = sums
        self._means: list[float] | None = None

    def mean(self, index: int) -> float:
        """Mean of a term over the samples."""
        if self._means is None:
            *totals, samples = ops.convert_to_numpy(self._sums).tolist()
            self._means = [total / max(samples, 1.0) for total in totals]
        return self._means[index]


class _Mean:
    """Mean of a term so far, a number to those who make one of it.

    Keras does so for callbacks that look at single steps. One scalar tensor
    per term would take as long as a small layer at every step.
    """

    def __init__(self, totals: _Totals, index: int):
        self._totals = totals
        self._index = index

    def __float__(self) -> float:
        return self._totals.mean(self._index)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Any:
        return np.array(float(self), dtype or "float32")


def with_totals(logs: Any, keys: Sequence[str], sums: Tensor) -> Any:
    """Logs of a step that returns the sums of the terms so far too.

    Args:
        logs: What the model's own step returned, maybe no dictionary.
        keys: The keys of the terms.
        sums: Tensor of shape `(terms + 1,)`: of the terms over the samples,
            and the number of samples.
    """
    if not isinstance(logs, dict):
        return logs
    if not backend.returns_scalars():
        return {**logs, TOTALS: sums}
    *means, _ = ops.unstack(ops.divide_no_nan(sums, sums[-1]), len(keys) + 1)
    return {**logs, **dict(zip(keys, means, strict=True))}


def expanded(logs: Any, keys: Sequence[str]) -> Any:
    """Logs of a step with the mean of every term so far.

    Args:
        logs: What a step with `with_totals` returned.
        keys: The keys of the terms.
    """
    if isinstance(logs, dict) and TOTALS in logs:
        totals = _Totals(logs.pop(TOTALS))
        for index, key in enumerate(keys):
            logs[key] = _Mean(totals, index)
    return logs
