"""How moments of two sets of numbers or vectors become those of both."""

import functools
from collections.abc import Iterable
from typing import Any, NamedTuple


class Moments(NamedTuple):
    """Central moments of `n` numbers, or mean and covariance of `n` vectors.

    Tensors on the device, floats or arrays on the host. The moments are means
    over the `n`, not sums.
    """

    n: Any
    mean: Any
    second: Any
    third: Any = None
    fourth: Any = None

    def scaled(self, factor: Any) -> "Moments":
        """Those of the numbers times a factor."""
        square = factor * factor
        two = self.n, self.mean * factor, self.second * square
        if self.third is None:
            return Moments(*two)
        return Moments(
            *two,
            self.third * (square * factor),
            self.fourth * (square * square),
        )

    def merge(self, other: "Moments", n: Any) -> "Moments":
        """Those of the numbers of both.

        Mean and second moment by Chan, Golub and LeVeque 1979, "Updating
        Formulae and a Pairwise Algorithm for Computing Sample Variances", the
        higher ones by Pebay 2008, "Formulas for Robust, One-Pass Parallel
        Computation of Covariances and Arbitrary-Order Statistical Moments".

        Args:
            other: Those of the other numbers.
            n: How many there are together, at least 1.
        """
        a, b = self.n / n, other.n / n
        delta = other.mean - self.mean
        is_vector = len(getattr(delta, "shape", ())) == 1
        square = delta[:, None] * delta if is_vector else delta * delta
        two = (
            self.n + other.n,
            self.mean + delta * b,
            a * self.second + b * other.second + a * b * square,
        )
        if self.third is None:
            return Moments(*two)
        return Moments(
            *two,
            a * self.third
            + b * other.third
            + a * b * (a - b) * delta**3
            + 3 * a * b * delta * (other.second - self.second),
            a * self.fourth
            + b * other.fourth
            + a * b * (a * a - a * b + b * b) * delta**4
            + 6 * a * b * square * (a * other.second + b * self.second)
            + 4 * a * b * delta * (other.third - self.third),
        )


def merge_all(replicas: Iterable[Moments]) -> Moments:
    """Moments of the numbers of all replicas, on the host."""
    return functools.reduce(
        lambda a, b: a.merge(b, max(a.n + b.n, 1.0)), replicas
    )
