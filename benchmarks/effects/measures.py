"""What is measured of activations, logits and predictions, in NumPy."""

import numpy as np
from scipy.special import log_softmax, logsumexp

BINS = 15


def zero_share(h: np.ndarray) -> float:
    """Share of the activations that are exactly 0."""
    return float(np.mean(h == 0))


def mean_norm(h: np.ndarray) -> float:
    """Mean Euclidean norm of the activations of a sample."""
    return float(np.mean(np.linalg.norm(h, axis=-1)))


def off_diagonal_covariance(h: np.ndarray) -> float:
    """Root mean square of the covariances of two different units."""
    return _off_diagonal(np.cov(h, rowvar=False))


def off_diagonal_correlation(h: np.ndarray) -> float:
    """The same of their correlations; units that never change are left out.

    Unlike the covariance it does not fall when all activations shrink.
    """
    covariance = np.cov(h, rowvar=False)
    alive = np.diag(covariance) > 1e-12
    covariance = covariance[np.ix_(alive, alive)]
    deviations = np.sqrt(np.diag(covariance))
    return _off_diagonal(covariance / np.outer(deviations, deviations))


def participation_ratio(h: np.ndarray) -> float:
    """How many directions the activations vary in: tr(C)^2 / |C|_F^2."""
    covariance = np.cov(h, rowvar=False)
    return float(np.trace(covariance) ** 2 / np.sum(covariance**2))


def accuracy(logits: np.ndarray, y: np.ndarray) -> float:
    """Share of the samples whose largest logit is that of the label."""
    return float(np.mean(np.argmax(logits, axis=-1) == y))


def entropy(logits: np.ndarray) -> float:
    """Mean entropy of the predicted distributions, in nats."""
    logs = log_softmax(logits, axis=-1)
    return float(np.mean(-np.sum(np.exp(logs) * logs, axis=-1)))


def calibration_error(logits: np.ndarray, y: np.ndarray) -> float:
    """Expected calibration error (ECE) over 15 bins of equal width.

    The mean distance between confidence and accuracy of a bin, weighted by
    its samples. Guo, Pleiss, Sun, Weinberger 2017, "On Calibration of Modern
    Neural Networks".
    """
    confidence = np.exp(np.max(log_softmax(logits, axis=-1), axis=-1))
    right = np.argmax(logits, axis=-1) == y
    # Bins are open below and closed above.
    bins = np.clip(np.ceil(confidence * BINS).astype(int) - 1, 0, BINS - 1)
    gaps = np.bincount(bins, confidence - right, minlength=BINS)
    return float(np.sum(np.abs(gaps)) / len(y))


def log_z(logits: np.ndarray) -> float:
    """Mean absolute value of log Z, Z = sum of exp(logits)."""
    return float(np.mean(np.abs(logsumexp(logits, axis=-1))))


def squared_difference(h: np.ndarray) -> float:
    """Mean square of the change from one time step to the next."""
    return float(np.mean(np.square(np.diff(h, axis=1))))


def mean_square(h: np.ndarray) -> float:
    """Mean square of the activations."""
    return float(np.mean(np.square(h)))


def kurtosis(h: np.ndarray) -> float:
    """Kurtosis of all activations as one distribution."""
    centered = h - np.mean(h)
    return float(np.mean(centered**4) / np.mean(centered**2) ** 2)


def quantized(h: np.ndarray, largest: float, bits: int) -> np.ndarray:
    """Round to a signed integer of some bits, one scale for all, and back.

    Args:
        h: Activations.
        largest: Absolute value that the largest integer stands for; those
            beyond are clipped.
        bits: Width of the integer, its sign included.
    """
    levels = 2 ** (bits - 1) - 1
    step = largest / levels
    return np.clip(np.round(h / step), -levels, levels) * step


def _off_diagonal(matrix: np.ndarray) -> float:
    away = matrix[~np.eye(len(matrix), dtype=bool)]
    return float(np.sqrt(np.mean(np.square(away))))
