"""How many directions the activations fill, from their covariance."""

import math
from typing import ClassVar

import keras
import numpy as np
from keras import ops

from keras_actpen import backend
from keras_actpen.attach.activation_spec import ActivationSpec
from keras_actpen.backend.tensors import Tensor
from keras_actpen.statistics.device_state import (
    counted_elements,
    largest,
    power_of_two,
    state_variable,
)
from keras_actpen.statistics.moments import Moments, merge_all
from keras_actpen.statistics.optional_statistic import OptionalStatistic, Values

# The state grows with the square of the units: 4 MiB.
MOST_UNITS = 1024


class CovarianceSpectrum(OptionalStatistic):
    """Three measures of the eigenvalues of the units' covariance.

    Each position of each sample is one vector of units; a vector with a
    non-finite element does not count at all. With v the eigenvalues of the
    covariance and s their square roots, which are proportional to the
    singular values of the activations without their mean:

    - participation ratio: (sum v)^2 / sum v^2
    - stable rank: sum v / max v
    - effective rank: exp(-sum p log p) with p = s / sum s (Roy and Vetterli
      2007, "The effective rank: A measure of effective dimensionality")

    All lie between 1 and the number of units, and are NaN if no unit varies.
    Eigenvalues that float32 cannot tell from 0 count as 0.

    Args:
        units: Number of units.
    """

    definitions: ClassVar[dict[str, str]] = {
        "participation_ratio": (
            "(tr C)^2 / ||C||_F^2 with C the covariance of the units: over "
            "how many directions the variance is spread."
        ),
        "stable_rank": (
            "Sum of the eigenvalues of the units' covariance divided by the "
            "largest one."
        ),
        "effective_rank": (
            "exp of the entropy of s / sum s, with s the singular values of "
            "the activations without their mean (Roy and Vetterli 2007)."
        ),
    }

    def __init__(self, units: int):
        super().__init__()
        self.units = units
        # Scale, number of vectors, mean.
        self.means: keras.Variable = state_variable(
            (2 + units,), "spectrum_means"
        )
        self.matrix: keras.Variable = state_variable(
            (units, units), "covariance"
        )

    @classmethod
    def applies_to(
        cls, layer: keras.layers.Layer, spec: ActivationSpec, units: int | None
    ) -> bool:
        """Whether there are up to 1024 units."""
        return units is not None and units <= MOST_UNITS

    @classmethod
    def of(
        cls, layer: keras.layers.Layer, units: int | None
    ) -> "CovarianceSpectrum":
        """New state for a place that it applies to."""
        return cls(units)

    def update(self, activations: Tensor, mask: Tensor | None = None) -> None:
        """Take in one batch, as part of a compiled step."""
        x, counted, _ = counted_elements(activations, mask)
        x = ops.reshape(x, (-1, self.units))
        counted = ops.reshape(counted, (-1, self.units))
        counted = ops.all(counted, axis=-1, keepdims=True)
        state = ops.convert_to_tensor(self.means)
        old_scale = state[0]
        scale = ops.maximum(old_scale, power_of_two(largest(x, counted)))
        count = ops.sum(ops.cast(counted, "float32"))
        n = ops.maximum(count, 1.0)
        x = ops.where(counted, x, 0.0) / scale
        mean = backend.precise_sum(x, axis=0) / n
        deviation = ops.where(counted, x - mean, 0.0)
        correction = backend.precise_sum(deviation, axis=0) / n
        deviation = ops.where(counted, deviation - correction, 0.0)
        matrix = ops.matmul(ops.transpose(deviation), deviation) / n
        old = Moments(state[1], state[2:], ops.convert_to_tensor(self.matrix))
        merged = old.scaled(old_scale / scale).merge(
            Moments(count, mean + correction, matrix),
            ops.maximum(old.n + count, 1.0),
        )
        self.means.assign(
            ops.concatenate([ops.stack([scale, merged.n]), merged.mean])
        )
        self.matrix.assign(merged.second)

    def read(self) -> Values:
        """The three measures, NaN if no unit varies."""
        means = backend.local_values(self.means)
        matrices = backend.local_values(self.matrix)
        replicas = []
        for state, matrix in zip(means, matrices, strict=True):
            scale, n, *mean = state.astype("float64").tolist()
            one = Moments(n, np.array(mean), matrix.astype("float64"))
            replicas.append(one.scaled(scale))
        covariance = merge_all(replicas)
        return _measures(covariance)


def _measures(covariance: Moments) -> Values:
    eigenvalues = np.linalg.eigvalsh(covariance.second)
    rounding = 2.0**-22 * np.abs(covariance.mean).max()
    noise = len(eigenvalues) * max(
        rounding**2, np.finfo("float32").eps * eigenvalues.max()
    )
    v = eigenvalues[eigenvalues > noise]
    if not v.size:
        return dict.fromkeys(CovarianceSpectrum.definitions, math.nan)
    p = np.sqrt(v) / np.sqrt(v).sum()
    return {
        "participation_ratio": float(v.sum() ** 2 / (v**2).sum()),
        "stable_rank": float(v.sum() / v.max()),
        "effective_rank": float(np.exp(-np.sum(p * np.log(p)))),
    }
