"""Names of the metrics of a table, and which of them its values allow.

A suffix says over what a metric is averaged, or what it is computed of; `_per_group_per_tag` is the
mean over tags of means over groups.

| suffix | the metric is |
|---|---|
| none | of all rows |
| `_per_group` | the mean over groups of the metric within each |
| `_system` | of the mean score and the mean rating of each generator |
| `_per_tag` | the mean over tags of the metric of each |
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np

from t2v_eval.errors import InputError
from t2v_eval.stats.agreement_metrics import METRICS
from t2v_eval.stats.logistic_fit import plcc_after_fit, rmse_after_fit
from t2v_eval.stats.metrics import FloatArray

PER_GROUP, SYSTEM, PER_TAG = "_per_group", "_system", "_per_tag"

ALIASES = {"srcc": "spearman", "krcc": "tau_b", "plcc": "pearson"}
"""The names that papers on image and video quality use."""

FITTED: dict[str, Callable[[FloatArray, FloatArray], float]] = {
    f"{name}_logistic{parameters}": partial(function, parameters=parameters)
    for parameters in (4, 5)
    for name, function in (("plcc", plcc_after_fit), ("rmse", rmse_after_fit))
}
"""Metrics after a logistic fit, which are reported only when they are named."""

CROSS_VALIDATED = "acc23_cv"
"""acc23 with thresholds of other rows, which is reported only when it is named."""

OF_SYSTEMS = ("pearson", "spearman", "tau_b", "acc_ignore")
"""Metrics of a handful of generators; the others need more rows than there are generators."""

CORRELATIONS = ("pearson", "spearman", "tau_b", "tau_c")

OF_PAIRS = {
    "pair_accuracy": "of the pairs that people do not tie, the share whose preferred side scores "
    "higher, 0 to 1; equal scores are wrong",
    "preference_accuracy": "as pair_accuracy over all pairs, where a choice and a tie are half "
    "right, 0 to 1",
}
OF_CLASSES = {
    "accuracy": "the share of rows whose class is the rated one, 0 to 1",
    "balanced_accuracy": "the mean over classes of the share of its rows that are right, 0 to 1",
    "auroc_macro": "the mean over classes of the area under the ROC curve of its score against all "
    "other classes, 0 to 1, guessing 0.5",
}

_PLAIN = {
    "accuracy": "the share of rows whose score equals the rating, 0 to 1",
    "ks": "the Kolmogorov-Smirnov statistic between the scores of two nodes, the mean over the "
    "pairs of nodes that people rate differently (T2IScoreScore), 0 to 1",
    CROSS_VALIDATED: "pairwise accuracy with tie calibration whose threshold is fitted to other "
    "rows (five-fold cross-validation), 0 to 1",
    "plcc": "Pearson correlation with the ratings, without a fit, -1 to 1",
    "srcc": "Spearman rank correlation with the ratings, -1 to 1",
    "krcc": "Kendall's tau-b with the ratings, -1 to 1",
}


def named(name: str) -> str:
    """Return the name of a metric in `METRICS`, where it is one, without suffixes.

    >>> named("srcc_per_group"), named("plcc_logistic4")
    ('spearman', 'plcc_logistic4')
    """
    plain = without_suffixes(name)
    return ALIASES.get(plain, plain)


def without_suffixes(name: str) -> str:
    """Return the name of a metric without what it is averaged over.

    >>> without_suffixes("tau_b_per_group_per_tag")
    'tau_b'
    """
    for suffix in (PER_TAG, PER_GROUP, SYSTEM):
        name = name.removesuffix(suffix)
    return name


def is_correlation(name: str) -> bool:
    """Return whether a metric is a correlation, which has Fisher's z.

    >>> is_correlation("krcc_per_group"), is_correlation("acc23")
    (True, False)
    """
    return named(name) in CORRELATIONS or named(name).startswith("plcc_")


def meaning(name: str) -> str:
    """Return what a metric means, with its range.

    >>> meaning("krcc_system")
    "of the mean of each generator: Kendall's tau-b with the ratings, -1 to 1"
    """
    plain = without_suffixes(name)
    if plain in FITTED:
        error = plain.startswith("rmse")
        text = f"{'root mean square error' if error else 'Pearson correlation'} after a logistic "
        text += f"fit of {plain[-1]} parameters, "
        text += "on the scale of the ratings, lower is better" if error else "-1 to 1"
    elif plain in METRICS:
        text = METRICS[plain].meaning
    else:
        text = {**OF_CLASSES, **_PLAIN, **OF_PAIRS}[plain]
    suffixes = name.removeprefix(plain)
    if suffixes.startswith(PER_GROUP):
        text = f"the mean over groups of {plain} within each"
    elif suffixes.startswith(SYSTEM):
        text = f"of the mean of each generator: {text}"
    if suffixes.endswith(PER_TAG):
        return f"the mean over tags of {name.removesuffix(PER_TAG)} of each"
    return text


def metric_names(scores: FloatArray, ratings: FloatArray, asked: Sequence[str] = ()) -> list[str]:
    """Return the metrics that scores and ratings of these values allow.

    Args:
        scores: shape (n,); NaN is missing.
        ratings: any shape; NaN is missing.
        asked: the names to choose from; by default all that need not be asked for.

    Raises:
        InputError: an asked name is none, or needs labels of 0 and 1.

    >>> "auroc" in metric_names(np.array([0.1, 0.2]), np.array([0.0, 1.0]))
    True
    >>> metric_names(np.array([0.1, 0.2]), np.array([2.0, 3.0]), ["srcc"])
    ['srcc']
    """
    labelled = _is_binary(ratings)
    names = [name for name, metric in METRICS.items() if labelled or not metric.needs_labels]
    if labelled and _is_binary(scores):
        names.append("accuracy")
    for name in asked:
        asked_for = [*FITTED, CROSS_VALIDATED]
        choices = [*METRICS, *ALIASES, *asked_for, "accuracy"]
        if name not in choices:
            raise InputError(
                f"`metrics={name!r}`: no metric is called so: use {', '.join(choices)}"
            )
        if name not in asked_for and ALIASES.get(name, name) not in names:
            raise InputError(f"`metrics={name!r}` needs ratings that are labels, 0 and 1")
    if asked and all(name.startswith("rmse") for name in asked):
        raise InputError(
            f"`metrics={asked[0]!r}` is lower for better scores: name a metric that is higher, too"
        )
    return list(dict.fromkeys(asked)) or names


def _is_binary(values: FloatArray) -> bool:
    present = values[~np.isnan(values)]
    return bool(len(present)) and bool(np.isin(present, (0.0, 1.0)).all())
