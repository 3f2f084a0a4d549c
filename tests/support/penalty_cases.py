"""One row for every penalty: how to make it, and its formula in NumPy.

The formulas are transcribed from the papers, in float64, without a glance at
the implementation: they know neither masks nor replicas.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np

from keras_actpen import penalties


def flat(h):
    return h.reshape(-1, h.shape[-1])


def per_batch(values, h):
    return np.sum(values) / h.shape[0]


def covariance(h, ddof):
    h = flat(h)
    centered = h - h.mean(axis=0)
    return centered.T @ centered / max(len(h) - ddof, 1)


def off_diagonal(matrix):
    return matrix[~np.eye(len(matrix), dtype=bool)]


def softmax(h):
    exponents = np.exp(h - h.max(axis=-1, keepdims=True))
    return exponents / exponents.sum(axis=-1, keepdims=True)


def log_sum_exp(h):
    top = h.max(axis=-1)
    return top + np.log(np.exp(h - top[..., None]).sum(axis=-1))


def entropy(h):
    logs = h - log_sum_exp(h)[..., None]
    return -(np.exp(logs) * logs).sum(axis=-1)


def huber(h, delta):
    size = np.abs(h)
    return np.where(size <= delta, 0.5 * size**2, delta * (size - 0.5 * delta))


def hoyer(h):
    squares = (h**2).sum(axis=-1)
    sums = np.abs(h).sum(axis=-1) ** 2
    return np.divide(sums, squares, out=np.zeros_like(sums), where=squares > 0)


def kl_sparsity(h, rate):
    mean = np.clip(flat(h).mean(axis=0), 1e-7, 1 - 1e-7)
    return np.sum(
        rate * np.log(rate / mean)
        + (1 - rate) * np.log((1 - rate) / (1 - mean))
    )


def group_lasso(h, size):
    squares = (flat(h) ** 2).mean(axis=0).reshape(-1, size).sum(axis=-1)
    return np.sum(np.sqrt(size) * np.sqrt(squares + 1e-8))


def dead_units(h, margin):
    h = flat(h)
    dead = (h <= 0).all(axis=0)
    if not dead.any():
        return 0.0
    return np.maximum(margin - h[:, dead], 0).mean()


def load_balance(h):
    h = flat(h)
    ties = h == h.max(axis=-1, keepdims=True)
    share = (ties / ties.sum(axis=-1, keepdims=True)).mean(axis=0)
    return h.shape[-1] * np.sum(share * h.mean(axis=0))


def vib(h):
    mean, log_variance = np.split(h, 2, axis=-1)
    beyond = np.maximum(log_variance - 40, 0)
    variance = np.exp(log_variance - beyond) * (1 + beyond)
    return 0.5 * np.sum(mean**2 + variance - 1 - log_variance) / len(h)


def variance_floor(h, floor):
    deviation = np.sqrt(np.diag(covariance(h, 1)) + 1e-4)
    return np.maximum(floor - deviation, 0).mean()


def decorrelation(h):
    c = covariance(h, 0)
    deviation = np.sqrt(np.diag(c) + 1e-5)
    return np.sum(off_diagonal(c / np.outer(deviation, deviation)) ** 2)


def mean_or_zero(values):
    return values.mean() if values.size else 0.0


def norm(h):
    return np.sqrt((h**2).sum(axis=-1) + 1e-8)


def differences(h):
    return np.concatenate(
        [np.diff(h, axis=1).ravel(), np.diff(h, axis=2).ravel()]
    )


def moments(h):
    h = flat(h)
    deviation = np.sqrt(h.var(axis=0) + 1e-8)
    return np.mean(h.mean(axis=0) ** 2 + (deviation - 1) ** 2)


def steps(h, threshold):
    return np.sum(h > threshold) / positions(h)


def smooth_steps(h, threshold, bandwidth):
    """What the straight-through gradient of `steps` is the slope of."""
    ramp = (h - threshold) / bandwidth + 0.5
    return np.sum(np.clip(ramp, 0, 1)) / positions(h)


def kurtosis(h, target):
    standard = (h - h.mean()) / np.sqrt(h.var() + 1e-8)
    return (np.mean(standard**4) - target) ** 2


def real(h):
    return h


def unit(h):
    return 1 / (1 + np.exp(-h))


def some_dead(h):
    h = h.copy()
    h[..., 1:3] = -0.1 - np.abs(h[..., 1:3])
    return h


@dataclasses.dataclass
class Case:
    """A penalty, its formula, and what its definition allows."""

    cls: type
    formula: Callable[[np.ndarray], Any]
    arguments: dict = dataclasses.field(default_factory=dict)
    shape: tuple = (4, 3, 6)
    domain: Callable[[np.ndarray], np.ndarray] = real
    # Number of values that a "mean" is over; None: no `reduction`.
    count: Callable[[np.ndarray], int] | None = None
    # What a mask leaves: positions, leading time steps, or whole samples.
    masks: str = "positions"
    # What its gradient is the slope of, where that is not the formula.
    slope: Callable[[np.ndarray], Any] | None = None
    # Gradient at all-equal activations, where central differences jump.
    at_ties: Callable[[np.ndarray], np.ndarray] | None = None

    @property
    def id(self):
        values = [f"{k}={v}" for k, v in self.arguments.items()]
        return "-".join([self.cls.__name__, *values])

    def make(self, coefficient=1.0, **arguments):
        if self.cls is penalties.L1L2:
            arguments["coefficient"] = coefficient
            return self.cls(**self.arguments, **arguments)
        return self.cls(coefficient, **self.arguments, **arguments)

    @property
    def sloped(self):
        return self.slope or self.formula

    def random(self, seed=0, shape=None):
        h = np.random.default_rng(seed).normal(size=shape or self.shape)
        return self.domain(1.5 * h).astype("float32")


def elements(h):
    return h.size


def positions(h):
    return h[..., 0].size


def evenly(share):
    return lambda h: np.full(h.shape, share(h))


P = penalties
MAPS = (4, 3, 4, 2)
WEIGHTS = [0.5, 0.0, 2.0, 1.0, 3.0, 0.25]
THRESHOLDS = [0.5, 0.6, 0.9, 1.2, 0.0, 0.8]

CASES = [
    Case(P.L1, lambda h: per_batch(np.abs(h), h), count=elements),
    Case(
        P.L1,
        lambda h: per_batch(np.array(WEIGHTS) * np.abs(h), h),
        {"unit_weights": WEIGHTS},
        count=elements,
    ),
    Case(
        P.L0,
        lambda h: steps(h, 0.5),
        {"threshold": 0.5, "bandwidth": 0.6},
        count=elements,
        slope=lambda h: smooth_steps(h, 0.5, 0.6),
    ),
    Case(
        P.L0,
        lambda h: steps(h, np.array(THRESHOLDS)),
        {"threshold": THRESHOLDS, "bandwidth": 0.7},
        count=elements,
        slope=lambda h: smooth_steps(h, np.array(THRESHOLDS), 0.7),
    ),
    Case(P.L2, lambda h: per_batch(h**2, h), count=elements),
    Case(
        P.L1L2,
        lambda h: per_batch(0.3 * np.abs(h) + 0.2 * h**2, h),
        {"l1": 0.3, "l2": 0.2},
        count=elements,
    ),
    Case(
        P.Huber,
        lambda h: per_batch(huber(h, 0.5), h),
        {"delta": 0.5},
        count=elements,
    ),
    Case(
        P.LInf,
        lambda h: per_batch(np.abs(h).max(axis=-1), h),
        count=positions,
        at_ties=lambda h: np.sign(h) / h.shape[-1] / h.shape[0],
    ),
    Case(
        P.LInf,
        lambda h: per_batch(log_sum_exp(5.0 * np.abs(h)) / 5.0, h),
        {"temperature": 5.0},
        count=positions,
    ),
    Case(P.ActivationRegularization, lambda h: np.mean(h**2)),
    Case(
        P.TemporalActivationRegularization,
        lambda h: mean_or_zero(np.diff(h, axis=1) ** 2),
        masks="time",
    ),
    Case(
        P.NormStabilizer,
        lambda h: mean_or_zero(np.diff(norm(h), axis=1) ** 2),
        masks="time",
    ),
    Case(
        P.TotalVariation,
        lambda h: per_batch(np.abs(differences(h)), h),
        {"data_format": "channels_last"},
        shape=MAPS,
        count=lambda h: differences(h).size,
        masks="time",
    ),
    Case(
        P.TotalVariation,
        lambda h: per_batch(np.abs(differences(np.moveaxis(h, 1, -1))), h),
        {"data_format": "channels_first"},
        shape=MAPS,
        count=lambda h: differences(np.moveaxis(h, 1, -1)).size,
        masks="samples",
    ),
    Case(
        P.KLSparsity,
        lambda h: kl_sparsity(h, 0.2),
        {"rate": 0.2},
        domain=unit,
    ),
    Case(
        P.KLSparsity,
        lambda h: kl_sparsity((h + 1) / 2, 0.05),
        {"activation": "tanh"},
        domain=np.tanh,
    ),
    Case(P.Hoyer, lambda h: per_batch(hoyer(h), h), count=positions),
    Case(
        P.LogSparsity,
        lambda h: per_batch(np.log(1 + h**2), h),
        count=elements,
    ),
    Case(P.GroupLasso, lambda h: group_lasso(h, 1)),
    Case(P.GroupLasso, lambda h: group_lasso(h, 3), {"group_size": 3}),
    Case(
        P.DeadUnitRevival,
        lambda h: dead_units(h, 0.0),
        domain=some_dead,
        at_ties=evenly(lambda h: 0.0),
    ),
    Case(
        P.DeadUnitRevival,
        lambda h: dead_units(h, 0.3),
        {"margin": 0.3},
        domain=some_dead,
        # A unit all zeros is dead, and lacks the margin.
        at_ties=evenly(lambda h: -1.0 / h.size if h.max() == 0 else 0.0),
    ),
    Case(
        P.ConfidencePenalty,
        lambda h: -np.mean(entropy(h)),
        count=positions,
    ),
    Case(
        P.ConfidencePenalty,
        lambda h: np.mean(np.maximum(1.2 - entropy(h), 0)),
        {"threshold": 1.2},
        count=positions,
    ),
    Case(P.ZLoss, lambda h: np.mean(log_sum_exp(h) ** 2), count=positions),
    Case(
        P.LoadBalance,
        load_balance,
        domain=softmax,
        at_ties=evenly(lambda h: 1.0 / positions(h)),
    ),
    Case(
        P.LoadBalance,
        lambda h: load_balance(softmax(h)),
        {"activation": "linear"},
        at_ties=evenly(lambda h: 0.0),
    ),
    Case(P.VIB, vib, count=positions),
    Case(
        P.DeCov,
        lambda h: 0.5 * np.sum(off_diagonal(covariance(h, 0)) ** 2),
    ),
    Case(
        P.VarianceFloor,
        lambda h: variance_floor(h, 1.4),
        {"floor": 1.4},
    ),
    Case(
        P.Covariance,
        lambda h: np.sum(off_diagonal(covariance(h, 1)) ** 2) / h.shape[-1],
    ),
    Case(P.Decorrelation, decorrelation),
    Case(
        P.Range,
        lambda h: np.mean(
            np.maximum(-0.5 - h, 0) ** 2 + np.maximum(h - 1, 0) ** 2
        ),
        {"low": -0.5, "high": 1.0},
    ),
    Case(
        P.Range,
        lambda h: np.mean(np.maximum(h - 0.2, 0) ** 2),
        {"low": None, "high": 0.2},
    ),
    Case(
        P.Saturation,
        lambda h: np.mean(np.maximum(np.abs(h) - 0.9, 0) ** 2),
    ),
    Case(P.MomentMatching, moments),
    Case(
        P.FeatureNorm,
        lambda h: (np.mean(norm(h)) - 2.5) ** 2,
        {"radius": 2.5},
    ),
    Case(P.Kurtosis, lambda h: kurtosis(h, 1.8)),
]
