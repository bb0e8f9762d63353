"""Benchmarks with human ratings of cells (image, text): on a scale, or labels 1 and 0.

`labels["human"]` of an item holds one value per cell, image by image; None is missing. It may hold
a list of several raters' values per cell, equally many for each: then each rating is an observation
with the cell's score, where published figures do not average ratings.

All cells of the selected items form one sample (no grouping); items are resampled, since the images
of one prompt are not independent of each other.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

import numpy as np
from typing_extensions import override

from t2v_eval.errors import InputError
from t2v_eval.evaluation.benchmark import Benchmark, Item, Items, Scores
from t2v_eval.stats.agreement_metrics import METRICS
from t2v_eval.stats.bootstrap import Statistic, agreement_statistic
from t2v_eval.stats.metrics import FloatArray, as_floats
from t2v_eval.stats.paired import paired_agreement_statistic
from t2v_eval.utils.arrays import CellArrays


class RatingsForm(Benchmark):
    """Agreement of scores with ratings: acc23, Pearson, Spearman and both of Kendall's tau.

    A subclass may name other metrics of `stats.agreement_metrics.METRICS`; the headline is the
    first.

    >>> import numpy as np
    >>> from t2v_eval.evaluation.benchmark import Item
    >>> class Mine(RatingsForm):
    ...     def items(self):
    ...         return [Item([f"{n}.png"], ["a cat"], {"human": [n]}) for n in range(4)]
    >>> mine = Mine()
    >>> scores = [np.array([[n / 10]]) for n in range(4)]
    >>> round(mine.metrics(mine.items(), scores)["spearman"], 6)
    1.0
    """

    metric_names: ClassVar[tuple[str, ...]] = ("acc23", "pearson", "spearman", "tau_b", "tau_c")
    chance: ClassVar[Mapping[str, float]] = {}
    pooled = True
    meanings: ClassVar[Mapping[str, str]] = {
        **{name: metric.meaning for name, metric in METRICS.items()},
        "mean_auroc": "the mean of AUROC (how often a matching pair scores above one that does not "
        "match) over the parts of the benchmark, 0 to 1, guessing 0.5",
    }

    @override
    def metrics(self, items: Sequence[Item], scores: Scores) -> Mapping[str, float]:
        return self.statistic(items, scores)(np.arange(len(items)))

    @override
    def statistic(self, items: Sequence[Item], scores: Scores) -> Statistic:
        if not items:
            return agreement_statistic([], [], self.metric_names)
        s, h = _observations(items, scores)
        return agreement_statistic(s, h, self.metric_names, pooled=True)

    @override
    def paired_statistic(self, items: Sequence[Item], first: Scores, second: Scores) -> Statistic:
        (s, h), (t, _) = (
            _observations(items, self.rated_scores(items, side)) for side in (first, second)
        )
        return paired_agreement_statistic(s, t, h, self.metric_names, pooled=True)


class LabelsForm(RatingsForm):
    """Labels 1 (image and text match) and 0: area under the ROC curve, average precision.

    >>> import numpy as np
    >>> from t2v_eval.evaluation.benchmark import Item
    >>> class Mine(LabelsForm):
    ...     def items(self):
    ...         return [Item([f"{n}.png"], ["a cat"], {"human": [n % 2]}) for n in range(4)]
    >>> mine = Mine()
    >>> scores = [np.array([[n % 2 / 2]]) for n in range(4)]
    >>> mine.metrics(mine.items(), scores)["auroc"]
    1.0
    """

    metric_names = ("auroc", "average_precision")
    chance: ClassVar[Mapping[str, float]] = {"auroc": 0.5}


def _observations(items: Sequence[Item], scores: Scores) -> tuple[FloatArray, FloatArray]:
    """Return the score and the rating of each observation, a row for each item, padded with NaN."""
    arrays = CellArrays.of(scores)
    ratings = Items.of(items).once(_single_ratings)
    if ratings is not None and arrays.shapes is None:
        return as_floats("scores", arrays.cells)[:, None], ratings
    cells, human = [], []
    for item, item_scores in zip(items, scores, strict=True):
        values = as_floats("scores", item_scores).ravel()
        rated = as_floats("labels['human']", item.labels["human"])
        if len(values) != len(rated):
            raise InputError(f"item {item.id!r} has {len(values)} cells and {len(rated)} ratings")
        cells.append(np.repeat(values, rated.size // max(1, len(rated))))
        human.append(rated.ravel())
    width = max(map(len, cells), default=1)
    s, h = (
        np.array([np.append(v, np.full(width - len(v), np.nan)) for v in side])
        for side in (cells, human)
    )
    return s, h


def _single_ratings(items: Items) -> FloatArray | None:
    """Return the ratings of items of one cell and one rater, shape (items, 1), or None."""
    ratings = [item.labels["human"] for item in items]
    if any(len(rated) != 1 for rated in ratings):
        return None
    values = as_floats("labels['human']", ratings)
    return values if values.ndim == 2 else None
