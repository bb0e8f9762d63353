"""Raters: against the worked example of Krippendorff 2011, pairs counted one by one, and scipy."""

import itertools
import math

import numpy as np
import pytest
from scipy import stats

from t2v_eval.errors import InputError
from t2v_eval.stats.metrics import spearman
from t2v_eval.stats.raters import human_ceiling, krippendorff_alpha, mean_ratings, means_of_others

NAN = math.nan
# Four observers, twelve units: Krippendorff 2011, section C.
PUBLISHED = np.array(
    [
        [1, 2, 3, 3, 2, 1, 4, 1, 2, NAN, NAN, NAN],
        [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, NAN, 3],
        [NAN, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, NAN],
        [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, NAN],
    ]
).T


@pytest.mark.parametrize(
    ("level", "alpha"), [("nominal", 0.743), ("ordinal", 0.815), ("interval", 0.849)]
)
def test_alpha_of_the_published_example(level, alpha):
    assert krippendorff_alpha(PUBLISHED, level) == pytest.approx(alpha, abs=5e-4)


def by_pairs(ratings, distance):
    """Alpha by its definition: all pairs of values of an item, against all pairs of values."""
    items = [[v for v in row if not math.isnan(v)] for row in ratings.tolist()]
    items = [row for row in items if len(row) > 1]
    values = [v for row in items for v in row]
    n = len(values)
    observed = sum(
        distance(a, b, values) / (len(row) - 1)
        for row in items
        for a, b in itertools.permutations(row, 2)
    )
    expected = sum(distance(a, b, values) for a, b in itertools.permutations(values, 2))
    return 1 - observed / n / (expected / (n * (n - 1)))


def ordinal(a, b, values):
    low, high = min(a, b), max(a, b)
    between = sum(low <= v <= high for v in values)
    return 0 if a == b else (between - (values.count(a) + values.count(b)) / 2) ** 2


DISTANCES = {
    "nominal": lambda a, b, _: a != b,
    "ordinal": ordinal,
    "interval": lambda a, b, _: (a - b) ** 2,
}


@pytest.mark.parametrize("level", DISTANCES)
def test_alpha_counted_pair_by_pair(level):
    rng = np.random.default_rng(3)
    for _ in range(20):
        ratings = rng.integers(1, 5, (8, 4)).astype(float)
        ratings[rng.random(ratings.shape) < 0.3] = NAN
        copies = rng.integers(0, 3, 8)
        resample = np.repeat(ratings, copies, axis=0)
        expected = by_pairs(resample, DISTANCES[level])
        assert krippendorff_alpha(resample, level) == pytest.approx(expected)
        weighted = krippendorff_alpha(ratings, level, copies.astype(float))
        assert weighted == pytest.approx(expected)


def test_alpha_is_undefined_without_different_ratings():
    for ratings in ([[2, 2], [2, 2]], [[1, NAN], [NAN, 2]], np.empty((0, 2))):
        assert math.isnan(krippendorff_alpha(np.array(ratings)))
    with pytest.raises(InputError, match="`level='ratio'`: use one of 'nominal'"):
        krippendorff_alpha(PUBLISHED, "ratio")


def test_the_ceiling_is_one_rater_against_the_others():
    rated = PUBLISHED[np.isnan(PUBLISHED).sum(axis=1) < 3]  # the last item has one rating
    values = []
    for k in range(4):
        others = np.nanmean(np.delete(rated, k, axis=1), axis=1)
        known = ~np.isnan(rated[:, k])
        values.append(stats.spearmanr(rated[known, k], others[known]).statistic)
    assert human_ceiling(spearman, PUBLISHED) == pytest.approx(np.mean(values))
    z = np.tanh(np.mean(np.arctanh(values)))
    assert human_ceiling(spearman, PUBLISHED, "fisher-z") == pytest.approx(z)


def test_means_do_not_depend_on_the_order_of_raters():
    rng = np.random.default_rng(0)
    ratings = rng.normal(size=(200, 7)) * 10.0 ** rng.integers(-9, 9, (200, 7))
    ratings[rng.random(ratings.shape) < 0.2] = NAN
    expected = mean_ratings(ratings)
    for _ in range(5):
        order = rng.permutation(7)
        np.testing.assert_array_equal(mean_ratings(ratings[:, order]), expected)
    assert np.isnan(means_of_others(np.array([[1.0, NAN]]))[0]).tolist() == [True, False]
