"""What steps accumulate where activations lie in the memory of the host.

Reading a scalar takes no longer there than one more operation on it, so that
totals and statistics are kept as numbers: on torch, on a CPU.
"""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from keras_actpen import backend
from keras_actpen.backend import operations as ops
from keras_actpen.backend.tensors import Tensor
from keras_actpen.instrumentation.term_totals import TermKey
from keras_actpen.statistics.activation_statistics import BUCKETS
from keras_actpen.statistics.snapshot import StatisticsSnapshot


class HostTotals:
    """Sums of all terms over the samples of a period, as `TermTotals`.

    Args:
        terms: The terms.
    """

    def __init__(self, terms: list[TermKey]):
        self.terms = terms
        self.reset()

    def reset(self) -> None:
        """Forget everything seen."""
        # Of the terms and of the samples.
        self._sums = np.zeros(len(self.terms) + 1)

    @backend.uncompiled
    def add(
        self, values: Mapping[TermKey, Tensor], samples: float, steps: float
    ) -> None:
        """Add terms of a step."""
        addends = [
            float(ops.stop_gradient(values[term])) if term in values else 0.0
            for term in self.terms
        ]
        self._sums += np.array([*addends, steps]) * float(samples)

    @backend.uncompiled
    def current(self) -> np.ndarray:
        """The sums of the terms and that of the samples."""
        return self._sums.copy()

    def read(self) -> tuple[dict[TermKey, float], float]:
        """Sum of every term over the samples, and their number."""
        *totals, samples = self._sums.tolist()
        return dict(zip(self.terms, totals, strict=True)), samples


class HostStatistics:
    """Statistics of watched tensors, a row for each, as `ActivationStatistics`.

    Args:
        units: For each watched tensor the size of its last axis, or `None` if
            it is not known; then there is no `dead_fraction`.
    """

    def __init__(self, units: Sequence[int | None]):
        self.units = units
        self.reset()

    def reset(self) -> None:
        """Forget everything seen."""
        self._rows = [StatisticsSnapshot()] * len(self.units)

    @backend.uncompiled
    def update(
        self, row: int, activations: Tensor, mask: Tensor | None = None
    ) -> None:
        """Take in one batch."""
        new = self._snapshot(row, activations, mask)
        self._rows[row] = dataclasses.replace(
            self._rows[row].merge(new), histogram=new.histogram
        )

    @backend.uncompiled
    def update_histogram(
        self, row: int, activations: Tensor, mask: Tensor | None = None
    ) -> None:
        """Replace the histogram, which is that of the last `update`."""
        new = self._snapshot(row, activations, mask)
        self._rows[row] = dataclasses.replace(
            self._rows[row], histogram=new.histogram
        )

    def read(self) -> list[StatisticsSnapshot]:
        """What has been seen since the last `reset`."""
        return list(self._rows)

    def _snapshot(
        self, row: int, activations: Tensor, mask: Tensor | None
    ) -> StatisticsSnapshot:
        found = backend.summary(activations, mask, BUCKETS)
        units = self.units[row]
        fired = None
        if units is not None:
            # A batch with other units says nothing of these.
            suits = len(found.fired) == units
            fired = found.fired if suits else np.zeros(units)
        return StatisticsSnapshot(
            count=found.count,
            mean=found.mean,
            m2=found.m2,
            minimum=found.low,
            maximum=found.high,
            zeros=found.zeros,
            nonfinite=found.nonfinite,
            fired=fired,
            histogram=_histogram(found),
        )


def _histogram(found: backend.Summary) -> np.ndarray:
    if found.edges is None:
        return np.zeros((0, 3))
    low, high = found.edges
    edges = np.linspace(low, high, BUCKETS + 1)
    # All values equal: they count in the last bucket.
    counts = found.buckets[::-1] if low == high else found.buckets
    return np.stack([edges[:-1], edges[1:], counts], axis=1)
