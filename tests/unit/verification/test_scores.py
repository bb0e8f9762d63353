"""Checks of scores that need no known answer."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from helpers.toy import ToyEmbedding, ToyPair

from t2v_eval.cards import ModelCard
from t2v_eval.errors import ScoringError
from t2v_eval.verification import scores
from t2v_eval.verification.results import Outcome


class DependsOnItsBatch(ToyPair):
    """As a network does whose padding is not masked."""

    def score(self, states, texts):
        return super().score(states, texts) + 0.01 * len(texts)


def test_the_p_value_counts_orders_as_good_as_the_true_one():
    """Against a loop over all 720 orders."""
    rng = np.random.default_rng(0)
    for _ in range(5):
        matrix = rng.normal(size=(6, 6)).round(1)
        matching = sum(matrix[i, i] for i in range(6))
        sums = [
            sum(matrix[i, j] for i, j in enumerate(order))
            for order in itertools.permutations(range(6))
        ]
        expected = np.mean([total >= matching - 1e-9 for total in sums])
        assert scores.matching_p(matrix) == pytest.approx(expected, abs=1e-12)


def test_random_scores_pass_as_rarely_as_the_level_says():
    rng = np.random.default_rng(1)
    passed = [scores.matching_p(rng.normal(size=(6, 6))) <= scores.LEVEL for _ in range(300)]
    assert 0.02 < np.mean(passed) < 0.09  # 0.05, with three standard errors


def test_constant_scores_do_not_pass_and_one_confusion_does():
    assert scores.matching_p(np.full((6, 6), 0.3)) == 1.0
    confused = np.eye(6)
    confused[0, 1] = 2.0  # text 1 is taken for that of image 0 as well
    assert scores.check_matching(confused, published=True, uses_text=True).outcome is Outcome.passed
    random = np.eye(6)[::-1]
    assert scores.check_matching(random, published=True, uses_text=True).outcome is Outcome.failed
    unjudged = scores.check_matching(random, published=False, uses_text=True)
    assert unjudged.outcome is Outcome.unchecked and "`published=True`" in unjudged.text


def test_drawn_images_have_texts_of_their_own():
    pairs = scores.draw_pairs()
    assert len(set(pairs.texts)) == len({image.tobytes() for image in pairs.images}) == 6


@pytest.mark.parametrize(("kind", "outcome"), [(ToyPair, "passed"), (DependsOnItsBatch, "failed")])
def test_a_pair_alone_scores_as_in_a_block(kind, outcome):
    scorer = kind(card=ModelCard("toy", "Toy", "toy"), device="cpu")
    block, alone = (
        f(scorer, scores.draw_pairs()) for f in (scores.score_block, scores.score_alone)
    )
    block = block[: scores.ALONE, : scores.ALONE]
    allowed = scores.tolerance_of(torch.float32, block)
    check = scores.check_equal("plain path", block, alone, allowed, "alone")
    assert check.outcome.value == outcome
    # The first 32 of the 36 pairs are a batch.
    assert check.value == pytest.approx(0.31 if outcome == "failed" else 0, abs=1e-5)


def test_alone_is_without_what_a_cache_holds():
    scorer = ToyEmbedding(card=ModelCard("toy", "Toy", "toy"), device="cpu")
    scores.score_alone(scorer, scores.draw_pairs())
    assert scorer.image_calls == [1] * scores.ALONE**2


def test_time_is_measured_and_a_failure_is_an_error():
    scorer = ToyPair(card=ModelCard("toy", "Toy", "toy"), device="cpu")
    assert scores.check_time(scorer, scores.draw_pairs()).value > 0
    scorer.fits = 0
    with pytest.raises(ScoringError, match="memory"):
        scores.check_time(scorer, scores.draw_pairs())


def test_half_precision_may_differ_more():
    matrix = np.array([[20.0, -30.0]])
    assert scores.tolerance_of(torch.bfloat16, matrix) == pytest.approx(1.5)
    assert scores.tolerance_of(torch.float32, matrix) == pytest.approx(0.03)
