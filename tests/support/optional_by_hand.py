"""The optional statistics by their definitions, with NumPy in float64."""

import numpy as np

from keras_actpen.statistics.optional import DEFINITIONS
from keras_actpen.statistics.quantile_sketch import (
    RELATIVE_ACCURACY,
    SHARES,
)


def spectrum(vectors):
    """Participation ratio, stable and effective rank by their definitions."""
    nothing = dict.fromkeys(
        ("participation_ratio", "stable_rank", "effective_rank"), np.nan
    )
    vectors = vectors[np.isfinite(vectors).all(axis=1)]
    if not len(vectors) or (vectors == vectors[0]).all():
        return nothing
    centered = vectors - vectors.mean(axis=0)
    covariance = centered.T @ centered / len(vectors)
    s = np.linalg.svd(centered, compute_uv=False)
    s = s[s > 1e-6 * s.max()]
    p = s / s.sum()
    return {
        "participation_ratio": (
            np.trace(covariance) ** 2 / np.linalg.norm(covariance) ** 2
        ),
        "stable_rank": (
            np.linalg.norm(centered) ** 2 / np.linalg.norm(centered, 2) ** 2
        ),
        "effective_rank": np.exp(-np.sum(p * np.log(p))),
    }


def expected(values, mask=None):
    """All statistics in float64."""
    values = np.asarray(values, "float64")
    if mask is not None:
        values = values[mask]
    values = values.reshape(-1, values.shape[-1])
    finite = values[np.isfinite(values)]
    result = dict.fromkeys(DEFINITIONS, np.nan) | spectrum(values)
    if finite.size:
        for name, share in SHARES.items():
            result[name] = np.quantile(finite, share, method="lower")
        result["saturated_fraction"] = np.mean(np.abs(finite) > 0.9)
        centered = finite - finite.mean()
        if finite.min() < finite.max():
            result["kurtosis"] = (
                np.mean(centered**4) / np.mean(centered**2) ** 2
            )
    sizes = np.where(np.isfinite(values), np.abs(values), np.nan)
    seen = ~np.isnan(sizes).all(axis=0)
    result["unit_rms"] = np.full(values.shape[1], np.nan)
    if seen.any():
        means = np.nanmean(sizes[:, seen], axis=0)
        result["dormant_fraction"] = np.mean(means <= 0.025 * means.mean())
        squares = np.nanmean(sizes[:, seen] ** 2, axis=0)
        result["unit_rms"][seen] = np.sqrt(squares)
    return result


# Sums are float32; a quantile is the middle of its bucket, whose edge is
# rounded to float32 in the logarithm.
TOLERANCES = {name: RELATIVE_ACCURACY * 1.001 for name in SHARES}
TOLERANCES |= {"saturated_fraction": 0, "dormant_fraction": 0}


def assert_values(actual, reference, rtol=2e-5):
    assert set(actual) == set(reference) == set(DEFINITIONS)
    for name, value in reference.items():
        np.testing.assert_allclose(
            actual[name],
            value,
            rtol=TOLERANCES.get(name, rtol),
            atol=0,
            err_msg=name,
        )
