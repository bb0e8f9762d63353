"""Ranks with intervals: by their definition, pair by pair."""

import numpy as np
import pytest

from t2v_eval.stats.ratings.ranks import rank_intervals


def by_definition(ratings, resampled, k):
    """The rank interval of a model, with a loop over the others."""
    others = [j for j in range(len(ratings)) if j != k]
    gaps = {j: ratings[k] - ratings[j] for j in others}
    draws = {j: resampled[:, k] - resampled[:, j] - gaps[j] for j in others}
    errors = {j: draws[j].std(ddof=1) for j in others}
    largest = [max(abs(draws[j][b]) / errors[j] for j in others) for b in range(len(resampled))]
    critical = max(np.quantile(largest, 0.95), 1.959963984540054)
    better = sum(gaps[j] < -critical * errors[j] for j in others)
    worse = sum(gaps[j] > critical * errors[j] for j in others)
    return 1 + better, len(ratings) - worse


@pytest.mark.parametrize("seed", range(4))
def test_ranks_are_those_that_no_test_of_all_pairs_rules_out(seed):
    rng = np.random.default_rng(seed)
    ratings = rng.normal(0, 2, 6)
    resampled = ratings + rng.normal(0, 0.5, (300, 6))
    for k, rank in enumerate(rank_intervals(ratings, resampled)):
        assert (rank.low, rank.high) == by_definition(ratings, resampled, k)
        assert rank.value == sorted(ratings, reverse=True).index(ratings[k]) + 1
        assert rank.low <= rank.value <= rank.high


def test_equal_ratings_share_a_rank():
    ratings = np.array([5.0, 0, 0])
    resampled = ratings + np.random.default_rng(0).normal(size=(100, 3))
    ranks = rank_intervals(ratings, resampled)
    assert [tuple(rank) for rank in ranks] == [(1, 1, 1), (2, 2, 3), (2, 2, 3)]


def test_ratings_that_differ_by_rounding_share_a_rank():
    ratings = np.array([1032.0, 1032.0 * (1 + 4e-16), 936.0])
    resampled = ratings + np.random.default_rng(0).normal(0, 90, (400, 3))
    assert [interval.value for interval in rank_intervals(ratings, resampled)] == [1, 1, 3]


def test_resamples_without_ratings_do_not_count_and_most_may_not_lack_them():
    ratings = np.array([1.0, 0.0])
    resampled = ratings + np.random.default_rng(0).normal(0, 0.1, (100, 2))
    some, most = resampled.copy(), resampled.copy()
    some[:40], most[:60] = np.nan, np.nan
    assert rank_intervals(ratings, some) == rank_intervals(ratings, some[40:])
    assert all(np.isnan(rank.low) and rank.value > 0 for rank in rank_intervals(ratings, most))
    unknown = rank_intervals(np.array([np.nan, np.nan]), resampled)
    assert all(np.isnan(rank.value) for rank in unknown)


def test_a_difference_that_never_varies_rules_out_no_rank_unless_its_error_is_known():
    ratings = np.array([1.0, 0.5, 0.0])
    same = np.tile(ratings, (20, 1))
    assert {(rank.low, rank.high) for rank in rank_intervals(ratings, same)} == {(1, 3)}
    ranks = rank_intervals(ratings, same, least=np.full((3, 3), 0.4))
    # 1.96 x 0.4 is between the gaps of 0.5 and of 1.
    assert [(rank.low, rank.high) for rank in ranks] == [(1, 2), (1, 3), (2, 3)]
