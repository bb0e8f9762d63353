"""A metric that is added in one place is there wherever metrics are computed."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from helpers.benchmarks.toy_benchmark import Guesses, Knows, Toys

from t2v_eval.benchmarks.forms.ratings import RatingsForm
from t2v_eval.errors import InputError
from t2v_eval.evaluation.agreement import agreement
from t2v_eval.evaluation.comparison import differences
from t2v_eval.evaluation.run import evaluate
from t2v_eval.stats.agreement_metrics import METRICS, AgreementMetric, register_metric
from t2v_eval.stats.bootstrap import agreement_statistic


def mean_error(scores: np.ndarray, human: np.ndarray) -> float:
    """The mean distance to the ratings, with its sign turned: higher is better."""
    distance = np.abs(np.asarray(scores, float) - np.asarray(human, float))
    return -float(np.nanmean(distance)) if np.isfinite(distance).any() else math.nan


@pytest.fixture
def added():
    register_metric(AgreementMetric("mean_error", mean_error, "minus the mean distance, up to 0"))
    yield "mean_error"
    del METRICS["mean_error"]


@pytest.mark.parametrize("shape", ["items", "groups", "pooled"])
def test_resamples_compute_it_on_the_copies(added, shape):
    rng = np.random.default_rng(0)
    s, h = rng.normal(size=(2, 20, 3))
    s[0, 1] = h[3, 2] = np.nan
    if shape == "items":
        s, h = s.ravel(), h.ravel()
    statistic = agreement_statistic(s, h, ["tau_b", added], pooled=shape == "pooled")
    for index in (np.arange(len(s)), rng.integers(0, len(s), len(s))):
        assert statistic(index)[added] == pytest.approx(mean_error(s[index], h[index]), abs=1e-12)


@pytest.mark.parametrize("name", METRICS)
def test_values_of_rows_stay_with_their_rows(name):
    nan = math.nan
    s = np.array([[nan, 1.0, nan], [0.1, 0.2, 0.3], [nan, nan, nan], [0.3, 0.2, 0.1]])
    h = np.array([[1.0, 0.0, 1.0], [0.0, 0.0, 1.0], [1.0, 1.0, 1.0], [0.0, 0.0, 1.0]])
    rows = METRICS[name].per_row(s, h)
    alone = [METRICS[name].compute(*row) for row in zip(s, h, strict=True)]
    np.testing.assert_allclose(rows, alone)
    assert np.isnan(rows).tolist() == [True, False, True, False] and rows[1] > rows[3]


def test_tables_have_it_overall_and_within_groups(added):
    rows = [
        {"h": h, "s": s, "prompt": n // 2}
        for n, (h, s) in enumerate(zip((1, 2, 3, 4), (1.5, 2.0, 3.0, 2.0), strict=True))
    ]
    result = agreement(rows, "h", ["s"], group="prompt", resamples=20).scores["s"]["all"]
    assert result[added].value == pytest.approx(-2.5 / 4)
    assert result[f"{added}_per_group"].value == pytest.approx(-(0.25 + 1.0) / 2)
    assert math.isfinite(result[added].low) and result[added].low <= result[added].high <= 0


class RatedToys(RatingsForm):
    """The toy images with a rating of 1 for an image with its own text and 0 for the others."""

    metric_names = ("tau_b", "mean_error")

    def items(self):
        return [replace(item, labels={"human": [1.0, 0.0, 0.0, 1.0]}) for item in Toys().items()]


def test_benchmarks_report_and_compare_it(added):
    knows, guesses = (
        evaluate(scorer, RatedToys(), resamples=50) for scorer in (Knows(), Guesses())
    )
    assert knows.metrics[added].value == pytest.approx(-0.1)
    assert knows.benchmark.meanings[added] == "minus the mean distance, up to 0"
    assert set(knows.by_tag) and all(added in metrics for metrics in knows.by_tag.values())
    (difference,) = differences([knows, guesses])
    # Guesses is wrong on every third item, where each cell is 0.8 further from its rating.
    assert difference.metrics[added].value == pytest.approx(0.8 / 3)
    assert 0 < difference.tests[""][added].p < 0.5


def test_names_are_taken_once(added):
    with pytest.raises(InputError, match="'mean_error' already"):
        register_metric(METRICS[added])
