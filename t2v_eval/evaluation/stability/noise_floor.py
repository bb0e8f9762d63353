"""The noise floor of a scorer: how much its scores change when they are computed again.

The batch in which a pair is computed, its order and its padding change the last digits of a score,
and on some hardware more than that. A difference between scores that is no larger shows nothing.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from t2v_eval.errors import T2VError, T2VWarning
from t2v_eval.evaluation.benchmark import Item, Scores
from t2v_eval.local.base import LocalScorer
from t2v_eval.remote.scorer import ApiScorer
from t2v_eval.scoring.plan import Block
from t2v_eval.scoring.scorer import Scorer

CELLS = 32
"""How many cells are scored again."""


@dataclass(frozen=True, slots=True)
class NoiseFloor:
    """Differences between the scores of a run and those of the same cells, computed again.

    Attributes:
        cells: the number of cells that were scored again.
        max, mean: of the absolute differences, on the scale of the scores; NaN without cells.
        reason: why it was not measured; empty if it was.

    >>> NoiseFloor(cells=32, max=2e-7, mean=5e-8).describe()
    'at most 2e-07, 5e-08 on average, of 32 cells that were scored again in another order'
    """

    cells: int = 0
    max: float = math.nan
    mean: float = math.nan
    reason: str = ""

    def describe(self) -> str:
        """Return it in words.

        >>> NoiseFloor(reason="a service is not asked twice").describe()
        'not measured: a service is not asked twice'
        """
        if self.reason:
            return f"not measured: {self.reason}"
        return (
            f"at most {self.max:.2g}, {self.mean:.2g} on average, of {self.cells} cells that were "
            "scored again in another order"
        )


def measure(
    scorer: Scorer,
    items: Sequence[Item | Block],
    scores: Scores,
    *,
    cells: int = CELLS,
    seed: int = 0,
) -> NoiseFloor:
    """Score some cells again, in a random order and without what a store or a cache holds.

    Args:
        scorer: the scorer, with the templates of the run.
        items: the items of the run, or what the scorer was asked about them.
        scores: their scores, (M, N) for each item; NaN is missing and is not computed again.
        cells: how many cells are scored again; fewer if there are not so many.
        seed: the random seed of their choice and order.

    Returns:
        The differences, or the reason why there are none.

    >>> import t2v_eval
    >>> from t2v_eval.evaluation.options import open_benchmark
    >>> scorer = t2v_eval.load("tiny-clip", device="cpu")
    >>> items = open_benchmark("scenes", n=2).items()
    >>> scores = [scorer(item.images, item.texts).numpy() for item in items]
    >>> noise = measure(scorer, items, scores)
    >>> noise.cells, noise.max < 1e-5
    (8, True)
    """
    if isinstance(scorer, ApiScorer):
        return NoiseFloor(reason="a service is not asked twice")
    if not isinstance(scorer, LocalScorer):
        return NoiseFloor(reason=f"a {type(scorer).__name__} may not run on this machine")
    chosen = _choose(scores, cells, seed)
    if not chosen:
        return NoiseFloor(reason="there are no scores")
    blocks = [
        Block(
            [items[n].images[i]],
            [items[n].texts[j]],
            None if (references := items[n].references) is None else [references[i]],
        )
        for n, i, j in chosen
    ]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", T2VWarning)  # the run has given them
            again = scorer.computing_anew().evaluate_blocks(blocks, progress=False).scores
    except T2VError as error:
        return NoiseFloor(reason=f"scoring again failed: {error}")
    apart = np.array(
        [
            abs(float(other[0, 0]) - float(scores[n][i, j]))
            for (n, i, j), other in zip(chosen, again, strict=True)
        ]
    )
    apart = apart[~np.isnan(apart)]
    if not len(apart):
        return NoiseFloor(reason="scoring again failed")
    return NoiseFloor(len(apart), float(apart.max()), float(apart.mean()))


def _choose(scores: Scores, cells: int, seed: int) -> list[tuple[int, int, int]]:
    """Return random cells (item, image, text) that have a score, in random order."""
    ends = np.cumsum([item.size for item in scores], dtype=np.int64)
    chosen: list[tuple[int, int, int]] = []
    random, total = np.random.default_rng(seed), int(ends[-1])
    # More than are needed, since some may lack a score; of millions, not all are permuted.
    for number in random.choice(total, min(total, 8 * cells), replace=False).tolist():
        n = int(np.searchsorted(ends, number, side="right"))
        i, j = divmod(number - int(ends[n]) + scores[n].size, scores[n].shape[1])
        if not math.isnan(scores[n][i, j]):
            chosen.append((n, i, j))
        if len(chosen) == cells:
            break
    return chosen
