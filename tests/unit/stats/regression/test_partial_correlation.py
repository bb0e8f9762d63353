"""Partial correlations against textbook formulas and scipy."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from t2v_eval.errors import InputError
from t2v_eval.stats.regression.partial_correlation import partial_correlation, residuals


@pytest.fixture
def data():
    rng = np.random.default_rng(3)
    z = rng.normal(size=(80, 2))
    x = z @ [1.0, -0.5] + rng.normal(size=80)
    y = 0.4 * x + z @ [0.2, 2.0] + rng.normal(size=80)
    return x, y, z


def by_inverse(*columns):
    """The partial correlation of the first two, from the inverse of the correlation matrix."""
    precision = np.linalg.inv(np.corrcoef(np.stack(columns)))
    return -precision[0, 1] / math.sqrt(precision[0, 0] * precision[1, 1])


def test_equals_the_inverse_correlation_matrix(data):
    x, y, z = data
    value = partial_correlation(x, y, z, ranks=False).value
    assert value == pytest.approx(by_inverse(x, y, *z.T), abs=1e-12)


def test_of_ranks_equals_the_inverse_matrix_of_ranks(data):
    x, y, z = data
    ranks = [stats.rankdata(column) for column in (x, y, *z.T)]
    assert partial_correlation(x, y, z).value == pytest.approx(by_inverse(*ranks), abs=1e-12)


def test_without_controls_it_is_spearmans(data):
    x, y, _ = data
    expected = stats.spearmanr(x, y)
    result = partial_correlation(x, y)
    assert result.value == pytest.approx(expected.statistic, abs=1e-12)


def test_pearson_interval_equals_scipys(data):
    x, y, _ = data
    result = partial_correlation(x, y, ranks=False, confidence=0.9)
    expected = stats.pearsonr(x, y).confidence_interval(0.9)
    assert (result.low, result.high) == pytest.approx((expected.low, expected.high), abs=1e-12)


def test_intervals_cover_the_true_value():
    rng = np.random.default_rng(0)
    rho, covered = 0.4, 0
    for _ in range(300):
        z = rng.normal(size=40)
        a, b = rng.multivariate_normal([0, 0], [[1, rho], [rho, 1]], 40).T
        result = partial_correlation(a + z, b - 2 * z, z[:, None], ranks=False)
        covered += result.low <= rho <= result.high
    assert covered >= 275  # of 285 expected; below 275 once in 200 such tests


def test_missing_rows_and_constant_controls_are_left_out(data):
    x, y, z = data
    controls = np.column_stack([z, np.full(80, 7.0)])
    gaps = y.copy()
    gaps[:5] = np.nan
    assert partial_correlation(x, gaps, controls) == partial_correlation(x[5:], y[5:], z[5:])


@pytest.mark.parametrize(
    "arguments",
    [
        ([1, 1, 1, 1, 1], [1, 2, 3, 4, 5]),
        ([1, 2, 3, 4, 5, 6], [1, 2, 3, 4, 5, 7], [[v] for v in (1, 2, 3, 4, 5, 6)]),
        ([1, 2], [2, 1]),
        ([], []),
    ],
    ids=["constant", "a function of the control", "too few", "empty"],
)
def test_undefined_is_nan(arguments):
    assert math.isnan(partial_correlation(*arguments).value)


def test_shapes_that_differ_are_refused():
    with pytest.raises(InputError, match=r"x has shape \(3,\), y \(2,\)"):
        partial_correlation([1, 2, 3], [1, 2])


def test_residuals_are_orthogonal_to_the_controls(data):
    x, _, z = data
    rest = residuals(x, z)
    assert np.column_stack([np.ones(80), z]).T @ rest == pytest.approx(np.zeros(3), abs=1e-9)
