"""The metrics of a column of scores, as functions of resampled units."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

from t2v_eval.evaluation.rating_tables.names import (
    ALIASES,
    CROSS_VALIDATED,
    FITTED,
    OF_SYSTEMS,
    PER_GROUP,
    PER_TAG,
    SYSTEM,
    is_correlation,
)
from t2v_eval.evaluation.rating_tables.observations import Averaging, Members, Observations
from t2v_eval.stats.agreement_metrics import METRICS
from t2v_eval.stats.averages import Average, average
from t2v_eval.stats.bootstrap import (
    CrossValidated,
    IntArray,
    Statistic,
    TogetherStatistic,
    agreement_statistic,
)
from t2v_eval.stats.intervals import Estimate, of_clusters, share_of
from t2v_eval.stats.metrics import FloatArray
from t2v_eval.stats.paired import SUPPORTED, is_by_order, paired_agreement_statistic
from t2v_eval.stats.pairwise import Pairs
from t2v_eval.stats.permutation import (
    SwapStatistic,
    observed_differences,
    swapped_differences,
)
from t2v_eval.stats.resampling.draws import Copies
from t2v_eval.stats.resampling.joined import Each, joined
from t2v_eval.stats.separation import node_separation
from t2v_eval.utils.arrays import mean_of_known

_V = TypeVar("_V")
Part: TypeAlias = Callable[[Observations, Sequence[str], Averaging], Statistic]

LINEAR = ("plain", "weighted")  # averages of differences are differences of averages
_MAX_CELLS = 1 << 24  # a bucket of groups, padded: 128 MB of float64


def statistic_of(
    observed: Observations, names: Sequence[str], averaging: Averaging | None = None
) -> Statistic:
    """Return a function from indices of units to all metrics of their observations.

    Args:
        observed: the observations.
        names: metrics without suffixes; see `rated.names`.
        averaging: how groups and tags are averaged.

    >>> rows = Observations.of_rows(np.array([0.1, 0.4, 0.3]), np.array([[1.0], [2.0], [3.0]]))
    >>> round(statistic_of(rows, ["tau_b"])(np.arange(3))["tau_b"], 3)
    0.333
    """
    averaging = averaging or Averaging()
    return joined([part(observed, names, averaging) for part in _parts(observed)])


def paired_statistic_of(
    first: Observations,
    second: Observations,
    names: Sequence[str],
    averaging: Averaging | None = None,
) -> Statistic:
    """Return the statistic for a paired test of two columns.

    Args:
        first: the observations of the first column.
        second: those of the second, of the same rows and units.
        names: metrics without suffixes.
        averaging: how groups and tags are averaged.

    Returns:
        A function from indices of units; unit k has the scores of the first column, and unit k +
        units those of the second. Where all rows are one sample, it computes many swaps together.

    >>> from t2v_eval.stats.permutation import paired_permutation
    >>> rows = Observations.of_rows(np.arange(3.0), np.array([[1.0], [2.0], [3.0]]))
    >>> statistic = paired_statistic_of(rows, rows, ["tau_b"])  # of three rows: swap by swap
    >>> paired_permutation(statistic, 3)
    {'tau_b': 1.0}
    """
    averaging = averaging or Averaging()
    both = Observations.paired(first, second)
    metrics = {name: ALIASES.get(name, name) for name in names}
    single = len(both.unit) == both.units and bool((both.unit == np.arange(both.units)).all())
    of_samples = _parts(both) in ([_pooled], [_pooled, _over_tags]) and averaging.mean in LINEAR
    if single and of_samples and set(metrics.values()) <= SUPPORTED:
        swaps = _SwappedSamples(first, second, metrics, averaging)
        if swaps.together:
            return swaps
    return statistic_of(both, names, averaging)


class _SwappedSamples:
    """A statistic of many swaps of rows, as one sample and averaged over tags.

    Attributes:
        together: whether it computes those of all rows together.
    """

    def __init__(
        self,
        first: Observations,
        second: Observations,
        metrics: Mapping[str, str],
        averaging: Averaging,
    ) -> None:
        self._metrics, self._averaging = metrics, averaging
        self._observed, self._rows = (first, second), len(first.scores)
        a, b, ratings = first.scores, second.scores, first.ratings
        kinds = list(dict.fromkeys(metrics.values()))
        self._whole = paired_agreement_statistic(a, b, ratings, kinds)
        self.together = isinstance(self._whole, SwapStatistic)
        self._tags: list[tuple[IntArray, Statistic]] = []
        self._never: list[dict[str, bool]] = []  # whether ratings alone make a metric undefined
        known = first.known & second.known
        for mask in first.tags.values() if self.together else ():
            rows = np.flatnonzero(mask & known)
            if len(rows):
                of_tag = paired_agreement_statistic(a[rows], b[rows], ratings[rows], kinds)
                self._tags.append((rows, of_tag))
                itself = agreement_statistic(ratings[rows], ratings[rows], kinds)
                at_best = itself(np.arange(len(rows)))
                self._never.append({kind: bool(np.isnan(at_best[kind])) for kind in kinds})

    @cached_property
    def _plain(self) -> Statistic:
        both = Observations.paired(*self._observed)
        return statistic_of(both, list(self._metrics), self._averaging)

    def __call__(self, index: IntArray) -> Mapping[str, float]:
        """Return the metrics of units."""
        return self._plain(index)

    def observed(self) -> dict[str, float]:
        """Return the difference of each metric without a swap."""
        whole = observed_differences(self._whole, self._rows)
        of_tags = self._means(np.zeros((1, self._rows), bool))
        return self._named(whole) | {name: float(values[0]) for name, values in of_tags.items()}

    def differences(self, swapped: NDArray[np.bool_]) -> dict[str, FloatArray]:
        """Return the difference of each metric after each swap; see `SwapStatistic`.

        Args:
            swapped: shape (swaps, items), which items are exchanged.
        """
        return self._named(swapped_differences(self._whole, swapped)) | self._means(swapped)

    def _means(self, swapped: NDArray[np.bool_]) -> dict[str, FloatArray]:
        """Return differences of averages over tags.

        A tag where one side is undefined is not in the average of that side alone, so that such
        swaps are computed as they are.
        """
        if not self._tags:
            return {}
        of_tags = [swapped_differences(of_tag, swapped[:, rows]) for rows, of_tag in self._tags]
        weighted = self._averaging.mean == "weighted"
        weights = np.array([len(rows) if weighted else 1 for rows, _ in self._tags])[:, None]
        means, partly = {}, np.zeros(len(swapped), bool)
        for name, kind in self._metrics.items():
            values = np.array([of_tag[kind] for of_tag in of_tags])
            never = np.array([of_tag[kind] for of_tag in self._never])[:, None]
            partly |= (np.isnan(values) & ~never).any(0)
            known = np.where(never, 0, weights)
            with np.errstate(invalid="ignore"):
                mean = (np.where(never, 0, values) * known).sum(0) / known.sum(0)
            means[f"{name}{PER_TAG}"] = mean
        if partly.any():
            exact = swapped_differences(self._plain, swapped[partly])
            for name, mean in means.items():
                mean[partly] = exact[name]
        return means

    def _named(self, values: Mapping[str, _V]) -> dict[str, _V]:
        return {name: values[kind] for name, kind in self._metrics.items()}


def _parts(observed: Observations) -> list[Part]:
    parts: list[Part] = [_of_classes if observed.classes else _pooled]
    if observed.grouped and not observed.classes:
        parts.append(_within_groups)
    if observed.systems is not None:
        parts.append(_of_systems)
    if observed.nodes is not None:
        parts.append(_between_nodes)
    if observed.tags:
        parts.append(_over_tags)
    return parts


def _pooled(observed: Observations, names: Sequence[str], averaging: Averaging) -> Statistic:
    """Return the metrics of the observations of the resampled units as one sample."""
    kinds = [ALIASES.get(name, name) for name in names]
    parts = _exchanging(observed, [kind for kind in dict.fromkeys(kinds) if kind in METRICS])
    parts.append(_Shares({name: of for name, of in _right(observed).items() if name in names}))
    if any(name in FITTED or name == CROSS_VALIDATED for name in names):
        parts.append(_fitted(observed, names))
    of_rows = joined(parts)
    if isinstance(of_rows, TogetherStatistic):
        return _Together(observed, names, of_rows)
    return _Pooled(observed, names, of_rows)


class _Pooled:
    """Metrics of the observations of resampled units, as one sample."""

    def __init__(self, observed: Observations, names: Sequence[str], of_rows: Statistic) -> None:
        self._kinds = {name: ALIASES.get(name, name) for name in names}
        self._members, self._of_rows = Members(observed.unit, observed.units), of_rows

    def __call__(self, index: IntArray) -> Mapping[str, float]:
        """Return the metrics of the observations of units."""
        figures = self._named(self._of_rows(self._members.of(index)))
        return of_clusters(figures) if self._members.size.max(initial=0) > 1 else figures

    def _named(self, values: Mapping[str, _V]) -> dict[str, _V]:
        return {name: values[kind] for name, kind in self._kinds.items() if kind in values}


class _Together(_Pooled):
    """The same of a statistic that computes many resamples together."""

    def __init__(
        self, observed: Observations, names: Sequence[str], of_rows: TogetherStatistic
    ) -> None:
        super().__init__(observed, names, of_rows)
        self._unit, self._of_many = observed.unit, of_rows

    def together(self, copies: Copies) -> Mapping[str, FloatArray]:
        """Return each metric of many resamples; see `TogetherStatistic`.

        Args:
            copies: shape (units, resamples).
        """
        return self._named(self._of_many.together(copies.take(self._unit, axis=0)))


class _Shares:
    """Shares of observations that are right."""

    def __init__(self, right: Mapping[str, FloatArray]) -> None:
        self._right = right

    def __call__(self, rows: IntArray) -> Mapping[str, float]:
        """Return the share of some observations."""
        return {name: share_of(right[rows]) for name, right in self._right.items()}

    def together(self, copies: Copies) -> Mapping[str, FloatArray]:
        """Return the shares of many resamples; NaN where nothing is known.

        Args:
            copies: shape (observations, resamples).
        """
        shares = {}
        for name, right in self._right.items():
            decided = ~np.isnan(right)
            counts = copies[decided].sum(axis=0, dtype=np.float64)
            shares[name] = np.full(copies.shape[1], np.nan)
            np.divide(right[decided] @ copies[decided], counts, out=shares[name], where=counts > 0)
        return shares


def _fitted(observed: Observations, names: Sequence[str]) -> Statistic:
    """Return metrics after a fit, and those by cross-validation."""
    h, values_of = observed.ratings, observed.exchanged(False)
    fitted = [name for name in names if name in FITTED]
    validated = CrossValidated(values_of, h) if CROSS_VALIDATED in names else None

    def compute(rows: IntArray) -> Mapping[str, float]:
        figures: dict[str, float] = {
            name: FITTED[name](values_of[rows], h[rows]) for name in fitted
        }
        if validated is not None:
            figures[CROSS_VALIDATED] = Estimate(validated(rows), "pairs")
        return figures

    return compute


def _exchanging(observed: Observations, names: Sequence[str]) -> list[Statistic]:
    """Return metrics of `METRICS`, each of the scores that a paired test of it exchanges."""
    h, side = observed.ratings, observed.side
    once = h if side is None else h[side == 0]  # each is there for both columns
    ordered = [name for name in names if is_by_order(name, once[None], pooled=True)]
    return [
        agreement_statistic(observed.exchanged(by_order), h, chosen)
        for by_order, chosen in (
            ((True, ordered), (False, [name for name in names if name not in ordered]))
            if side is not None
            else ((True, names),)
        )
        if chosen
    ]


def _right(observed: Observations) -> dict[str, FloatArray]:
    """Return how right each observation is, for metrics that are shares of them."""
    s, h = observed.scores, observed.ratings
    missing = np.isnan(s)
    equal = np.where(missing, np.nan, s == h)
    return {
        "accuracy": equal,
        "pair_accuracy": np.where(missing | (h == 0), np.nan, np.sign(s) == h),
        "preference_accuracy": np.where(missing, np.nan, 1 - np.abs(np.sign(s) - h) / 2),
    }


def _of_classes(observed: Observations, names: Sequence[str], averaging: Averaging) -> Statistic:
    """Return how often the class of a score is the rated one, and the AUROC of its classes."""
    members = Members(observed.unit, observed.units)
    right = _right(observed)["accuracy"]
    rated = np.where(np.isnan(right), -1, observed.ratings).astype(np.int64)
    areas = []
    if observed.by_class is not None:
        for number, of_class in enumerate(observed.by_class.T):
            label = np.where(rated < 0, np.nan, rated == number)
            areas.append(agreement_statistic(of_class, label, ["auroc"]))

    def compute(index: IntArray) -> Mapping[str, float]:
        rows = members.of(index)
        rows = rows[rated[rows] >= 0]
        shares = [right[rows[rated[rows] == number]] for number in range(observed.classes)]
        balanced = mean_of_known(np.array([mean_of_known(part) for part in shares]))
        values = {
            "accuracy": share_of(right[rows]),
            "balanced_accuracy": Estimate(balanced, "share"),
            "auroc_macro": mean_of_known(np.array([area(rows)["auroc"] for area in areas])),
        }
        chosen = {name: values[name] for name in names}
        return of_clusters(chosen) if members.size.max(initial=0) > 1 else chosen

    return compute


def _within_groups(observed: Observations, names: Sequence[str], averaging: Averaging) -> Statistic:
    """Return averages over the resampled groups of the metric within each."""
    kinds = {name: ALIASES.get(name, name) for name in names}
    grouped = [name for name, kind in kinds.items() if kind in METRICS and METRICS[kind].in_groups]
    groups, ordered = (_Groups(observed, by_order) for by_order in (False, True))
    rows = {
        name: (ordered if METRICS[kinds[name]].by_order else groups).each(kinds[name])
        for name in grouped
        if name != "acc23"
    }
    if averaging.constant_groups == "zero":
        rows = {
            name: np.where(np.isnan(values) & (groups.used >= 2), 0.0, values)
            if is_correlation(name)
            else values
            for name, values in rows.items()
        }
    weights = groups.used.astype(np.float64)
    calibrated: Statistic | None = None
    if "acc23" in grouped and averaging.mean == "weighted":
        rows["acc23"] = groups.calibrated()
    elif "acc23" in grouped:
        calibrated = groups.recalibrated()

    def compute(index: IntArray) -> Mapping[str, float]:
        values = {
            name: average(of_groups[index], weights[index], _average(name, averaging.mean))
            for name, of_groups in rows.items()
        }
        if calibrated is not None:
            values |= dict(calibrated(index))
        return {f"{name}{PER_GROUP}": values[name] for name in grouped}

    return Each(compute)


def _average(name: str, how: Average) -> Average:
    """Return the average that fits a metric: Fisher's z is of correlations alone."""
    return how if how == "weighted" or is_correlation(name) else "plain"


class _Groups:
    """The observations of each group, in buckets of groups of similar size.

    Padding all groups to the size of the largest would need too much memory where sizes differ.
    """

    def __init__(self, observed: Observations, by_order: bool) -> None:
        complete = observed.known
        self.units = observed.units
        self.used = np.bincount(observed.unit[complete], minlength=observed.units)
        self._s, self._h = observed.exchanged(by_order)[complete], observed.ratings[complete]
        self._unit = observed.unit[complete]
        members = Members(self._unit, self.units)
        order = np.argsort(self.used, kind="stable")
        order = order[self.used[order] >= 2]
        self._buckets = [
            (groups, *self._pad(groups, members)) for groups in _buckets(order, self.used)
        ]

    def _pad(self, groups: IntArray, members: Members) -> tuple[FloatArray, FloatArray]:
        size = self.used[groups]
        mask = np.arange(int(size.max())) < size[:, None]
        index = members.of(groups)
        padded = []
        for side in (self._s, self._h):
            rows = np.full(mask.shape, np.nan)
            rows[mask] = side[index]
            padded.append(rows)
        return padded[0], padded[1]

    def each(self, kind: str) -> FloatArray:
        """Return a metric of each group, NaN where it is undefined."""
        values = np.full(self.units, np.nan)
        for groups, s, h in self._buckets:
            values[groups] = METRICS[kind].per_row(s, h)
        return values

    def calibrated(self) -> FloatArray:
        """Return the accuracy of each group at the threshold that is best for all groups."""
        pairs = Pairs.of_groups(self._s, self._h, self._unit)
        values = np.full(self.units, np.nan)
        values[np.unique(pairs.row)] = pairs.accuracies(pairs.calibrate())
        return values

    def recalibrated(self) -> Statistic:
        """Return acc23 of resampled groups, with one threshold for all of them."""
        if len(self._buckets) > 1 or not self._buckets:
            values = self.calibrated()
            return lambda index: {"acc23": mean_of_known(values[index])}
        groups, s, h = self._buckets[0]
        place = np.full(self.units, -1, np.int64)
        place[groups] = np.arange(len(groups))
        accuracy = agreement_statistic(s, h, ["acc23"])

        def compute(index: IntArray) -> Mapping[str, float]:
            places = place[index]
            return accuracy(places[places >= 0])

        return compute


def _buckets(order: IntArray, size: IntArray) -> list[IntArray]:
    """Cut groups, ordered by size, where padding them together would need too much memory."""
    if not len(order):
        return []
    if len(order) * int(size[order[-1]]) <= _MAX_CELLS:
        return [order]
    power = np.ceil(np.log2(size[order]))
    return [order[power == p] for p in np.unique(power)]


def _of_systems(observed: Observations, names: Sequence[str], averaging: Averaging) -> Statistic:
    """Return metrics of the mean score and the mean rating of each generator."""
    systems = observed.systems
    assert systems is not None
    complete = observed.known & (systems >= 0)
    s, h, system = (
        observed.exchanged(False)[complete],
        observed.ratings[complete],
        systems[complete],
    )
    unit, count = observed.unit[complete], int(systems.max(initial=-1)) + 1
    kinds = {name: ALIASES.get(name, name) for name in names}
    chosen = {name: kind for name, kind in kinds.items() if kind in OF_SYSTEMS}

    def compute(index: IntArray) -> Mapping[str, float]:
        copies = np.bincount(index, minlength=observed.units).astype(np.float64)[unit]
        size = np.bincount(system, copies, count)
        present = size > 0
        means = [
            np.bincount(system, copies * side, count)[present] / size[present] for side in (s, h)
        ]
        return {
            f"{name}{SYSTEM}": _of_few(kind, means[0], means[1]) for name, kind in chosen.items()
        }

    return Each(compute)


def _of_few(kind: str, s: FloatArray, h: FloatArray) -> float:
    """Return a metric of a handful of values; that of rows is ten times as fast as scipy's."""
    if len(s) < 2:
        return math.nan
    return float(METRICS[kind].per_row(np.stack((s, s)), np.stack((h, h)))[0])


def _between_nodes(observed: Observations, names: Sequence[str], averaging: Averaging) -> Statistic:
    """Return the separation of nodes, within each group where there are groups."""
    nodes = observed.nodes
    assert nodes is not None
    members, scores = Members(observed.unit, observed.units), observed.exchanged(True)

    def separation(rows: IntArray) -> float:
        labels = [nodes[n] for n in rows.tolist()]
        return node_separation(scores[rows], observed.ratings[rows], labels)

    if not observed.grouped:
        return Each(lambda index: {"ks": separation(members.of(index))})
    values = np.array([separation(members.of(np.array([n]))) for n in range(observed.units)])
    used = np.bincount(observed.unit[observed.known], minlength=observed.units)
    if averaging.constant_groups == "zero":
        values = np.where(np.isnan(values) & (used > 0), 0.0, values)
    weights = used.astype(np.float64)
    how = _average("ks", averaging.mean)
    return Each(lambda index: {f"ks{PER_GROUP}": average(values[index], weights[index], how)})


def _over_tags(observed: Observations, names: Sequence[str], averaging: Averaging) -> Statistic:
    """Return averages over tags of the metrics of each."""
    parts = []
    for mask in observed.tags.values():
        of_tag = observed.within(mask)
        used = np.bincount(of_tag.unit, minlength=observed.units)
        parts.append((statistic_of(of_tag, names, averaging), used.astype(np.float64)))
    over_tags = _OverTags(parts, averaging)
    if all(isinstance(of_tag, TogetherStatistic) for of_tag, _ in parts):
        return over_tags
    return over_tags.__call__


class _OverTags:
    """Averages over tags of the metrics of each."""

    def __init__(self, parts: Sequence[tuple[Statistic, FloatArray]], averaging: Averaging) -> None:
        self._parts = [of_tag for of_tag, _ in parts]
        self._used = [used for _, used in parts]
        self._averaging = averaging

    def __call__(self, index: IntArray) -> Mapping[str, float]:
        """Return the averages of units."""
        weights = [float(used[index].sum()) for used in self._used]
        return self._means([part(index) for part in self._parts], weights)

    def together(self, copies: Copies) -> Mapping[str, FloatArray]:
        """Return each average of many resamples; see `TogetherStatistic`.

        Args:
            copies: shape (units, resamples).
        """
        figures = [Each.of(part).together(copies) for part in self._parts]
        # All units as numbers would take eight times the memory of the resamples.
        weights = [used[used > 0] @ copies[used > 0] for used in self._used]
        means = [
            self._means(
                [{name: values[k] for name, values in of_tag.items()} for of_tag in figures],
                of_resample,
            )
            for k, of_resample in enumerate(np.array(weights).T.tolist())
        ]
        return {name: np.array([of_one[name] for of_one in means]) for name in means[0]}

    def _means(
        self, figures: Sequence[Mapping[str, float]], weights: Sequence[float]
    ) -> dict[str, float]:
        return {
            f"{name}{PER_TAG}": average(
                np.array([values[name] for values in figures]),
                np.array(weights),
                _average(name, self._averaging.mean),
            )
            for name in figures[0]
        }
