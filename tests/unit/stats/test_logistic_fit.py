"""Correlation after a logistic fit: curves that are known, a global optimiser, and numpy."""

import math

import numpy as np
import pytest
from scipy import optimize, stats

from t2v_eval.errors import InputError
from t2v_eval.stats.logistic_fit import fit_logistic, plcc_after_fit, rmse_after_fit


def four(x, b1, b2, b3, b4):
    return b2 + (b1 - b2) / (1 + np.exp(-(x - b3) / abs(b4)))


def five(x, b1, b2, b3, b4, b5):
    return b1 * (0.5 - 1 / (1 + np.exp(b2 * (x - b3)))) + b4 * x + b5


@pytest.mark.parametrize(
    ("curve", "parameters"),
    [
        (four, (4.8, 1.2, 0.3, 0.05)),
        (four, (1.2, 4.8, 70.0, 9.0)),  # scores that fall where ratings rise
        (five, (3.0, 9.0, 0.4, 0.5, 2.0)),
        (five, (-3.0, 0.2, 60.0, -0.01, 2.0)),
    ],
)
def test_a_curve_is_found_again(curve, parameters):
    low, high = (0, 1) if abs(parameters[2]) < 1 else (0, 100)
    x = np.random.default_rng(0).uniform(low, high, 80)
    human = curve(x, *parameters)
    count = len(parameters)
    np.testing.assert_allclose(fit_logistic(x, human, count), human, atol=1e-4)
    assert plcc_after_fit(x, human, count) == pytest.approx(1, abs=1e-7)
    assert rmse_after_fit(x, human, count) < 1e-4


@pytest.mark.parametrize(("curve", "parameters"), [(four, 4), (five, 5)])
def test_no_curve_of_a_global_search_is_better(curve, parameters):
    rng = np.random.default_rng(5)
    x = rng.normal(size=60)
    human = np.clip(np.round(3 + 2 * np.tanh(2 * x) + rng.normal(0, 0.7, 60)), 1, 5)

    def error(values):
        return float(np.mean((curve(x, *values) - human) ** 2))

    bounds = [(-8, 8), (-8, 8), (-3, 3), (0.01, 5) if parameters == 4 else (-3, 3), (-8, 8)]
    with np.errstate(over="ignore"):
        best = optimize.differential_evolution(error, bounds[:parameters], rng=1, tol=1e-10).fun
    rmse = rmse_after_fit(x, human, parameters)
    assert rmse <= math.sqrt(best) * (1 + 1e-6)
    fitted = fit_logistic(x, human, parameters)
    assert plcc_after_fit(x, human, parameters) == pytest.approx(
        stats.pearsonr(fitted, human).statistic
    )
    assert plcc_after_fit(x, human, parameters) > stats.pearsonr(x, human).statistic


@pytest.mark.parametrize(
    ("seed", "parameters", "least"),  # the errors that scipy's differential_evolution reaches
    [(24, 4, 0.8527), (28, 4, 0.88649), (90, 4, 1.02967), (60, 5, 0.64469)],
)
def test_the_best_of_several_local_fits_counts(seed, parameters, least):
    rng = np.random.default_rng(seed)
    x = np.round(rng.normal(size=12), 1)
    human = np.round(np.clip(3 + 0.3 * stats.zscore(x) + rng.normal(0, 1, 12), 1, 5))
    assert rmse_after_fit(x, human, parameters) <= least * (1 + 1e-4)


def test_the_scale_of_scores_does_not_matter():
    rng = np.random.default_rng(2)
    x = rng.normal(size=40)
    human = np.tanh(x) + rng.normal(0, 0.3, 40)
    for parameters in (4, 5):
        expected = plcc_after_fit(x, human, parameters)
        assert plcc_after_fit(1e4 * x + 1e6, human, parameters) == pytest.approx(expected, abs=1e-6)
        assert plcc_after_fit(-1e-5 * x, human, parameters) == pytest.approx(expected, abs=1e-6)
        assert rmse_after_fit(x, 10 * human, parameters) == pytest.approx(
            10 * rmse_after_fit(x, human, parameters), rel=1e-6
        )


def test_what_cannot_be_fitted_is_undefined():
    for s, h in (([1, 2, 3, 4], [1, 2, 3, 4]), ([1] * 9, range(9)), (range(9), [1] * 9)):
        assert math.isnan(plcc_after_fit(list(s), list(h)))
        assert math.isnan(rmse_after_fit(list(s), list(h)))
    fitted = fit_logistic([0.1, 0.2, None, 0.4, 0.5, 0.9], [1, 2, 3, 3, 4, 5])
    assert np.isnan(fitted).tolist() == [False, False, True, False, False, False]
    with pytest.raises(InputError, match="`parameters=3`"):
        fit_logistic([0.1], [1], 3)
