"""What steps accumulate where activations lie in the memory of the host.

Reading a scalar takes no longer there than one more operation on it, so that
totals and statistics are kept as numbers: on torch, on a CPU.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np

from keras_actpen import backend
from keras_actpen.backend import operations as ops
from keras_actpen.backend.tensors import Tensor
from keras_actpen.instrumentation.term_totals import TermKey
from keras_actpen.statistics.histograms import BUCKETS, histogram
from keras_actpen.statistics.since_fired import fired_by_row
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
    def seen(
        self, row: int, activations: Tensor, mask: Tensor | None = None
    ) -> StatisticsSnapshot:
        """What `update` needs of one batch."""
        return self._snapshot(row, activations, mask)

    @backend.uncompiled
    def update(self, batches: Mapping[int, StatisticsSnapshot]) -> None:
        """Take in a batch of each of some tensors."""
        for row, new in batches.items():
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
        found, buckets = backend.statistics_on_host(activations, mask, BUCKETS)
        units = self.units[row]
        # A batch with other units says nothing of these.
        if units is None:
            found["fired"] = None
        elif len(found["fired"]) != units:
            found["fired"] = np.zeros(units)
        return StatisticsSnapshot(**found, histogram=histogram(*buckets))


class HostSinceFired:
    """Positions since each unit last fired, as `SinceFired`.

    Args:
        units: As in `SinceFired`.
    """

    def __init__(self, units: Sequence[int | None]):
        self._units = units
        self.reset()

    def reset(self) -> None:
        """Forget everything seen."""
        # The last one: how many have been seen.
        self._rows = [
            np.zeros(n + 1, "int64") if n else None for n in self._units
        ]

    def units(self, row: int) -> int | None:
        """How many units of a watched tensor are followed."""
        return self._units[row] or None

    @backend.uncompiled
    def update(self, steps: Mapping[int, Sequence[Any]]) -> None:
        """Take in what `fired_in` calls of a step, by rows."""
        for row, (fired, positions) in fired_by_row(steps).items():
            self._rows[row] += int(positions)
            self._rows[row][:-1][keras.ops.convert_to_numpy(fired)] = 0

    def read(self) -> list[tuple[np.ndarray, int] | None]:
        """For each tensor the positions since units fired, and those seen."""
        return [
            None if one is None else (one[:-1].copy(), int(one[-1]))
            for one in self._rows
        ]
