"""Why a figure of a table is missing, in words."""

from __future__ import annotations

import math

from t2v_eval.evaluation.rating_tables.names import (
    ALIASES,
    FITTED,
    PER_GROUP,
    PER_TAG,
    SYSTEM,
    is_correlation,
    without_suffixes,
)
from t2v_eval.evaluation.rating_tables.observations import Averaging, Observations
from t2v_eval.stats.agreement_metrics import METRICS
from t2v_eval.stats.bootstrap import Interval


def why_missing(
    name: str, interval: Interval, observed: Observations, averaging: Averaging, unit: str
) -> str:
    """Return why a figure or its interval is undefined; an empty text where neither is.

    Args:
        name: the metric, with suffixes.
        interval: its value and limits.
        observed: the observations that it is of.
        averaging: how groups and tags are averaged.
        unit: what is resampled, for the text.

    >>> import numpy as np
    >>> rows = Observations.of_rows(np.array([0.1, 0.4]), np.array([[1.0], [1.0]]))
    >>> nothing = Interval(math.nan, math.nan, math.nan)
    >>> why_missing("spearman", nothing, rows, Averaging(), "row")
    'all ratings are equal'
    """
    if math.isnan(interval.value):
        return _why_undefined(name, observed, averaging)
    if not math.isnan(interval.low):
        return ""
    if observed.present().units < 2:
        return f"no interval: there is only one {unit}"
    return "no interval: it is undefined in most resamples"


def _why_undefined(name: str, observed: Observations, averaging: Averaging) -> str:
    plain = without_suffixes(name)
    if observed.used < 2:
        rows = "no row has" if not observed.used else "one row alone has"
        return f"{rows} a score and a rating"
    averaged = name.endswith(PER_TAG) or PER_GROUP in name
    if averaged and averaging.mean == "fisher-z" and is_correlation(plain):
        return (
            "a part is undefined, or has a correlation of 1 or -1, whose Fisher's z is infinite: "
            "use another `mean=`"
        )
    if name.endswith(PER_TAG):
        return "it is undefined for every tag"
    if name.endswith(PER_GROUP):
        return "no group has two rows with different scores and different ratings"
    if name.endswith(SYSTEM):
        return "fewer than two generators, or their mean scores or mean ratings are equal"
    if plain == "ks":
        return "no two nodes have different ratings"
    return _why_pooled(plain, observed)


def _why_pooled(plain: str, observed: Observations) -> str:
    s, h = (side[observed.known] for side in (observed.scores, observed.ratings))
    metric = METRICS.get(ALIASES.get(plain, plain))
    if metric is not None and metric.needs_labels and (h == h[0]).all():
        return f"all labels are {h[0]:g}"
    for side, what in ((h, "ratings"), (s, "scores")):
        if (side == side[0]).all():
            return "people tie all pairs" if plain == "pair_accuracy" else f"all {what} are equal"
    if plain in FITTED:
        parameters = int(plain[-1])
        if len(s) <= parameters:
            return f"{len(s)} rows are too few to fit {parameters} parameters"
        return "no fit converges"
    return "scores or ratings differ by rounding errors alone"
