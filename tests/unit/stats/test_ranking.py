"""Choices among images of one text, counted one by one."""

import itertools
import math

import numpy as np
import pytest

from t2v_eval.errors import InputError
from t2v_eval.stats import metrics, ranking

SCORES = [[0.9, 0.5, 0.1, 0.4], [0.3, 0.3, 0.2, 0.1], [0.1, 0.2, 0.3, 0.4]]
HUMAN = [[5, 3, 1, 1], [2, 4, 4, 1], [3, 3, 3, 3]]


def test_preferences_by_the_published_table():
    # Rows: what people say; columns: what the scores say: first, tie, second.
    table = {1: (1, 0.5, 0), 0.5: (0.5, 1, 0.5), 0: (0, 0.5, 1)}
    scores = [[2, 1], [1, 1], [1, 2]]
    for human, expected in table.items():
        assert ranking.preference_rows(scores, [human] * 3).tolist() == list(expected)
        # What is no further apart than the threshold is a tie.
        assert ranking.preference_rows(scores, [human] * 3, 1.0).tolist() == [expected[1]] * 3
    assert ranking.preference_accuracy(scores, [1, 1, None]) == 0.75
    assert math.isnan(ranking.preference_accuracy([[1, None]], [1]))
    assert math.isnan(ranking.preference_accuracy([], []))


def test_they_are_metrics_too():
    for name in ("preference_accuracy", "ranking_accuracy", "best_of", "top_rows"):
        assert getattr(metrics, name) is getattr(ranking, name)


def test_always_saying_tie_or_one_side_is_the_published_chance():
    human = [1] * 60 + [0] * 25 + [0.5] * 15
    assert ranking.preference_accuracy([[0, 0]] * 100, human) == pytest.approx(0.5 + 0.15 / 2)
    assert ranking.preference_accuracy([[1, 0]] * 100, human) == pytest.approx(0.60 + 0.15 / 2)


def test_best_above_worst_by_hand():
    # Text 0: 0.9 is above both 0.1 and 0.4. Text 1: best 0.3 and 0.2, worst 0.1. Text 2: no best.
    np.testing.assert_array_equal(ranking.ranking_rows(SCORES, HUMAN), [1, 1, np.nan])
    assert ranking.ranking_rows([[1, 1, 2]], [[2, 2, 1]]).tolist() == [0]
    assert ranking.ranking_rows([[3, 1, 2]], [[2, 2, 1]]).tolist() == [0.5]
    assert ranking.ranking_rows([[1, 1]], [[2, 1]]).tolist() == [0], "equal scores are wrong"


def test_the_best_is_on_top_by_hand():
    scores = [[0.9, 0.5], [0.9, 0.9], [0.1, 0.2], [0.7, 0.7]]
    human = [[2, 1], [2, 1], [2, 1], [3, 3]]
    np.testing.assert_array_equal(ranking.top_rows(scores, human), [1, 0.5, 0, np.nan])


def test_scores_that_are_the_judgements_are_always_right():
    rng = np.random.default_rng(0)
    human = rng.integers(1, 4, (50, 9)).astype(float)
    human[::4] = 2  # in every fourth text all images are rated alike
    assert ranking.ranking_accuracy(human, human) == 1
    assert np.nanmin(ranking.top_rows(human, human)) == 1
    assert ranking.best_of(human, human) == pytest.approx(human.max(axis=1).mean())


def test_best_of_by_hand():
    np.testing.assert_allclose(ranking.best_of_rows(SCORES, HUMAN), [5, 3, 3])
    # Sets of two: (5 | 1), ((2 + 4) / 2 | 4), (3 | 3).
    np.testing.assert_allclose(ranking.best_of_rows(SCORES, HUMAN, 2), [3, 3.5, 3])
    assert ranking.best_of(SCORES, HUMAN, 1) == pytest.approx(np.mean(HUMAN))
    with pytest.raises(InputError, match="`n=3` does not divide the 4 images"):
        ranking.best_of(SCORES, HUMAN, 3)


def test_chance_is_the_mean_over_orders():
    human = [5.0, 3.0, 1.0]
    orders = list(itertools.permutations((1.0, 2.0, 3.0)))
    assert ranking.best_of(orders, [human] * 6) == pytest.approx(3)
    assert ranking.ranking_accuracy(orders, [human] * 6) == 0.5
    assert ranking.top_rows(orders, [human] * 6).mean() == pytest.approx(1 / 3)


def test_missing_images_are_left_out():
    assert ranking.best_of_rows([[0.9, None, 0.1]], [[1, 5, 3]]).tolist() == [1]
    assert math.isnan(ranking.best_of([[None, None]], [[1, 2]]))
    assert ranking.ranking_rows([[0.9, 0.5]], [[None, 2]]).tolist() == pytest.approx(
        [math.nan], nan_ok=True
    )


@pytest.mark.parametrize(
    ("scores", "human", "options", "message"),
    [
        ([[1, 2, 3]], [1], {}, r"\(n, 2\) and \(n,\)"),
        ([[1, 2]], [1, 0], {}, r"\(n, 2\) and \(n,\)"),
        ([[1, 2]], [0.7], {}, "human holds 0.7"),
        ([[1, 2]], [1], {"threshold": -1}, "from 0 on"),
        ([[1, 2]], [1], {"threshold": math.nan}, "from 0 on"),
    ],
)
def test_bad_preferences_are_refused(scores, human, options, message):
    with pytest.raises(InputError, match=message):
        ranking.preference_accuracy(scores, human, **options)
