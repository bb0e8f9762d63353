"""Checks of scores that need no known answer: of drawn images with texts that do and do not match.

A matching text must score above others. With six images and their six texts, that is tested by all
720 ways to match them: random weights pass in one of twenty cases, trained ones in all.
"""

from __future__ import annotations

import itertools
import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from t2v_eval.errors import T2VWarning
from t2v_eval.evaluation.options import BenchmarkOptions
from t2v_eval.local.base import LocalScorer
from t2v_eval.registry import benchmarks
from t2v_eval.scoring.plan import Block
from t2v_eval.verification.results import Check, Outcome

PAIRS = 6  # images, each with its text
ALONE = 3  # of which the pairs are scored alone
LEVEL = 0.05
MATCHING, PLAIN, PRECISION, TIME = "matching text", "plain path", "precision", "time of a pair"
REFERENCE = "a drawing"  # of every image, for scorers that need references

Matrix = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Pairs:
    """Images and their texts: text i is of image i.

    >>> len(draw_pairs().texts)
    6
    """

    images: Sequence[Any]
    texts: Sequence[str]


@lru_cache(maxsize=1)
def draw_pairs() -> Pairs:
    """Return drawn images and their texts: the first of each item of the demo's benchmark.

    >>> draw_pairs().images[0].size
    (48, 48)
    """
    card = next(card for card in benchmarks.cards.values() if card.demo)
    items = BenchmarkOptions().open(card).items()[:PAIRS]
    return Pairs([item.images[0] for item in items], [item.texts[0] for item in items])


def score_block(scorer: LocalScorer, pairs: Pairs) -> Matrix:
    """Score all images with all texts, in one call.

    Returns:
        (K, K) scores of K images and their K texts.

    Raises:
        T2VError: as the scorer raises.

    >>> import t2v_eval
    >>> score_block(t2v_eval.load("tiny-clip", device="cpu"), draw_pairs()).shape
    (6, 6)
    """
    return _run(scorer, [_block(scorer, pairs.images, pairs.texts)])[0]


def score_alone(scorer: LocalScorer, pairs: Pairs) -> Matrix:
    """Score the first images with their texts, each pair in a call of its own without a cache.

    Returns:
        (L, L) scores, L of `ALONE`.

    Raises:
        T2VError: as the scorer raises.

    >>> import t2v_eval
    >>> score_alone(t2v_eval.load("tiny-clip", device="cpu"), draw_pairs()).shape
    (3, 3)
    """
    scores = np.zeros((ALONE, ALONE))
    for i, j in np.ndindex(ALONE, ALONE):
        scorer.limit_cache(0)
        scores[i, j] = _run(scorer, [_block(scorer, [pairs.images[i]], [pairs.texts[j]])])[0][0, 0]
    return scores


def _block(scorer: LocalScorer, images: Sequence[Any], texts: Sequence[str]) -> Block:
    references = [[REFERENCE]] * len(images) if scorer.uses_references else None
    return Block.of(images, texts, references)


def _run(scorer: LocalScorer, blocks: Sequence[Block]) -> list[Matrix]:
    with quiet():
        return [scores.numpy().astype(np.float64) for scores in scorer.run(blocks, progress=False)]


@contextmanager
def quiet() -> Iterator[None]:
    """Leave out warnings about images and texts that are too unlike those of a model.

    >>> with quiet():
    ...     warnings.warn("an image of another size", T2VWarning)
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", T2VWarning)
        yield


def matching_p(scores: Matrix) -> float:
    """Return the share of all ways to match texts with images that score as high as the true one.

    Args:
        scores: (K, K) scores; text i is of image i.

    Returns:
        The one-sided p-value of the permutation test on the sum of matching scores, 1 / K! to 1.

    >>> round(matching_p(np.eye(4)), 4)  # 1 of 24
    0.0417
    """
    n = len(scores)
    orders = np.array(list(itertools.permutations(range(n))))
    sums = scores[np.arange(n), orders].sum(axis=1)
    return float((sums >= sums[0] - 1e-12 * max(1.0, abs(sums[0]))).mean())


def check_matching(scores: Matrix, published: bool, uses_text: bool) -> Check:
    """Check that matching texts score above those of other images.

    Args:
        scores: (K, K) scores; text i is of image i.
        published: whether the weights are the published ones; random weights match nothing.
        uses_text: whether the text has an influence.

    >>> check_matching(np.eye(6), published=True, uses_text=True).outcome.value
    'passed'
    """
    if not uses_text:
        return Check.without(MATCHING, "the scorer rates images without a text")
    matching, p = float(np.trace(scores)) / len(scores), matching_p(scores)
    others = float(scores.sum() - np.trace(scores)) / (scores.size - len(scores))
    text = (
        f"matching texts score {matching:.4g} on average, texts of other images {others:.4g} "
        f"(p = {p:.2g} if texts were assigned at random)"
    )
    check = Check.of(MATCHING, p <= LEVEL, text, p)
    return check if published else unjudged(check)


def unjudged(check: Check) -> Check:
    """Return a check with its figure and without a verdict, as random weights have none.

    >>> unjudged(Check.of("precision", False, "differ by 0.3", 0.3)).text
    'differ by 0.3: judged for published weights alone, or with `published=True`'
    """
    text = f"{check.text}: judged for published weights alone, or with `published=True`"
    return Check(check.name, Outcome.unchecked, text, check.value)


def tolerance_of(dtype: torch.dtype, scores: Matrix) -> float:
    """Return by how much two computations of scores may differ.

    Half precision has 8 or 11 significant bits, and a network of many layers loses some of them.

    >>> score = np.array([[0.5]])
    >>> tolerance_of(torch.float32, score), tolerance_of(torch.bfloat16, score)
    (0.001, 0.025)
    """
    largest = float(np.abs(scores).max())
    if dtype in (torch.float32, torch.float64):
        return 1e-3 * max(1.0, largest)
    return max(0.02, 0.05 * largest)


def check_equal(name: str, scores: Matrix, others: Matrix, tolerance: float, what: str) -> Check:
    """Check that two computations of the same scores agree.

    Args:
        name: the name of the check.
        scores: (M, N) scores.
        others: (M, N) scores of the other computation.
        tolerance: the largest difference that is allowed.
        what: the other computation, for the sentence.

    >>> check_equal("plain path", np.ones((1, 1)), np.ones((1, 1)), 1e-3, "alone").text
    'scores differ by at most 0 from those alone (allowed: 0.001)'
    """
    apart = float(np.abs(scores - others).max())
    text = f"scores differ by at most {apart:.2g} from those {what} (allowed: {tolerance:.2g})"
    return Check.of(name, apart <= tolerance, text, apart)


def check_time(scorer: LocalScorer, pairs: Pairs) -> Check:
    """Measure the seconds that a pair takes, alone and in a block; the caller has run it before.

    Raises:
        T2VError: as the scorer raises.

    >>> import t2v_eval
    >>> check_time(t2v_eval.load("tiny-clip", device="cpu"), draw_pairs()).outcome.value
    'measured'
    """
    scorer.limit_cache(0)
    start = time.perf_counter()
    _run(scorer, [_block(scorer, pairs.images[:1], pairs.texts[:1])])
    alone = time.perf_counter() - start
    scorer.limit_cache(0)
    start = time.perf_counter()
    score_block(scorer, pairs)
    together = (time.perf_counter() - start) / PAIRS**2
    text = f"{alone:.3g} s alone, {together:.3g} s in a block of {PAIRS**2} on {scorer.device}"
    return Check(TIME, Outcome.measured, text, alone)
