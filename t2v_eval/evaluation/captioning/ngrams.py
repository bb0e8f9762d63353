"""BLEU, ROUGE-L and CIDEr of captions, as pycocoevalcap computes them.

Papineni et al. 2002 (BLEU), Lin 2004 (ROUGE-L, beta 1.2), Vedantam et al. 2015 (CIDEr; the package
computes CIDEr-D with sigma 6, section 4.2, and multiplies by 10).
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from t2v_eval.errors import ScoringError
from t2v_eval.evaluation.captioning.measured import Measured
from t2v_eval.evaluation.captioning.tokens import TokenisedCaptions
from t2v_eval.utils.arrays import FloatArray

ORDERS = 4  # of n-grams
# What pycocoevalcap adds to the counts of a precision, so that BLEU without matches is not 0 / 0.
_TINY, _SMALL = 1e-15, 1e-9


def bleu(captions: TokenisedCaptions) -> dict[str, Measured]:
    """Return BLEU-1 to BLEU-4, from 0 to 1.

    The value of a set sums the counts of n-grams and the lengths of its captions, so it is not the
    mean of theirs. The length of a caption is compared with that of its closest reference.

    Args:
        captions: the words of the captions.

    >>> captions = TokenisedCaptions(["a red cat"], [["a red dog"]])
    >>> round(float(bleu(captions)["BLEU-1"].each[0]), 3)  # doctest: +SKIP
    0.667
    """
    from pycocoevalcap.bleu.bleu_scorer import BleuScorer

    scorer: Any = BleuScorer(n=ORDERS)
    for candidate, references in zip(captions.candidates, captions.references, strict=True):
        scorer += (candidate, references)
    each = np.array(scorer.compute_score(option="closest", verbose=0)[1])
    counts = np.array(
        [(*row["correct"], *row["guess"], row["testlen"], _closest(row)) for row in scorer.ctest],
        dtype=float,
    )
    return {f"BLEU-{n}": _of_order(n, each[n - 1], counts) for n in range(1, ORDERS + 1)}


def _of_order(order: int, each: FloatArray, counts: FloatArray) -> Measured:
    """Return BLEU of an order, whose value of a set comes from summed counts."""
    return Measured(each, lambda indices: _bleu(counts[indices].sum(axis=0), order))


def _closest(counts: dict[str, Any]) -> int:
    """Return the reference length closest to the caption's; the shorter of two as close."""
    lengths: list[int] = counts["reflen"]
    return min(lengths, key=lambda n: (abs(n - counts["testlen"]), n))


def _bleu(counts: FloatArray, order: int) -> float:
    """Return BLEU of summed counts: correct, all n-grams of each order, length, closest length."""
    correct, guessed = counts[:order], counts[ORDERS : ORDERS + order]
    precision = math.pow(float(np.prod((correct + _TINY) / (guessed + _SMALL))), 1 / order)
    ratio = (counts[-2] + _TINY) / (counts[-1] + _SMALL)
    return precision * math.exp(min(0.0, 1 - 1 / float(ratio)))


def rouge_l(captions: TokenisedCaptions) -> dict[str, Measured]:
    """Return ROUGE-L, from 0 to 1; the value of a set is the mean.

    Args:
        captions: the words of the captions.

    >>> captions = TokenisedCaptions(["a red cat"], [["a red dog"]])
    >>> round(float(rouge_l(captions)["ROUGE-L"].each[0]), 3)  # doctest: +SKIP
    0.667
    """
    from pycocoevalcap.rouge.rouge import Rouge

    return {"ROUGE-L": Measured.mean(np.array(Rouge().compute_score(*captions.by_index())[1]))}


def cider(captions: TokenisedCaptions) -> dict[str, Measured]:
    """Return CIDEr(-D), from 0 to 10; the value of a set is the mean.

    The weight of an n-gram falls with the number of images whose references have it, so the value
    of a caption depends on all references. Resamples keep these weights: a copy of an image would
    make its n-grams look common.

    Args:
        captions: the words of the captions.

    Raises:
        ScoringError: fewer than two images, whose n-grams all have the weight 0, or references
            without a word.

    >>> captions = TokenisedCaptions(["a cat", "one dog"], [["a cat"], ["two dogs"]])
    >>> cider(captions)["CIDEr"].each  # doctest: +SKIP
    array([5., 0.])
    """
    from pycocoevalcap.cider.cider import Cider

    if len(captions.candidates) < 2:
        raise ScoringError("it weighs words by the number of images that have them; pass 2 or more")
    if not any(reference for listed in captions.references for reference in listed):
        raise ScoringError("no reference has a word")
    return {"CIDEr": Measured.mean(np.array(Cider().compute_score(*captions.by_index())[1]))}
