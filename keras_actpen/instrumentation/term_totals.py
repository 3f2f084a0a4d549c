"""Sums of penalty terms that the steps of a model accumulate."""

from collections.abc import Mapping
from typing import TypeAlias

import keras
import numpy as np

from keras_actpen import backend
from keras_actpen.backend import operations as ops
from keras_actpen.backend.tensors import Tensor
from keras_actpen.statistics.device_state import DeviceState, state_variable

# A term: the path of its layer and its name.
TermKey: TypeAlias = tuple[str, str]


class TermTotals(DeviceState):
    """Sums of all terms over the samples of a period, on the device.

    Each term is weighted by the batch size, as Keras weighs the loss that it
    reports, and counts as 0 in steps in which its layer is not called. The
    sums are compensated (Kahan 1965, "Further remarks on reducing truncation
    errors"): they stay exact to float32 however many batches there are.

    Args:
        terms: The terms.
    """

    def __init__(self, terms: list[TermKey]):
        super().__init__()
        self.terms = terms
        # Sums of the terms and of the samples, and what they lack.
        self.sums: keras.Variable = state_variable(
            (2, len(terms) + 1), "term_totals"
        )

    def add(
        self,
        values: Mapping[TermKey, Tensor],
        samples: Tensor | float,
        steps: float,
    ) -> None:
        """Add terms of a step, as part of it.

        Args:
            values: Coefficient times value of some of the terms.
            samples: Batch size of the step, a float or a float32 scalar.
            steps: 1 to count the samples, 0 if they are counted elsewhere.
        """
        sums = ops.convert_to_tensor(self.sums)
        addends = [*(values.get(term, 0.0) for term in self.terms), steps]
        self.sums.assign(backend.compensated_sums(sums, addends, samples))

    def current(self) -> Tensor:
        """The sums of the terms and that of the samples, as part of a step."""
        # torch's variables change where they are.
        return ops.copy(ops.convert_to_tensor(self.sums)[0])

    def read(self) -> tuple[dict[TermKey, float], float]:
        """Sum of every term over the samples, and their number, on the host.

        Right over all replicas of this process.
        """
        sums = np.zeros(len(self.terms) + 1)
        for local in backend.local_values(self.sums):
            sums += local[0].astype("float64") - local[1]
        *totals, samples = sums.tolist()
        return dict(zip(self.terms, totals, strict=True)), samples
