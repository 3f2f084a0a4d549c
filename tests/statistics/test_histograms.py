"""Histograms on the host."""

import numpy as np
import pytest

from keras_actpen.statistics.histograms import BUCKETS, histogram_of

pytestmark = pytest.mark.one_backend


def test_buckets_are_those_of_numpy():
    values = np.random.default_rng(0).standard_normal(10_000)
    counts, edges = np.histogram(values, BUCKETS)
    rows = histogram_of(values)
    np.testing.assert_allclose(rows[:, 0], edges[:-1], rtol=0, atol=1e-14)
    np.testing.assert_allclose(rows[:, 1], edges[1:], rtol=0, atol=1e-14)
    np.testing.assert_array_equal(rows[:, 2], counts)


def test_equal_values_are_in_the_last_bucket():
    """All units of a layer that fires everywhere have a rate of 1."""
    rows = histogram_of(np.zeros(7))
    assert rows.shape == (BUCKETS, 3)
    assert rows[-1].tolist() == [0.0, 0.0, 7.0]
    assert rows[:, 2].sum() == 7
